"""Who may do what: every call, with every kind of credential, and with none. The rights are those
of tests/fuzz/judge.py, which has them from the design."""

import json
import os
import sys
import uuid

import pytest

from cluster import ROOT
from node import expect
from origin import Origin

sys.path.insert(0, os.path.join(ROOT, "tests", "fuzz"))
import blackbox  # pylint: disable=wrong-import-position
import judge  # pylint: disable=wrong-import-position

REFUSALS = {
    401: {"token_missing", "token_invalid", "token_expired"},
    403: {"token_wrong_purpose", "forbidden", "cross_site"},
}
BY_BODY = (judge.SECRET, judge.CODE, judge.SIGN_IN)
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def world(module_nodes, publisher, tmp_path_factory):
    settings, tokens = blackbox.write_role_tokens(tmp_path_factory.mktemp("roles"))
    node = module_nodes.make(**settings)
    publisher.trust(node.publishers_dir)
    node.start()
    return blackbox.new_world(node, publisher, tokens)


def headers_of(world, kind):
    """What a caller of this kind sends along."""
    if kind == "nobody":
        return {}
    if kind.startswith("page of "):
        (cookie,) = [c for c, role in world.sessions.items() if role == kind[8:]]
        return {"Cookie": f"{judge.COOKIE}={cookie}", **SAME_ORIGIN}
    tokens = {
        **world.role_tokens,
        judge.CLIENT_TOKEN: world.client_tokens[0],
        judge.ORIGIN: Origin.ready(world.node, world.client_tokens[0]).token,
        "lease token": next(iter(world.leases.values()))["lease_token"],
        "auth code": next(iter(world.codes)),
        "a word": "x" * 43,
    }
    return {"Authorization": f"Bearer {tokens[kind]}"}


KINDS = [
    "nobody",
    *sorted(judge.EVERY_ROLE),
    *(f"page of {role}" for role in sorted(judge.EVERY_ROLE)),
    judge.CLIENT_TOKEN,
    judge.ORIGIN,
    "lease token",
    "auth code",
    "a word",
]


def is_right(kind, who):
    if who == judge.PUBLIC or who in BY_BODY:
        return True
    return kind.removeprefix("page of ") in who if isinstance(who, set) else kind == who


def ask(node, method, pattern, headers):
    path = pattern.replace("*", "manage.js" if "/web/" in pattern else str(uuid.uuid4()))
    if method in ("POST", "PUT"):
        kind = "application/jose" if path == "/-/entitlements" else "application/json"
        return node.call(
            method, path, token=None, headers={**headers, "Content-Type": kind}, data=b"{}"
        )
    return node.call(method, path, token=None, headers=headers)


@pytest.mark.parametrize("kind", KINDS)
def test_every_call(world, kind):
    headers = headers_of(world, kind)
    last = ("DELETE", "/-/origins")  # it takes the tokens' origins away
    for method, pattern, who in sorted(judge.RIGHTS, key=lambda right: right[:2] == last):
        answer = ask(world.node, method, pattern, headers)
        refused = answer.status_code in REFUSALS
        if (method, pattern) == ("DELETE", "/-/session") and kind != "nobody":
            # nobody may sign out, but a token that is none is told so
            assert refused != is_right(kind, judge.EVERY_ROLE), (kind, answer.text)
            continue
        assert refused != is_right(kind, who), (method, pattern, kind, answer.text[:300])
        if refused:
            code = answer.json()["code"]
            assert code in REFUSALS[answer.status_code], (method, pattern, kind, code)
            unseen = kind == "nobody" or method_of_v1(kind, pattern) or who == judge.PEER
            assert (code == "token_missing") == unseen, (method, pattern, kind, code)


def method_of_v1(kind, pattern):
    """A page's cookie counts for the operator API alone."""
    return kind.startswith("page of ") and pattern.startswith("/v1/")


@pytest.mark.parametrize("role", sorted(judge.EVERY_ROLE))
@pytest.mark.parametrize("site", [{}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "null"}])
def test_a_cookie_alone_changes_nothing(world, role, site):
    headers = headers_of(world, f"page of {role}")
    headers = {"Cookie": headers["Cookie"], **site}
    before = blackbox.dump(world.node)
    for method, pattern, who in judge.RIGHTS:
        if method != "GET" and isinstance(who, set):
            answer = ask(world.node, method, pattern, headers)
            assert answer.status_code == 403, (method, pattern, answer.text)
            assert answer.json()["code"] == "cross_site", (method, pattern)
    assert blackbox.dump(world.node) == before


def test_no_call_is_forgotten(world):
    """What the node describes is what is walked here."""
    described = expect(world.node.get("/-/openapi.json", token=None), 200)["paths"]
    calls = {
        (method.upper(), "/".join("*" if "{" in part else part for part in path.split("/")))
        for path, methods in described.items()
        for method in methods
        if method in ("get", "post", "put", "delete")
    }
    assert calls == {right[:2] for right in judge.RIGHTS}, json.dumps(sorted(calls))
