"""Done-when 7: openapi.json is right by the OpenAPI Initiative's own schema and by our rules, says
what the route table says, and every operation in it is called and answers as it promises."""

import copy
import json
import os
import re
import uuid

import jsonschema
import pytest

from cluster import ROOT
from node import expect
from origin import ENVIRONMENT, Origin, pkce

DOCUMENT = os.path.join(ROOT, "node/http/openapi.json")
# Debian's package openapi-specification
OFFICIAL_SCHEMA = "/usr/share/openapi-specification/schemas/v3.0/schema.json"
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


@pytest.fixture(scope="module")
def document():
    return json.loads(read(DOCUMENT))


def operations(document):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in METHODS:
                yield method.upper(), path, {
                    **operation,
                    "parameters": operation.get("parameters", []) + item.get("parameters", []),
                }


def resolve(document, node):
    while isinstance(node, dict) and "$ref" in node:
        place = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            place = place[part.replace("~1", "/").replace("~0", "~")]
        node = place
    return node


def all_refs(node):
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from all_refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from all_refs(value)


def as_3_0(node):
    """The same document in the words of OpenAPI 3.0, whose official schema Debian packages; that of
    3.1 is not to be had there. What differs in what we use: null, const, examples of schemas."""
    if isinstance(node, list):
        return [as_3_0(value) for value in node]
    if not isinstance(node, dict):
        return node
    node = {name: as_3_0(value) for name, value in node.items()}
    if isinstance(node.get("examples"), list):
        node["example"] = node.pop("examples")[0]
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if isinstance(node.get("type"), list):
        kinds = [kind for kind in node.pop("type") if kind != "null"]
        node.update({"type": kinds[0]} if len(kinds) == 1 else {}, nullable=True)
    node.get("license", {}).pop("identifier", None)
    if {"type": "null"} in node.get("oneOf", []):
        node["oneOf"] = [one for one in node["oneOf"] if one != {"type": "null"}]
        node["nullable"] = True
    return node


def official_problems(document):
    with open(OFFICIAL_SCHEMA, encoding="utf-8") as file:
        validator = jsonschema.Draft4Validator(json.load(file))
    old = {**as_3_0(document), "openapi": "3.0.3"}
    return [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}"
        for error in validator.iter_errors(old)
    ]


def validator(document, schema):
    """JSON Schema 2020-12, as OpenAPI 3.1 wants it, with the document's components in reach."""
    return jsonschema.Draft202012Validator({**schema, "components": document["components"]})


class TestDocument:
    def test_official_schema(self, document):
        assert document["openapi"].startswith("3.1.")
        assert official_problems(document) == []

    def test_the_linter_can_fail(self, document):
        broken = copy.deepcopy(document)
        next(iter(broken["paths"].values()))["get"] = {"responses": "none"}
        assert official_problems(broken)

    def test_schemas_are_schemas_and_examples_are_examples(self, document):
        for name, schema in document["components"]["schemas"].items():
            jsonschema.Draft202012Validator.check_schema(schema)
            for example in schema.get("examples", []):
                problems = list(validator(document, schema).iter_errors(example))
                assert not problems, f"{name}: {problems[0].message}"

    def test_references_lead_somewhere_and_everything_is_referred_to(self, document):
        refs = set(all_refs(document))
        for ref in refs:
            assert resolve(document, {"$ref": ref}) is not None, ref
        for kind, parts in document["components"].items():
            if kind != "securitySchemes":
                for name in parts:
                    assert f"#/components/{kind}/{name}" in refs, f"{kind}/{name} is not used"

    def test_operations_are_complete(self, document):
        ids = set()
        schemes = document["components"]["securitySchemes"]
        for method, path, operation in operations(document):
            place = f"{method} {path}"
            assert operation["operationId"] not in ids, place
            ids.add(operation["operationId"])
            assert operation.get("summary"), place
            assert "security" in operation, f"{place} does not say who may call"
            for choice in operation["security"]:
                assert set(choice) <= set(schemes), place
            codes = set(operation["responses"])
            assert any(code.startswith(("2", "3")) for code in codes), place
            in_path = set(re.findall(r"{(\w+)}", path))
            declared = [resolve(document, one) for one in operation["parameters"]]
            assert {one["name"] for one in declared if one["in"] == "path"} == in_path, place
            for code, response in operation["responses"].items():
                response = resolve(document, response)
                assert response["description"], place
                if code.startswith(("4", "5")):
                    assert "application/problem+json" in response["content"], (place, code)

    def test_same_addresses_as_the_route_table(self, document):
        rows = re.findall(r'X\((GET|POST|PUT|DELETE),\s*"([^"]+)"', read("node/http/route.tbl"))
        served = {(method, path) for method, path in rows}
        described = {(method, path) for method, path, _ in operations(document)}
        assert described == served

    def test_same_query_parameters_as_the_route_table(self, document):
        rows = re.findall(
            r'X\((GET|POST|PUT|DELETE),\s*"([^"]+)",[^"]*"([^"]*)"', read("node/http/route.tbl")
        )
        served = {(method, path): set(query.split()) for method, path, query in rows}
        for method, path, operation in operations(document):
            declared = [resolve(document, one) for one in operation["parameters"]]
            names = {one["name"] for one in declared if one["in"] == "query"}
            assert names == served[method, path], (method, path)

    def test_same_codes_as_the_error_table(self, document):
        table = read("node/base/err.tbl").split("never sent to a client")[0]
        sent = set(re.findall(r'X\(\w+,\s*\d+,\s*\d,\s*"(\w+)"', table))
        sent -= {"ok", "page_refused"}  # the latter is only a `reason` in GET /-/peer
        listed = set(document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"])
        assert sent <= listed, f"not described: {sorted(sent - listed)}"
        everything = set(re.findall(r'X\(\w+,\s*\d+,\s*\d,\s*"(\w+)"', read("node/base/err.tbl")))
        assert listed <= everything, f"unknown: {sorted(listed - everything)}"

    def test_the_readme_lists_the_same_addresses_and_codes(self, document):
        readme = read("README.md")
        for method, path, _ in operations(document):
            assert re.search(rf"`{method} {re.escape(path)}[`?]", readme), f"{method} {path}"
        for code in document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]:
            assert f"`{code}`" in readme, code


class Caller:
    """Calls one operation at a time, as the document says, on a node made for this."""

    def __init__(self, node, publisher):
        self.node, self.publisher = node, publisher
        self.text = publisher.entitlement(node, {"render": 100})
        expect(node.install(self.text), 201)
        self.origin = Origin.ready(node)

    def lease(self):
        return self.origin.acquire()["lease_ref"]

    def code(self):
        verifier, challenge = pkce()
        body = {"origin_ref": self.origin.ref, "origin_secret": self.origin.secret}
        answer = self.node.post(
            "/v1/auth/code", token=None, json={**body, "code_challenge": challenge}
        )
        return answer, verifier

    def session(self):
        return self.node.post("/-/session", token=None, json={"token": self.node.admin_token()})

    def call(self, method, path):
        special = getattr(self, "call_" + re.sub(r"\W+", "_", f"{method} {path}").strip("_"), None)
        return special() if special else self.node.call(method, path)

    def call_POST_v1_origins(self):
        body = {"candidate_origin_ref": str(uuid.uuid4()), "environment": ENVIRONMENT}
        return self.node.post("/v1/origins", token=self.node.client_token(), json=body)

    def call_POST_v1_auth_code(self):
        return self.code()[0]

    def call_POST_v1_auth_token(self):
        answer, verifier = self.code()
        body = {"auth_code": answer.json()["auth_code"], "code_verifier": verifier}
        return self.node.post("/v1/auth/token", token=None, json=body)

    def call_POST_v1_leases(self):
        return self.origin.post_leases({"feature": "render"})

    def call_GET_v1_leases(self):
        self.lease()
        return self.origin.call("GET", "/v1/leases")

    def call_DELETE_v1_leases(self):
        self.lease()
        return self.origin.call("DELETE", "/v1/leases")

    def call_PUT_v1_leases_lease_ref(self):
        return self.origin.put_lease(self.lease())

    def call_DELETE_v1_leases_lease_ref(self):
        return self.origin.delete_lease(self.lease())

    def call_POST_session(self):
        return self.session()

    def call_DELETE_session(self):
        return self.node.delete("/-/session")

    def call_GET_web_file(self):
        page = self.node.get("/-/manage", token=None).text
        return self.node.get(re.search(r'"(/-/web/[^"]+)"', page).group(1), token=None)

    def call_GET_origins(self):
        self.lease()
        return self.node.get("/-/origins?leases=true&limit=1")

    def call_GET_leases(self):
        self.lease()
        return self.node.get("/-/leases?origin=true&limit=1")

    def call_DELETE_origins_origin_ref(self):
        return self.node.delete(f"/-/origins/{Origin(self.node).enrol().ref}")

    def call_DELETE_lease_lease_ref(self):
        return self.node.delete(f"/-/lease/{self.lease()}")

    def call_DELETE_origins(self):
        """Also the caller's own."""
        answer = self.node.delete("/-/origins")
        self.origin = Origin.ready(self.node)
        return answer

    def call_POST_entitlements(self):
        return self.node.install(self.publisher.entitlement(self.node, {"another": 1}))


@pytest.fixture(scope="module")
def caller(module_nodes, publisher):
    node = module_nodes.make()
    publisher.trust(node.publishers_dir)
    return Caller(node.start(), publisher)


def described_operations():
    if not os.path.exists(DOCUMENT):
        return []
    return [
        (method, path) for method, path, _ in operations(json.loads(read("node/http/openapi.json")))
    ]


def test_the_node_serves_this_document(caller, document):
    assert caller.node.get("/-/openapi.json", token=None).json() == document


# What only two nodes can answer: test_pair_api.py calls these.
OF_A_PAIR = {"/-/peer/retire", "/-/peer/drain", "/-/peer/resume", "/-/ha/hello", "/-/ha/changes"}
OF_A_PAIR |= {"/-/ha/credits"}


def operations_of_one_node():
    return [(method, path) for method, path in described_operations() if path not in OF_A_PAIR]


@pytest.mark.parametrize("method,path", operations_of_one_node())
def test_every_operation_answers_as_described(caller, document, method, path):
    operation = document["paths"][path][method.lower()]
    answer = caller.call(method, path)
    described = resolve(document, operation["responses"][str(answer.status_code)])
    assert answer.status_code < 400, answer.text
    content = {kind.split(";")[0]: what for kind, what in described.get("content", {}).items()}
    if not content:
        assert answer.content == b""
        return
    kind = answer.headers["Content-Type"].split(";")[0]
    assert kind in content, f"{kind} is not described"
    if kind == "application/json":
        validator(document, content[kind]["schema"]).validate(answer.json())
        assert_no_more_than_described(document, content[kind]["schema"], answer.json(), path)


def assert_no_more_than_described(document, schema, value, place):
    """Every member of an answer stands in its description (where that lists members at all)."""
    schema = resolve(document, schema)
    choices = schema.get("allOf", []) + schema.get("oneOf", []) + schema.get("anyOf", [])
    parts = [resolve(document, part) for part in choices] + [schema]
    if isinstance(value, dict):
        known = {}
        for part in parts:
            known.update(part.get("properties", {}))
        if not known or any(part.get("additionalProperties") for part in parts):
            return
        for name, member in value.items():
            assert name in known, f"{place}: member {name} is not described"
            assert_no_more_than_described(document, known[name], member, f"{place}.{name}")
    elif isinstance(value, list) and "items" in schema:
        for member in value:
            assert_no_more_than_described(document, schema["items"], member, f"{place}[]")


@pytest.mark.parametrize("method,path", described_operations())
def test_every_operation_asks_who_is_calling(caller, document, method, path):
    """Without any token: 401 where the document demands one; and never a change."""
    operation = document["paths"][path][method.lower()]
    answer = caller.node.call(
        method, re.sub(r"{\w+}", str(uuid.uuid4()), path), token=None, data=None
    )
    needs_token = operation["security"] and {} not in operation["security"]
    if needs_token:
        assert answer.status_code == 401, answer.text
        assert answer.json()["code"] == "token_missing"
    else:
        assert answer.status_code != 401 or path == "/-/session", answer.text
