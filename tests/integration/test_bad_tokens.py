"""Tokens that must not open any door: one table for the client API, one for the operator's."""

import json
import time
import uuid

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import jose
from node import expect, expect_problem
from origin import ENVIRONMENT, Origin
from tls import pem_public


def instance_private_key(node):
    with open(f"{node.state_dir}/instance.private.pem", "rb") as file:
        return load_pem_private_key(file.read(), None)


def confused(node, token):
    """HS/RS confusion (RFC 8725 §2.1): HMAC with the public key's PEM as the secret."""
    key = instance_private_key(node).public_key()
    return jose.assemble(
        {**jose.header_of(token), "alg": "HS256"}, jose.payload_of(token), pem_public(key)
    )


def variants(node, token):
    """Wrong tokens made from a right one, by name."""
    header, payload, signature = token.split(".")
    head, body = jose.header_of(token), jose.payload_of(token)
    now = int(time.time())
    stranger = jose.make_key("ec")
    later = jose.encode(json.dumps({**body, "exp": now + 10**9}).encode())
    return {
        "empty": "",
        "garbage": "garbage",
        "dots": "..",
        "four parts": token + ".x",
        "two parts": f"{header}.{payload}",
        "no signature": f"{header}.{payload}.",
        "changed header": jose.changed_byte(token, 5),
        "changed payload": jose.changed_byte(token, len(header) + 9),
        "changed signature": jose.changed_byte(token, len(token) - 20),
        "short signature": token[:-8],
        "long signature": token + "AAAA",
        "padding": token + "=",
        "standard base64": f"{header}.{payload}.+/{signature[2:]}",
        "alg none": jose.assemble({**head, "alg": "none"}, body, None),
        "alg None": jose.assemble({**head, "alg": "None"}, body, None),
        "alg none with signature": jose.assemble({**head, "alg": "none"}, body, b"x"),
        "no alg": jose.assemble({k: v for k, v in head.items() if k != "alg"}, body, b"x"),
        "alg list": jose.assemble({**head, "alg": [head["alg"]]}, body, b"x"),
        "hmac with public key": confused(node, token),
        "hmac with empty key": jose.assemble({**head, "alg": "HS256"}, body, b""),
        "stranger's key": jose.assemble({**head, "alg": "ES256"}, body, stranger),
        "stranger's key under its own kid": jose.sign(stranger, head["typ"], body),
        "stranger's key embedded": jose.sign(
            stranger, head["typ"], body, jwk=jose.jwk(stranger.public_key())
        ),
        "jku": jose.sign(stranger, head["typ"], body, jku="https://localhost/jwks"),
        "r and s zero": f"{header}.{payload}.{jose.encode(bytes(64))}",
        "member twice": ".".join(
            [jose.encode(b'{"alg":"none",' + jose.decode(header)[1:]), payload, signature]
        ),
        "exp in the far future": ".".join([header, later, signature]),
        "kid with a path": jose.assemble({**head, "kid": "../../etc/passwd"}, body, stranger),
        "kid of a megabyte": "A" * 20000 + token,
        "deep header": jose.encode(b'{"a":' * 500 + b"1" + b"}" * 500) + f".{payload}.{signature}",
    }


NAMES = [
    "empty",
    "garbage",
    "dots",
    "four parts",
    "two parts",
    "no signature",
    "changed header",
    "changed payload",
    "changed signature",
    "short signature",
    "long signature",
    "padding",
    "standard base64",
    "alg none",
    "alg None",
    "alg none with signature",
    "no alg",
    "alg list",
    "hmac with public key",
    "hmac with empty key",
    "stranger's key",
    "stranger's key under its own kid",
    "stranger's key embedded",
    "jku",
    "r and s zero",
    "member twice",
    "exp in the far future",
    "kid with a path",
    "kid of a megabyte",
    "deep header",
]


@pytest.fixture(scope="module")
def actors(shared_node):
    """One origin with a lease, and every kind of token there is."""
    origin = Origin.ready(shared_node)
    lease = origin.acquire()
    return {
        "origin": origin,
        "lease": lease,
        "tokens": {
            "auth": origin.token,
            "lease": lease["lease_token"],
            "client": shared_node.client_token(),
            "admin": shared_node.admin_token(),
            "instance": shared_node.get("/-/instance-token").text.strip(),
            "entitlement": lease["entitlement"],
        },
    }


def test_table_is_complete(shared_node, actors):
    assert list(variants(shared_node, actors["tokens"]["auth"])) == NAMES


def refused(answer, statuses=(400, 401, 403)):
    assert answer.status_code in statuses, f"{answer.status_code}: {answer.text}"
    if answer.headers.get("Content-Type") == "application/problem+json":
        assert answer.json()["code"] not in ("internal", "bad_json"), answer.text
    return answer


@pytest.mark.parametrize("name", NAMES)
def test_wrong_auth_tokens(shared_node, actors, name):
    token = variants(shared_node, actors["tokens"]["auth"])[name]
    for method, path in (("GET", "/v1/leases"), ("DELETE", "/v1/leases")):
        refused(shared_node.call(method, path, token=token))
    refused(
        shared_node.post(
            "/v1/leases", token=token, json={"lease_request_list": [{"feature": "render"}]}
        )
    )
    assert len(actors["origin"].leases()) == 1


@pytest.mark.parametrize("name", NAMES)
def test_wrong_client_tokens(shared_node, actors, name):
    token = variants(shared_node, actors["tokens"]["client"])[name]
    before = len(shared_node.origins())
    refused(
        shared_node.post(
            "/v1/origins",
            token=token,
            json={"candidate_origin_ref": str(uuid.uuid4()), "environment": ENVIRONMENT},
        )
    )
    assert len(shared_node.origins()) == before


@pytest.mark.parametrize("name", [n for n in NAMES if n != "empty"])
def test_wrong_lease_tokens(shared_node, actors, name):
    """In the body of a renewal; the lease itself is known, and stays as it is."""
    lease = actors["lease"]
    token = variants(shared_node, lease["lease_token"])[name]
    answer = actors["origin"].put_lease(lease["lease_ref"], lease_token=token)
    refused(answer)
    refused(actors["origin"].delete_lease(lease["lease_ref"], lease_token=token))
    assert [one["expires"] for one in actors["origin"].leases()] == [lease["expires"]]


@pytest.mark.parametrize("name", NAMES)
def test_wrong_admin_tokens(shared_node, actors, name):
    token = variants(shared_node, actors["tokens"]["auth"])[name]
    for path in ("/-/config", "/-/leases", "/-/origins", "/-/entitlements", "/-/client-token"):
        refused(shared_node.get(path, token=token))


@pytest.mark.parametrize("kind", ["lease", "client", "admin", "instance", "entitlement"])
def test_wrong_purpose_for_the_client_api(shared_node, actors, kind):
    answer = shared_node.get("/v1/leases", token=actors["tokens"][kind])
    refused(answer, (401, 403))
    if kind in ("lease", "client", "instance"):
        assert answer.json()["code"] in ("token_wrong_purpose", "token_invalid"), answer.text


@pytest.mark.parametrize("kind", ["auth", "lease", "admin", "instance", "entitlement"])
def test_wrong_purpose_for_enrolment(shared_node, actors, kind):
    refused(
        shared_node.post(
            "/v1/origins",
            token=actors["tokens"][kind],
            json={"candidate_origin_ref": str(uuid.uuid4()), "environment": ENVIRONMENT},
        ),
        (401, 403),
    )


@pytest.mark.parametrize("kind", ["auth", "lease", "client", "instance", "entitlement"])
def test_wrong_purpose_for_operators(shared_node, actors, kind):
    refused(shared_node.get("/-/leases", token=actors["tokens"][kind]), (401, 403))
    refused(shared_node.delete("/-/origins", token=actors["tokens"][kind]), (401, 403))
    assert len(actors["origin"].leases()) == 1


def test_missing_token(shared_node):
    answer = shared_node.get("/v1/leases", token=None)
    expect_problem(answer, 401, "token_missing")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    expect_problem(shared_node.get("/-/leases", token=None), 401, "token_missing")


@pytest.mark.parametrize(
    "value", ["Basic YTpi", "Bearer", "Bearer ", "bearer", "Token x", "Bearer a b"]
)
def test_authorization_header_of_another_form(shared_node, value):
    answer = shared_node.get("/v1/leases", token=None, headers={"Authorization": value})
    refused(answer, (400, 401))


def test_tokens_of_another_instance(nodes, shared_node, actors, publisher):
    """Another instance's tokens are foreign here, whether it has its own key or shares ours."""
    other = nodes.make(INSTANCE_REF=str(uuid.uuid4()))
    publisher.trust(other.publishers_dir)
    other.start()
    foreign = Origin.ready(other)
    refused(shared_node.get("/v1/leases", token=foreign.token), (401, 403))
    same_key = nodes.make(
        INSTANCE_REF=str(uuid.uuid4()),
        INSTANCE_KEY_RSA=f"{shared_node.state_dir}/instance.private.pem",
        INSTANCE_KEY_PUB=f"{shared_node.state_dir}/instance.public.pem",
    )
    publisher.trust(same_key.publishers_dir)
    same_key.start()
    foreign = Origin.ready(same_key)
    answer = shared_node.get("/v1/leases", token=foreign.token)
    expect_problem(answer, 403, "token_wrong_instance")
    expect(same_key.install(publisher.entitlement(same_key, {"render": 1})), 201)
    lease = foreign.acquire()
    answer = actors["origin"].put_lease(
        actors["lease"]["lease_ref"], lease_token=lease["lease_token"]
    )
    expect_problem(answer, 403, "token_wrong_instance")


def test_expired_client_token(shared_node):
    """Signed by the instance's real key, but its time is over."""
    token = shared_node.client_token()
    claims = {
        **jose.payload_of(token),
        "iat": int(time.time()) - 200,
        "nbf": int(time.time()) - 200,
        "exp": int(time.time()) - 100,
    }
    expired = jose.sign(instance_private_key(shared_node), "client+jwt", claims)
    answer = Origin(shared_node).post_origin(expired)
    expect_problem(answer, 401, "token_expired")


def test_expired_lease_token_does_not_revive(node, with_seats, origin):
    """A token of an unknown lease whose time is over is no knowledge (R4: only if c < exp)."""
    with_seats(1)
    lease = origin.acquire(duration_seconds=600)
    claims = {
        **jose.payload_of(lease["lease_token"]),
        "jti": str(uuid.uuid4()),
        "home": str(uuid.uuid4()),
        "iat": int(time.time()) - 200,
        "nbf": int(time.time()) - 200,
        "exp": int(time.time()) - 100,
    }
    for name in ("expires_ms", "created_ms"):
        if name in claims:
            claims[name] = (int(time.time()) - 200 + (100 if name == "expires_ms" else 0)) * 1000
    old = jose.sign(instance_private_key(node), "lease+jwt", claims)
    answer = origin.put_lease(claims["jti"], lease_token=old)
    assert answer.status_code in (401, 404, 410), answer.text
    assert len(origin.leases()) == 1


def test_a_token_of_ours_with_absurd_claims(node, with_seats, origin):
    """Even a validly signed token is judged: nothing may be adopted that could never have been
    granted, and the node lives."""
    with_seats(1)
    lease = origin.acquire(duration_seconds=600)
    key = instance_private_key(node)
    good = jose.payload_of(lease["lease_token"])
    for change in (
        {"count": 0},
        {"count": -1},
        {"count": 2**63},
        {"count": "1"},
        {"exp": 2**63},
        {"exp": "later"},
        {"exp": -1},
        {"scope_ref": "x"},
        {"scope_ref": str(uuid.uuid4())},
        {"home": "x"},
        {"sub": 7},
        {"jti": None},
        {"expires_ms": 2**62},
        {"duration_ms": -5},
        {"adopt": "yes"},
    ):
        claims = {**good, "jti": str(uuid.uuid4()), "home": str(uuid.uuid4()), **change}
        answer = origin.put_lease(
            claims["jti"] or str(uuid.uuid4()), lease_token=jose.sign(key, "lease+jwt", claims)
        )
        assert 400 <= answer.status_code < 500, (change, answer.text)
    assert [one["lease_ref"] for one in origin.leases()] == [lease["lease_ref"]]
