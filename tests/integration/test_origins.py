"""Enrolling, proving it, and being deleted."""

import json
import uuid

import pytest

import jose
from node import expect, expect_problem
from origin import ENVIRONMENT, Origin, pkce
from test_contention import at_once, instant


def test_enrol_code_token(shared_node):
    origin = Origin(shared_node)
    body = expect(origin.post_origin(shared_node.client_token()), 201)
    assert body["origin_ref"] == origin.ref
    assert body["environment"] == ENVIRONMENT
    assert instant(body["sync_timestamp"])
    origin.secret = body["origin_secret"]
    verifier, challenge = pkce()
    code = expect(origin.post_code(challenge), 200)
    assert 55 < instant(code["expires"]) - instant(code["sync_timestamp"]) < 65
    token = expect(origin.post_token(code["auth_code"], verifier), 200)
    assert 86000 < instant(token["expires"]) - instant(token["sync_timestamp"]) < 87000
    origin.token = token["auth_token"]
    assert origin.leases() == []


def test_a_known_origin_needs_its_secret(shared_node):
    origin = Origin(shared_node).enrol()
    token = shared_node.client_token()
    expect_problem(origin.post_origin(token), 409, "origin_exists")
    expect_problem(
        origin.post_origin(token, origin_secret=origin.secret[:-2] + "AA"),
        401,
        "origin_secret_invalid",
    )
    changed = {**ENVIRONMENT, "hostname": "render-18"}
    body = expect(origin.post_origin(token, origin_secret=origin.secret, environment=changed), 200)
    assert body["environment"]["hostname"] == "render-18"
    assert body["origin_secret"] == origin.secret
    stored = next(o for o in shared_node.origins() if o["origin_ref"] == origin.ref)
    assert stored["environment"]["hostname"] == "render-18"


def test_an_environment_comes_back_as_it_was(shared_node):
    strange = {
        "hostname": "ünï \u202e <script>alert(1)</script> \\ \" '; DROP TABLE origins; --\n\t",
        "os_platform": "плат",
        "os_version": "🙂",
        "ip_address_list": [],
        "fingerprint": {"mac_address_list": []},
    }
    origin = Origin(shared_node)
    body = expect(origin.post_origin(shared_node.client_token(), environment=strange), 201)
    assert body["environment"] == strange
    stored = next(o for o in shared_node.origins() if o["origin_ref"] == origin.ref)
    assert stored["environment"] == strange


def test_a_hostile_hostname_forges_no_log_line(node):
    forged = 'x\n{"level":"error","event":"forged"}\r\n\x1b[31m'
    Origin(node).post_origin(node.client_token(), environment={**ENVIRONMENT, "hostname": forged})
    assert all(event.get("event") != "forged" for event in node.log_events())
    assert "\x1b" not in node.log()


def test_twenty_enrolments_of_one_reference_at_once(node):
    ref, token = str(uuid.uuid4()), node.client_token()
    answers = at_once([lambda: Origin(node, ref).post_origin(token) for _ in range(20)])
    assert sorted(a.status_code for a in answers) == [201] + [409] * 19


class TestCode:
    @pytest.fixture
    def enrolled(self, shared_node):
        return Origin(shared_node).enrol()

    def test_is_used_once(self, enrolled):
        verifier, challenge = pkce()
        code = expect(enrolled.post_code(challenge), 200)["auth_code"]
        expect(enrolled.post_token(code, verifier), 200)
        expect_problem(enrolled.post_token(code, verifier), 401, "auth_code_invalid")

    def test_is_used_once_also_at_once(self, enrolled, shared_node):
        verifier, challenge = pkce()
        code = expect(enrolled.post_code(challenge), 200)["auth_code"]
        sessions = [shared_node.new_session() for _ in range(10)]
        body = {"auth_code": code, "code_verifier": verifier}
        answers = at_once(
            [
                lambda s=s: shared_node.post("/v1/auth/token", token=None, session=s, json=body)
                for s in sessions
            ]
        )
        assert sorted(a.status_code for a in answers) == [200] + [401] * 9

    def test_needs_the_right_verifier(self, enrolled):
        _, challenge = pkce()
        other_verifier, _ = pkce()
        code = expect(enrolled.post_code(challenge), 200)["auth_code"]
        expect_problem(enrolled.post_token(code, other_verifier), 401, "code_verifier_invalid")

    @pytest.mark.parametrize("verifier", ["short", "x" * 42, "x" * 129, "ü" * 43, "a b" * 20])
    def test_verifier_has_a_form(self, enrolled, verifier):
        _, challenge = pkce()
        code = expect(enrolled.post_code(challenge), 200)["auth_code"]
        answer = enrolled.post_token(code, verifier)
        assert answer.status_code in (400, 401), answer.text

    @pytest.mark.parametrize(
        "challenge", ["", "short", "A" * 44, "=" * 43, "ü" * 43, "A" * 42 + "/"]
    )
    def test_challenge_has_a_form(self, enrolled, challenge):
        expect_problem(enrolled.post_code(challenge), 400, "bad_field")

    def test_plain_challenges_are_refused(self, enrolled):
        """A challenge equal to the verifier (RFC 7636 `plain`) does not redeem."""
        verifier = "A" * 43
        code = expect(enrolled.post_code(verifier), 200)["auth_code"]
        expect_problem(enrolled.post_token(code, verifier), 401, "code_verifier_invalid")

    def test_is_no_auth_token(self, enrolled):
        _, challenge = pkce()
        code = expect(enrolled.post_code(challenge), 200)["auth_code"]
        answer = enrolled.call("GET", "/v1/leases", token=code)
        assert answer.status_code in (401, 403), answer.text

    def test_needs_the_secret(self, enrolled):
        _, challenge = pkce()
        for secret in ("", "0.", "1." + "A" * 43, "99999999999999999999." + "A" * 43, "x" * 2000):
            answer = enrolled.post_code(challenge, origin_secret=secret)
            assert answer.status_code in (400, 401), (secret[:40], answer.text)

    def test_altered_code(self, enrolled):
        verifier, challenge = pkce()
        code = expect(enrolled.post_code(challenge), 200)["auth_code"]
        expect_problem(
            enrolled.post_token(jose.changed_byte(code, len(code) // 2), verifier),
            401,
            "auth_code_invalid",
        )
        expect_problem(enrolled.post_token("", verifier), 401, "auth_code_invalid")


def test_deletion_refuses_secret_and_token(node, with_seats, origin):
    with_seats(1)
    lease = origin.acquire()
    assert node.delete(f"/-/origins/{origin.ref}").status_code in (200, 204)
    assert node.origins() == []
    answer = origin.call("GET", "/v1/leases")
    expect_problem(answer, 401, "origin_deleted")
    expect_problem(
        origin.put_lease(lease["lease_ref"], lease_token=lease["lease_token"]),
        401,
        "origin_deleted",
    )
    _, challenge = pkce()
    answer = origin.post_code(challenge)
    assert answer.status_code == 401, answer.text
    assert answer.json()["code"] in ("origin_deleted", "origin_secret_invalid")
    # its seat is free, and the reference may enrol again with a new secret
    assert Origin.ready(node).acquire()
    again = Origin(node, origin.ref).enrol()
    assert again.secret != origin.secret
    again.authenticate()
    assert again.leases() == []
    expect_problem(origin.call("GET", "/v1/leases"), 401, "origin_deleted")


def test_deletion_survives_a_restart(node, origin):
    assert node.delete(f"/-/origins/{origin.ref}").status_code in (200, 204)
    node.restart()
    expect_problem(origin.call("GET", "/v1/leases"), 401, "origin_deleted")
    assert Origin(node, origin.ref).enrol().secret != origin.secret


def test_delete_all_origins(node, with_seats):
    with_seats(10)
    origins = [Origin.ready(node) for _ in range(5)]
    for one in origins:
        one.acquire()
    assert node.delete("/-/origins").status_code in (200, 204)
    assert node.origins() == []
    for one in origins:
        expect_problem(one.call("GET", "/v1/leases"), 401, "origin_deleted")
    assert Origin.ready(node).acquire(count=10)["count"] == 10


def test_delete_unknown_origin(shared_node):
    expect_problem(shared_node.delete(f"/-/origins/{uuid.uuid4()}"), 404, "origin_unknown")


def test_an_origin_proven_by_its_token_becomes_known(nodes, publisher):
    """Design §5: a client that enrolled elsewhere under the same instance key needs nothing but
    this node. Here `elsewhere` is a node with the same key files and another database."""
    first = nodes.make()
    publisher.trust(first.publishers_dir)
    first.start()
    origin = Origin.ready(first)
    second = nodes.make(
        INSTANCE_KEY_RSA=f"{first.state_dir}/instance.private.pem",
        INSTANCE_KEY_PUB=f"{first.state_dir}/instance.public.pem",
    )
    publisher.trust(second.publishers_dir)
    second.start()
    expect(second.install(publisher.entitlement(second, {"render": 1})), 201)
    there = Origin(second, origin.ref)
    there.token = origin.token
    assert there.acquire()["origin_ref"] == origin.ref
    # its token and its secret both prove it
    other = Origin.ready(first)
    there = Origin(second, other.ref)
    there.secret = other.secret
    assert there.authenticate().leases() == []
    assert {o["origin_ref"] for o in second.origins()} >= {origin.ref, other.ref}


def test_environment_is_limited(shared_node):
    """An environment is stored as it comes, so it has a limit of its own or the body's."""
    body = {**ENVIRONMENT, "hostname": "x" * 70000}
    answer = Origin(shared_node).post_origin(shared_node.client_token(), environment=body)
    assert answer.status_code in (400, 413), answer.text
    text = json.dumps(ENVIRONMENT)
    assert (
        Origin(shared_node)
        .post_origin(shared_node.client_token(), environment=json.loads(text))
        .status_code
        == 201
    )
