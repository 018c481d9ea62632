"""openapi.json and README.md say the same as the tables that the node is made from."""

import copy
import json
import os
import re
import subprocess

import jsonschema
import pytest

from cluster import ROOT
from node import NODE

DOCUMENT = os.path.join(ROOT, "node", "http", "openapi.json")
METHODS = ("get", "post", "put", "delete")

# No answer is one of them: for start-up, or only told as a `reason` by GET /-/peer.
NEVER_SENT = {"ok", "config", "file", "key_invalid", "tls", "network", "parse", "page_refused"}

# Sent for every address, so that no call lists it.
EVERYWHERE = {"method_not_allowed"}


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


@pytest.fixture(scope="module")
def document():
    return json.loads(read("node", "http", "openapi.json"))


def lint(path):
    linter = os.path.join(ROOT, "tests", "lib", "openapi-lint")
    return subprocess.run(
        [linter, path],
        text=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=600,
        check=False,
    )


# ---- the linter ----


def test_the_document_is_clean():
    done = lint(DOCUMENT)
    assert done.returncode == 0, done.stdout + done.stderr


def without_operation_id(document):
    del document["paths"]["/v1/leases"]["get"]["operationId"]


def same_operation_id(document):
    document["paths"]["/v1/leases"]["get"]["operationId"] = "grantLeases"


def without_answers(document):
    del document["paths"]["/v1/leases"]["get"]["responses"]


def with_a_dead_reference(document):
    document["paths"]["/v1/leases"]["get"]["responses"]["200"] = {"$ref": "#/components/nothing"}


def with_an_unknown_member(document):
    document["paths"]["/v1/leases"]["get"]["respones"] = {}


def with_an_undescribed_path_parameter(document):
    document["paths"]["/v1/leases/{lease_ref}"]["parameters"] = []


@pytest.mark.parametrize(
    "harm",
    [
        without_operation_id,
        same_operation_id,
        without_answers,
        with_a_dead_reference,
        with_an_unknown_member,
        with_an_undescribed_path_parameter,
    ],
)
def test_a_broken_document_is_not(document, tmp_path, harm):
    broken = copy.deepcopy(document)
    harm(broken)
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(broken))
    done = lint(str(path))
    assert done.returncode == 1, done.stdout + done.stderr


# ---- examples ----


def violations(document, schema, value):
    judge = jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{schema}", "components": document["components"]},
        format_checker=jsonschema.FormatChecker(),
    )
    return [error.message for error in judge.iter_errors(value)]


def test_every_example_fits_its_schema(document):
    examples = [
        (name, example)
        for name, schema in document["components"]["schemas"].items()
        for example in schema.get("examples", [])
    ]
    assert len(examples) > 25
    for name, example in examples:
        assert violations(document, name, example) == [], name


def test_a_wrong_example_would_be_found(document):
    (scope,) = document["components"]["schemas"]["Scope"]["examples"]
    assert violations(document, "Scope", {**scope, "seats": "many"})
    assert violations(document, "Scope", {**scope, "scope_ref": "render"})
    assert violations(document, "Scope", {**scope, "more": 1})


def test_it_is_of_this_version(document):
    (version,) = re.findall(r"project\(twinlease VERSION ([\d.]+)", read("CMakeLists.txt"))
    assert document["info"]["version"] == version


# ---- routes ----


def routes():
    """Rows of route.tbl: (method, path) -> its other columns."""
    row = re.compile(
        r'X\((\w+),\s*"([^"]+)",\s*(\w+),\s*([\w| ]+?),\s*(\w+),\s*"([^"]*)",' r"\s*(\w+)\)"
    )
    found = {
        (m[1].lower(), m[2]): dict(auth=m[3], roles=m[4], body=m[5], query=m[6].split())
        for m in row.finditer(read("node", "http", "route.tbl"))
    }
    assert len(found) > 25
    return found


def operations(document):
    return {
        (method, path): (operation, item.get("parameters", []))
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def resolve(document, value):
    while "$ref" in value:
        reference = value["$ref"]
        value = document
        for part in reference.removeprefix("#/").split("/"):
            value = value[part]
    return value


def test_it_describes_every_address_and_no_other(document):
    assert set(operations(document)) == set(routes())


ROLE_SCHEMES = {
    "ALLOW_ADMIN": {"adminToken"},
    "ALLOW_VIEWER": {"adminToken", "viewerToken"},
    "ALLOW_ENROL": {"adminToken", "enrolToken"},
    "ALLOW_METRICS": {"adminToken", "viewerToken", "metricsToken"},
}


def expected_schemes(route):
    if route["auth"] == "AUTH_NONE":
        return set()
    if route["auth"] == "AUTH_CLIENT_TOKEN":
        return {"clientToken"}
    if route["auth"] == "AUTH_ORIGIN":
        return {"authToken"}
    if route["auth"] == "AUTH_PEER":
        return {"peerToken"}
    schemes = set().union(*(ROLE_SCHEMES[role.strip()] for role in route["roles"].split("|")))
    schemes.add("session")
    return schemes | {None} if route["auth"] == "AUTH_ROLE_OPTIONAL" else schemes


def test_it_says_who_may_call(document):
    table = routes()
    for key, (operation, _) in operations(document).items():
        schemes = {next(iter(one), None) for one in operation["security"]}
        assert schemes == expected_schemes(table[key]), key


BODIES = {
    "BODY_NONE": set(),
    "BODY_JSON": {"application/json"},
    "BODY_JSON_OPTIONAL": {"application/json"},
    "BODY_TEXT": {"application/jose", "application/jwt", "text/plain"},
    "BODY_PEER": {"application/json"},
}


def test_it_says_what_bodies_are_taken(document):
    table = routes()
    for key, (operation, _) in operations(document).items():
        body = operation.get("requestBody", {"content": {}})
        kind = table[key]["body"]
        assert set(body["content"]) == BODIES[kind], key
        assert body.get("required", False) == (
            kind in ("BODY_JSON", "BODY_TEXT", "BODY_PEER")
        ), key


def test_it_says_what_parameters_are_taken(document):
    table = routes()
    for key, (operation, shared) in operations(document).items():
        parameters = [resolve(document, p) for p in operation.get("parameters", []) + shared]
        query = [p["name"] for p in parameters if p["in"] == "query"]
        assert sorted(query) == sorted(table[key]["query"]), key


# ---- problem codes ----


def errors():
    """Rows of err.tbl: code -> (status, may the same call succeed later, title)."""
    row = re.compile(r'X\(\w+,\s*(\d+),\s*([01]),\s*"(\w+)",\s*"([^"]+)"\)')
    found = {
        m[3]: (int(m[1]), m[2] == "1", m[4]) for m in row.finditer(read("node", "base", "err.tbl"))
    }
    assert NEVER_SENT <= set(found) and len(found) > 50
    return found


def sendable():
    return {code: row for code, row in errors().items() if code not in NEVER_SENT}


def test_it_names_every_problem_code(document):
    problem = document["components"]["schemas"]["Problem"]
    assert set(problem["properties"]["code"]["enum"]) == set(sendable())


def test_every_code_stands_under_its_status_and_with_some_call(document):
    seen, table = set(EVERYWHERE), sendable()
    for key, (operation, _) in operations(document).items():
        for status, answer in operation["responses"].items():
            codes = resolve(document, answer).get("x-problem-codes", [])
            assert bool(codes) == (int(status) >= 400), (key, status)
            for code in codes:
                assert table[code][0] == int(status), (key, status, code)
            seen.update(codes)
    assert seen == set(table)


# ---- README.md ----


def section(title):
    """The text under a heading, up to the next one of its level or above."""
    text = read("README.md")
    heading = re.search(rf"^(#+) {re.escape(title)}\n", text, re.M)
    assert heading, f"README.md has no section {title}"
    rest = text[heading.end() :]
    end = re.search(rf"^#{{1,{len(heading[1])}}} ", rest, re.M)
    return rest[: end.start()] if end else rest


def table_lines(text):
    return [line for line in text.splitlines() if line.startswith("|")]


def test_the_readme_has_the_table_of_settings():
    made = subprocess.run(
        [NODE, "--help=markdown"],
        text=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=True,
    ).stdout
    assert table_lines(section("Settings")) == made.splitlines()


def test_the_readme_has_the_table_of_problem_codes():
    rows = [
        f"| {status} | `{code}` | {title} | {'later' if retry else ''} |"
        for code, (status, retry, title) in sendable().items()
    ]
    assert table_lines(section("Errors"))[2:] == rows


def test_the_readme_names_every_address():
    calls = re.findall(r"^\| `(GET|POST|PUT|DELETE) ([^`?]+)", section("API"), re.M)
    assert {(method.lower(), path) for method, path in calls} == set(routes())
    assert len(calls) == len(set(calls))
