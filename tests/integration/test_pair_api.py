"""What the other node may ask, byte by byte: who says what to whom, fresh, about which body. The
test speaks as the other node does, with the instance key."""

import hashlib
import json
import os
import secrets
import time
import uuid

import jsonschema
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import jose
from cluster import ROOT
from node import expect, expect_problem
from pair import health, peer, scope

TOKEN = "Twinlease-Peer"
CHANGES = "/-/ha/changes?since=0"
PURPOSES = {
    ("GET", "/-/ha/hello"): "hello",
    ("POST", "/-/ha/hello"): "meet",
    ("GET", "/-/ha/changes"): "changes",
    ("POST", "/-/ha/credits"): "credits",
}


def sha256(data):
    return jose.encode(hashlib.sha256(data).digest())


def fresh():
    return jose.encode(secrets.token_bytes(16))


def instance_key_of(node):
    with open(node.settings["INSTANCE_KEY_RSA"], "rb") as file:
        return load_pem_private_key(file.read(), None)


class Voice:
    """Speaks to `node` as its partner does."""

    def __init__(self, node, other):
        self.node, self.key = node, instance_key_of(node)
        self.own, self.peer = (health(one)["node_ref"] for one in (other, node))
        self.nonce = fresh()
        self.nonce = expect(self.ask("GET", "/-/ha/hello"), 200)["nonce"]

    def claims(self, method, target, body):
        return {
            "iss": self.node.instance_ref,
            "sub": self.own,
            "aud": self.peer,
            "purpose": PURPOSES[method, target.partition("?")[0]],
            "answer": False,
            "exp": int(time.time()) + 30,
            "nonce": self.nonce,
            "jti": fresh(),
            "body": sha256(body),
            "target": target,
        }

    def ask(self, method, path, data=b"", key=None, typ="peer+jwt", headers=None, **change):
        """`change` is put into the token's claims; None takes one out."""
        claims = {**self.claims(method, path, data), **change}
        claims = {name: value for name, value in claims.items() if value is not None}
        return self.send(method, path, data, jose.sign(key or self.key, typ, claims), headers)

    def send(self, method, target, body, token, headers=None):
        headers = {TOKEN: token, **(headers or {})}
        if body:
            headers["Content-Type"] = "application/json"
        return self.node.call(method, target, token=None, headers=headers, data=body or None)

    def credits(self, scope_ref, count, **change):
        body = json.dumps({"scope_ref": scope_ref, "count": count}).encode()
        return self.ask("POST", "/-/ha/credits", body, **change)


@pytest.fixture(scope="module")
def pair(shared_pair):
    return shared_pair


@pytest.fixture(scope="module")
def voice(pair):
    return Voice(pair.primary, pair.secondary)


def is_signed(voice, answer, target, purpose):
    """The answer says for whom it is, to what request, and has its body's hash."""
    said = jose.payload_of(answer.headers[TOKEN])
    assert said["answer"] is True and said["purpose"] == purpose
    assert (said["sub"], said["aud"]) == (voice.peer, voice.own)
    assert said["target"] == target
    assert said["body"] == sha256(answer.content)
    return said


# ---- what is right -------------------------------------------------------------------------------


def test_hello_needs_no_nonce_and_no_receiver(voice):
    answer = voice.ask("GET", "/-/ha/hello", aud=None, exp=1)
    hello = expect(answer, 200)
    assert hello["node_ref"] == voice.peer
    is_signed(voice, answer, "/-/ha/hello", "hello")


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_page(voice, encoding):
    target = "/-/ha/changes?since=0&limit=5000&wait_ms=0"
    answer = voice.ask("GET", target, headers={"Accept-Encoding": encoding})
    page = expect(answer, 200)
    assert answer.headers.get("Content-Encoding", "identity") == encoding
    assert page["sender"] == voice.peer and page["receiver"] == voice.own
    is_signed(voice, answer, target, "changes")  # before compression


def test_what_travels_is_shorter(voice):
    answer = voice.ask("GET", CHANGES, headers={"Accept-Encoding": "gzip"})
    assert int(answer.headers["Content-Length"]) < len(answer.content)


def test_refusals_are_signed_too(voice):
    answer = voice.credits(str(uuid.uuid4()), 1)
    expect_problem(answer, 404, "scope_unknown")
    is_signed(voice, answer, "/-/ha/credits", "credits")


# ---- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change,status,code",
    [
        ({"aud": str(uuid.uuid4())}, 401, "token_invalid"),
        ({"aud": None}, 401, "token_invalid"),
        ({"nonce": fresh()}, 401, "token_invalid"),
        ({"exp": int(time.time()) - 5}, 401, "token_expired"),
        ({"exp": int(time.time()) + 86400}, 401, "token_invalid"),
        ({"body": sha256(b"another")}, 401, "token_invalid"),
        ({"target": "/-/ha/changes?since=1"}, 401, "token_invalid"),
        ({"target": "/-/ha/changes"}, 401, "token_invalid"),
        ({"purpose": "credits"}, 403, "token_wrong_purpose"),
        ({"answer": True}, 403, "token_wrong_purpose"),
        ({"iss": str(uuid.uuid4())}, 403, "token_wrong_instance"),
        ({"typ": "lease+jwt"}, 403, "token_wrong_purpose"),
        ({"key": jose.make_key("ec")}, 401, "token_invalid"),
        ({"sub": str(uuid.uuid4())}, 409, "peer_unknown"),
        ({"jti": None}, 401, "token_invalid"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else str(value),
)
def test_a_token_must_be_right(voice, change, status, code):
    expect_problem(voice.ask("GET", CHANGES, **change), status, code)


def test_a_node_does_not_replicate_with_itself(voice):
    expect_problem(voice.ask("GET", CHANGES, sub=voice.peer), 409, "peer_is_self")


def test_a_word_is_no_token(voice):
    expect_problem(voice.send("GET", CHANGES, b"", "x" * 40), 401, "token_invalid")


def test_what_changes_something_is_done_once(pair, voice):
    """A token that was overheard moves no second seat."""
    scope_ref = scope(pair.primary)["scope_ref"]
    body = json.dumps({"scope_ref": scope_ref, "count": 1}).encode()
    token = jose.sign(voice.key, "peer+jwt", voice.claims("POST", "/-/ha/credits", body))
    expect(voice.send("POST", "/-/ha/credits", body, token), 200)
    expect_problem(voice.send("POST", "/-/ha/credits", body, token), 401, "token_invalid")


@pytest.mark.parametrize(
    "body,code",
    [
        (b"", "unsupported_media_type"),
        (b"{", "bad_json"),
        (b"[]", "bad_field"),
        (b"{}", "missing_field"),
        (b'{"scope_ref":"x","count":1}', "bad_field"),
        (b'{"scope_ref":"10000000-0000-4000-8000-000000000001","count":0}', "bad_field"),
        (b'{"scope_ref":"10000000-0000-4000-8000-000000000001","count":-1}', "bad_field"),
    ],
)
def test_bodies_are_read_without_trust(voice, body, code):
    answer = voice.ask("POST", "/-/ha/credits", body)
    assert answer.status_code in (400, 415), answer.text
    assert answer.json()["code"] in (code, "count_out_of_range"), answer.text


@pytest.mark.parametrize("query", ["since=-1", "since=x", "limit=0", "limit=5001", "wait_ms=30001"])
def test_parameters_have_limits(voice, query):
    expect_problem(voice.ask("GET", f"/-/ha/changes?{query}"), 400, "bad_field")


def test_a_cursor_of_another_life_waits_for_nobody(voice):
    """A poll that has nothing to hear ends when it said it would."""
    since = peer(voice.node)["self"]["changes"]
    began = time.monotonic()
    answer = voice.ask("GET", f"/-/ha/changes?since={since}&wait_ms=0")
    assert answer.status_code == 200, answer.text
    assert time.monotonic() - began < 5


# ---- what operators are shown --------------------------------------------------------------------


@pytest.fixture(scope="module")
def document():
    with open(os.path.join(ROOT, "node", "http", "openapi.json"), encoding="utf-8") as file:
        return json.load(file)


def fits(document, schema, value):
    jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{schema}", "components": document["components"]}
    ).validate(value)


def test_the_pair_is_shown_as_described(pair, document):
    for node in pair.both:
        fits(document, "Pair", peer(node))
        fits(document, "Health", health(node))
        for key in set(peer(node)["peer"]):
            assert key in document["components"]["schemas"]["PairPeer"]["properties"], key


def test_seats_elsewhere_are_shown(pair):
    for node in pair.both:
        (one,) = [one for one in peer(node)["seats_elsewhere"] if one["feature"] == "render"]
        assert one["at_peer"] == scope(node)["at_peer"] > 0


def test_nothing_but_an_empty_object_is_asked_for(pair):
    for call in ("drain", "resume"):
        answer = pair.primary.post(f"/-/peer/{call}", json={"please": True})
        expect_problem(answer, 400, "unknown_field")
    answer = pair.primary.post("/-/peer/retire", json={"node": "x"})
    expect_problem(answer, 400, "unknown_field")
    assert health(pair.primary)["self"] == "serving"
