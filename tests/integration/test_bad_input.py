"""Requests that cannot be understood: each gets its own clear refusal, and nothing is half done."""

import contextlib
import json
import socket
import ssl
import uuid

import pytest
import requests

from node import expect, expect_problem
from origin import ENVIRONMENT, Origin

JSON = {"Content-Type": "application/json"}
GRANT = {"lease_request_list": [{"feature": "render"}]}

# body -> status and code, for POST /v1/leases
BODIES = {
    "empty": (b"", 400, None),
    "not json": (b"lease please", 400, "bad_json"),
    "half": (b'{"lease_request_list":[', 400, "bad_json"),
    "two values": (b"{} {}", 400, "bad_json"),
    "trailing comma": (b'{"lease_request_list":[{"feature":"render"},]}', 400, "bad_json"),
    "comment": (b'{/* */"lease_request_list":[{"feature":"render"}]}', 400, "bad_json"),
    "single quotes": (b"{'lease_request_list':[{'feature':'render'}]}", 400, "bad_json"),
    "byte order mark": (b"\xef\xbb\xbf" + json.dumps(GRANT).encode(), 400, "bad_json"),
    "utf-16": (json.dumps(GRANT).encode("utf-16"), 400, "bad_json"),
    "bad utf-8": (b'{"lease_request_list":[{"feature":"\xff\xfe"}]}', 400, "bad_json"),
    "overlong utf-8": (b'{"lease_request_list":[{"feature":"\xc0\xaf"}]}', 400, "bad_json"),
    "surrogate in utf-8": (b'{"lease_request_list":[{"feature":"\xed\xa0\x80"}]}', 400, "bad_json"),
    "nul": (b'{"lease_request_list":[{"feature":"ren\x00der"}]}', 400, "bad_json"),
    "control character": (b'{"lease_request_list":[{"feature":"a\nb"}]}', 400, "bad_json"),
    "nan": (b'{"lease_request_list":[{"feature":"render","count":NaN}]}', 400, "bad_json"),
    "infinity": (
        b'{"lease_request_list":[{"feature":"render","count":Infinity}]}',
        400,
        "bad_json",
    ),
    "deep lists": (b'{"lease_request_list":' + b"[" * 10000 + b"]" * 10000 + b"}", 400, "bad_json"),
    "deep objects": (b'{"a":' * 5000 + b"1" + b"}" * 5000, 400, "bad_json"),
    "member twice": (
        b'{"lease_request_list":[],"lease_request_list":[{"feature":"render"}]}',
        400,
        None,
    ),
    "a list": (b"[]", 400, None),
    "a number": (b"7", 400, None),
    "null": (b"null", 400, None),
    "no member": (b"{}", 400, "missing_field"),
    "unknown member": (
        b'{"lease_request_list":[{"feature":"render"}],"x":1}',
        400,
        "unknown_field",
    ),
    "misspelt member": (
        b'{"lease_request_list":[{"feature":"render","Count":1}]}',
        400,
        "unknown_field",
    ),
    "list is an object": (b'{"lease_request_list":{}}', 400, "bad_field"),
    "list is null": (b'{"lease_request_list":null}', 400, None),
    "list is empty": (b'{"lease_request_list":[]}', 400, None),
    "item is a text": (b'{"lease_request_list":["render"]}', 400, "bad_field"),
    "item is empty": (b'{"lease_request_list":[{}]}', 400, "missing_field"),
    "feature is a number": (b'{"lease_request_list":[{"feature":7}]}', 400, "bad_field"),
    "feature is empty": (b'{"lease_request_list":[{"feature":""}]}', 400, None),
    "feature has an escaped nul": (
        b'{"lease_request_list":[{"feature":"render\\u0000x"}]}',
        400,
        None,
    ),
    "lone surrogate": (b'{"lease_request_list":[{"feature":"\\ud800"}]}', 400, None),
    "scope is no uuid": (b'{"lease_request_list":[{"scope_ref":"render"}]}', 400, "bad_field"),
    "both scope and feature": (
        json.dumps(
            {"lease_request_list": [{"feature": "render", "scope_ref": str(uuid.uuid4())}]}
        ).encode(),
        400,
        None,
    ),
    "count is a text": (
        b'{"lease_request_list":[{"feature":"render","count":"1"}]}',
        400,
        "bad_field",
    ),
    "count is a fraction": (
        b'{"lease_request_list":[{"feature":"render","count":1.5}]}',
        400,
        "bad_field",
    ),
    "count is true": (
        b'{"lease_request_list":[{"feature":"render","count":true}]}',
        400,
        "bad_field",
    ),
    "count is huge": (b'{"lease_request_list":[{"feature":"render","count":1e400}]}', 400, None),
    "count beyond 64 bits": (
        b'{"lease_request_list":[{"feature":"render","count":99999999999999999999}]}',
        400,
        None,
    ),
    "count is 0": (
        b'{"lease_request_list":[{"feature":"render","count":0}]}',
        400,
        "count_out_of_range",
    ),
    "reference is no uuid": (
        b'{"lease_request_list":[{"feature":"render","candidate_lease_ref":"x"}]}',
        400,
        "bad_field",
    ),
    "both lists": (
        json.dumps({**GRANT, "scope_ref_list": [str(uuid.uuid4())]}).encode(),
        400,
        None,
    ),
    "too many items": (
        json.dumps({"lease_request_list": [{"feature": "render"}] * 65}).encode(),
        400,
        "too_many_items",
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_of_a_grant(shared_node, shared_origin, name):
    body, status, code = BODIES[name]
    answer = shared_origin.call("POST", "/v1/leases", data=body, headers=JSON)
    assert answer.status_code == status, answer.text
    problem = expect_problem(answer, status, code or answer.json()["code"])
    assert problem["code"] not in ("internal", "not_found"), problem
    assert problem.get("detail"), "the refusal does not say why"
    assert shared_origin.leases() == []


def test_uuids_have_one_spelling_but_either_case(shared_node, shared_origin):
    """RFC 9562: read in either case, written in lower case."""
    ref = str(uuid.uuid4())
    item = {"feature": "render", "candidate_lease_ref": ref.upper()}
    answer = shared_origin.post_leases(item)
    if answer.status_code == 201:
        assert answer.json()["lease_result_list"][0]["lease_ref"] == ref
        again = shared_origin.acquire(status=200, candidate_lease_ref=ref)
        assert again["lease_ref"] == ref
    else:
        expect_problem(answer, 400, "bad_field")


def test_unknown_fields_in_an_environment_are_kept(shared_node):
    """An environment is the client's own description; what else it says is stored as it is."""
    environment = {**ENVIRONMENT, "container": {"runtime": "podman", "nested": [1, 2, {"x": None}]}}
    body = expect(
        Origin(shared_node).post_origin(shared_node.client_token(), environment=environment), 201
    )
    assert body["environment"] == environment


WRONG_ORIGINS = {
    "reference no uuid": {"candidate_origin_ref": "render-17", "environment": ENVIRONMENT},
    "reference a number": {"candidate_origin_ref": 17, "environment": ENVIRONMENT},
    "environment a text": {"candidate_origin_ref": str(uuid.uuid4()), "environment": "x"},
    "environment a list": {"candidate_origin_ref": str(uuid.uuid4()), "environment": []},
    "secret a number": {
        "candidate_origin_ref": str(uuid.uuid4()),
        "environment": ENVIRONMENT,
        "origin_secret": 7,
    },
    "unknown field": {
        "candidate_origin_ref": str(uuid.uuid4()),
        "environment": ENVIRONMENT,
        "origin_ref": str(uuid.uuid4()),
    },
}


@pytest.mark.parametrize("name", WRONG_ORIGINS)
def test_bodies_of_an_enrolment(shared_node, name):
    before = len(shared_node.origins())
    answer = shared_node.post(
        "/v1/origins", token=shared_node.client_token(), json=WRONG_ORIGINS[name]
    )
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] in ("missing_field", "bad_field", "unknown_field"), answer.text
    assert len(shared_node.origins()) == before


@pytest.mark.parametrize("path", ["/v1/auth/code", "/v1/auth/token"])
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"x": 1},
        {"auth_code": 1, "code_verifier": 2},
        {"origin_ref": 1, "origin_secret": 2, "code_challenge": 3},
        {"auth_code": "x" * 5000, "code_verifier": "y" * 43},
    ],
)
def test_bodies_of_authentication(shared_node, path, body):
    answer = shared_node.post(path, token=None, json=body)
    assert answer.status_code in (400, 401), answer.text
    assert answer.json()["code"] != "internal"


def test_body_too_large(shared_node, shared_origin):
    body = b'{"lease_request_list":[{"feature":"' + b"x" * 70000 + b'"}]}'
    expect_problem(
        shared_origin.call("POST", "/v1/leases", data=body, headers=JSON), 413, "body_too_large"
    )
    assert shared_node.get("/-/ready", token=None).status_code == 200


def test_chunked_body_too_large(shared_node, shared_origin):
    """Without Content-Length the limit holds as well. The node may answer before all is sent."""

    def chunks():
        for _ in range(64):
            yield b"x" * 65536

    try:
        answer = shared_origin.call("POST", "/v1/leases", data=chunks(), headers=JSON)
        assert answer.status_code == 413, answer.text
    except requests.ConnectionError:
        pass  # closed while we were still sending: also a refusal
    assert shared_node.get("/-/ready", token=None).status_code == 200
    assert Origin.ready(shared_node).leases() == []


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/xml",
        "application/jsonx",
        "multipart/form-data",
        "json",
    ],
)
def test_wrong_content_type(shared_origin, kind):
    headers = {} if kind is None else {"Content-Type": kind}
    answer = shared_origin.call(
        "POST", "/v1/leases", data=json.dumps(GRANT).encode(), headers=headers
    )
    expect_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/json;charset=UTF-8",
    ],
)
def test_right_content_type(shared_origin, kind):
    answer = shared_origin.call(
        "POST", "/v1/leases", data=json.dumps(GRANT).encode(), headers={"Content-Type": kind}
    )
    expect(answer, 201)


def test_wrong_content_type_of_an_entitlement(shared_node):
    answer = shared_node.post("/-/entitlements", data=b"{}", headers=JSON)
    expect_problem(answer, 415, "unsupported_media_type")


UNKNOWN = [
    "/nothing",
    "/v1",
    "/v1/",
    "/v2/leases",
    "/v1/leases/",
    "/v1/leases/a/b",
    "/-",
    "/-/",
    "/-/nothing",
    "//v1/leases",
    "/v1//leases",
    "/v1/./leases",
    "/v1/x/../leases",
    "/v1%2fleases",
    "/-/web/..%2fmain.c",
    "/-/web/../config",
    "/-/web/nothing.js",
    "/.well-known/",
    "/v1/leases%00",
    "/" + "x" * 3000,
]


@pytest.mark.parametrize("path", UNKNOWN, ids=lambda p: p[:24])
def test_unknown_routes(shared_node, path):
    """The request line goes out as it stands here: requests would tidy it up."""
    status, headers, body = raw_request(
        shared_node,
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {shared_node.admin_token()}\r\n"
        "Connection: close\r\n\r\n",
    )
    assert status in (400, 404), (status, body[:300])
    if status == 404:
        assert json.loads(body)["code"] == "not_found"
        assert headers["content-type"] == "application/problem+json"


WRONG_METHODS = {
    "/v1/origins": {"POST"},
    "/v1/auth/code": {"POST"},
    "/v1/auth/token": {"POST"},
    "/v1/leases": {"POST", "GET", "DELETE"},
    "/v1/leases/" + str(uuid.UUID(int=0)): {"PUT", "DELETE"},
    "/.well-known/jwks.json": {"GET"},
    "/-/health": {"GET"},
    "/-/ready": {"GET"},
    "/-/config": {"GET"},
    "/-/origins": {"GET", "DELETE"},
    "/-/leases": {"GET"},
    "/-/leases/expired": {"DELETE"},
    "/-/entitlements": {"GET", "POST"},
    "/-/client-token": {"GET"},
}


@pytest.mark.parametrize("path", WRONG_METHODS, ids=lambda p: p[:24])
def test_wrong_methods_are_told_the_right_ones(shared_node, path):
    right = WRONG_METHODS[path]
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "BREW"} - right:
        answer = shared_node.call(method, path)
        expect_problem(answer, 405, "method_not_allowed")
        allowed = {name.strip() for name in answer.headers["Allow"].split(",")}
        assert right <= allowed <= right | {"HEAD", "OPTIONS"}, (method, allowed)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=-1",
        "limit=x",
        "limit=10001",
        "limit=1&limit=2",
        "limit=99999999999999999999",
        "after=x",
        "origin=maybe",
        "nothing=1",
        "limit=%zz",
        "limit=%00",
        "state=sleeping",
    ],
)
def test_wrong_query_parameters(shared_node, query):
    answer = shared_node.get(f"/-/leases?{query}")
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] in (
        "bad_field",
        "unknown_field",
        "bad_request",
        "duplicate_reference",
    ), answer.text


@pytest.mark.parametrize(
    "query",
    [
        "scope=x",
        "expire_days=0",
        "expire_days=-1",
        "expire_days=x",
        "expire_days=1000000",
        "expires=1",
    ],
)
def test_wrong_parameters_of_a_client_token(shared_node, query):
    answer = shared_node.get(f"/-/client-token?{query}")
    assert answer.status_code in (400, 404), answer.text


def test_path_parameters(shared_node, shared_origin):
    for ref in ("x", "0" * 36, str(uuid.uuid4()) + "0", "%00", "'; DROP TABLE leases; --"):
        for method in ("PUT", "DELETE"):
            answer = shared_origin.call(method, f"/v1/leases/{ref}")
            assert answer.status_code in (400, 404), (ref, answer.text)
        for path in (f"/-/lease/{ref}", f"/-/origins/{ref}"):
            answer = shared_node.delete(path)
            assert answer.status_code in (400, 404), (path, answer.text)


def raw_request(node, text, timeout=20):
    """Sends exactly these bytes over TLS; returns status, headers (names in lower case) and
    body."""
    data = raw_exchange(node, text.encode() if isinstance(text, str) else text, timeout)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(lines[0].split(" ")[1]), headers, body


def raw_exchange(node, data, timeout=20, alpn=None):
    """Sends the bytes and reads until the node closes, or says nothing for `timeout` seconds."""
    context = ssl.create_default_context(cafile=node.ca_file)
    if alpn:
        context.set_alpn_protocols(alpn)
    received = b""
    with socket.create_connection(("127.0.0.1", node.port), timeout) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            with contextlib.suppress(OSError):  # it may answer and close before it has read all
                connection.sendall(data)
            try:
                while chunk := connection.recv(65536):
                    received += chunk
            except (TimeoutError, ConnectionResetError, ssl.SSLError):
                pass
    return received


CODE = b"POST /v1/auth/code HTTP/1.1\r\nHost: localhost\r\n"

RAW = {
    "no http": b"hello\r\n\r\n",
    "no version": b"GET /-/health\r\n\r\n",
    "bad version": b"GET /-/health HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "no host": b"GET /-/health HTTP/1.1\r\nConnection: close\r\n\r\n",
    "nul in the path": b"GET /-/\x00health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "header without colon": b"GET /-/health HTTP/1.1\r\nHost localhost\r\n\r\n",
    "many headers": b"GET /-/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    + b"".join(b"X-%d: y\r\n" % n for n in range(500))
    + b"\r\n",
    "a header of 500 KB": b"GET /-/health HTTP/1.1\r\nHost: localhost\r\nX: "
    + b"y" * 500000
    + b"\r\n\r\n",
    "negative length": CODE + b"Content-Length: -1\r\n\r\n",
    "absurd length": CODE + b"Content-Length: 99999999999999999999\r\n\r\n",
    "length no number": CODE + b"Content-Length: x\r\n\r\n",
    "bad chunk": CODE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "unknown encoding": CODE + b"Transfer-Encoding: gzip\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("name", RAW)
def test_requests_that_are_no_http(shared_node, name):
    data = raw_exchange(shared_node, RAW[name], timeout=3)
    if data:
        status = int(data.split(b" ")[1])
        assert 200 <= status < 500, data[:300]
        if name not in ("no host", "many headers", "no version"):
            assert status != 200, data[:300]
    assert shared_node.get("/-/ready", token=None).status_code == 200
