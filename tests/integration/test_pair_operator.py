"""What an operator decides about a pair: drain, resume, retire (R10)."""

import time

import pytest

from node import expect, expect_problem
from origin import Origin
from pair import (
    PAIR_SECONDS,
    SLOWNESS,
    health,
    peer,
    scope,
    wait_health,
    wait_peer,
    wait_scope,
)
from waiting import wait_until

SKEW_SECONDS = 1
LEASE_SECONDS = 6 if SLOWNESS == 1 else 15
WAIT_SECONDS = LEASE_SECONDS + 2 * SKEW_SECONDS  # R10


@pytest.fixture
def pair(make_pair):
    """Short leases and a small MAX_CLOCK_SKEW: R10's wait is over soon."""
    made = make_pair(MAX_CLOCK_SKEW=SKEW_SECONDS, LEASE_EXPIRE_SECONDS=LEASE_SECONDS)
    made.install(10)
    return made


def code_of_ready(node):
    answer = node.get("/-/ready", token=None)
    return answer.status_code == 503 and answer.json()["code"]


def wait_ready_code(node, code):
    wait_until(
        lambda: code_of_ready(node) == code,
        PAIR_SECONDS,
        lambda: f"{code}: {node.get('/-/ready', token=None).text}",
    )


def serves_nothing(node, origin, lease, code):
    """Every call of a client that would decide something."""
    one = origin.at(node)
    ref, token = lease["lease_ref"], lease["lease_token"]
    for answer in (
        one.post_leases({"feature": "render"}),
        one.put_lease(ref, lease_token=token),
        one.delete_lease(ref, lease_token=token),
        one.call("DELETE", "/v1/leases"),
        Origin(node).post_origin(node.client_token_made),
        node.delete(f"/-/lease/{ref}"),
        node.delete(f"/-/origins/{origin.ref}"),
    ):
        expect_problem(answer, 503, code)


# ---- drain, resume -------------------------------------------------------------------------------


def test_drained_and_resumed(pair):
    node, other = pair.secondary, pair.primary
    node.client_token_made = node.client_token()
    origin = Origin.ready(node)
    lease = origin.acquire()
    pair.wait_equal()
    assert expect(node.post("/-/peer/drain"), 200)["state"] == "drained"
    wait_ready_code(node, "node_drained")
    serves_nothing(node, origin, lease, "node_drained")
    wait_until(lambda: peer(other)["peer"]["closed"], PAIR_SECONDS, "the other one knows")
    found = wait_scope(other, lambda one: one["free_here"] == 9)
    assert found["at_peer"] == 0, "R12: it gave away all that was free"
    lease = origin.at(other).renew(lease)
    node.restart_alive()
    wait_ready_code(node, "node_drained")
    expect(node.post("/-/peer/drain"), 200)
    assert expect(node.post("/-/peer/resume"), 200)["state"] in ("resuming", "serving")
    pair.wait_connected()
    origin.renew(lease)
    wait_until(lambda: not peer(other)["peer"]["closed"], PAIR_SECONDS, "it is open again")
    wait_until(
        lambda: origin.post_leases({"feature": "render"}).status_code == 201,
        PAIR_SECONDS,
        "seats come back to it",
    )
    pair.wait_equal()


def test_resume_of_what_was_not_drained_changes_nothing(pair):
    assert expect(pair.primary.post("/-/peer/resume"), 200)["state"] == "serving"
    assert pair.primary.is_ready()


def test_a_drained_node_is_retired_without_waiting(pair):
    """R10: it has promised nothing unseen. And, alive, it is told, and stops for ever."""
    node, other = pair.secondary, pair.primary
    node.client_token_made = node.client_token()
    origin = Origin.ready(other)
    expect(node.post("/-/peer/drain"), 200)
    wait_until(lambda: peer(other)["peer"]["closed"], PAIR_SECONDS, "the other one knows")
    body = expect(other.post("/-/peer/retire"), 200)
    assert body["retired_count"] == 1 and body["waits_until"] is None, body
    lease = origin.acquire(count=10)
    wait_health(node, lambda one: one["self"] == "retired")
    wait_ready_code(node, "node_retired")
    serves_nothing(node, origin, lease, "node_retired")
    expect_problem(node.post("/-/peer/resume"), 503, "node_retired")
    node.restart_alive()
    wait_ready_code(node, "node_retired")
    serves_nothing(node, origin, lease, "node_retired")


# ---- retire --------------------------------------------------------------------------------------


def test_a_node_that_answers_is_not_retired(pair):
    for node in pair.both:
        problem = expect_problem(node.post("/-/peer/retire"), 409, "peer_connected")
        assert "drain" in problem["detail"] and "force" in problem["detail"]
        assert health(node)["self"] == "serving"


def test_there_must_be_somebody_to_retire(pair):
    unknown = "20000000-0000-4000-8000-00000000dead"
    answer = pair.primary.post("/-/peer/retire", json={"node_ref": unknown, "force": True})
    expect_problem(answer, 409, "no_peer")


def test_retired_replaced_and_refused(pair, nodes, publisher):
    """R10, R11: a newcomer is refused until the dead node was retired; the dead one's seats wait,
    then come free; back from the dead it is told and serves nothing, and disturbs nobody."""
    dead, heir = pair.primary, pair.secondary
    dead.client_token_made = dead.client_token()
    origin = Origin.ready(dead)
    lease = origin.acquire()
    pair.wait_equal()
    dead.kill()
    wait_peer(heir, "away")
    expect_problem(heir.install(publisher.entitlement(heir, {"more": 3})), 503, "primary_away")

    newcomer = replacement(pair, nodes, publisher, dead)
    newcomer.start_alive()
    wait_peer(newcomer, "refused")
    assert peer(newcomer)["peer"]["reason"] == "peer_unknown"
    assert "retire" in peer(newcomer)["peer"]["detail"]
    assert code_of_ready(newcomer) == "node_unfilled"

    begun = time.monotonic()
    body = expect(heir.post("/-/peer/retire", json={"force": True}), 200)
    assert body["retired_count"] == 1 and body["waits_until"], body
    assert scope(heir)["locked"] > 0
    wait_peer(newcomer, "connected")
    newcomer.wait_ready()
    assert health(newcomer)["node_ref"] != health(heir)["node_ref"]
    there = Origin.ready(newcomer)
    wait_until(
        lambda: there.post_leases({"feature": "render", "count": 10}).status_code == 201,
        PAIR_SECONDS,
        "I4: every seat can be granted again",
    )
    assert time.monotonic() - begun >= WAIT_SECONDS, "R10: granted too early"

    newcomer.stop()
    dead.start_alive()
    wait_health(dead, lambda one: one["self"] == "retired")
    wait_ready_code(dead, "node_retired")
    serves_nothing(dead, origin, lease, "node_retired")
    assert any("retired" in one["message"] for one in dead.log_events())
    dead.stop()
    newcomer.start()
    newcomer.wait_ready()
    wait_peer(newcomer, "connected")
    wait_peer(heir, "connected")
    expect(heir.install(publisher.entitlement(heir, {"more": 3})), 201)


def replacement(pair, nodes, publisher, gone):
    """A new machine at the address of one that is gone."""
    keep = ("DLS_PORT", "LISTEN", "HA_REPLICATE", "HA_ROLE", "INSTANCE_KEY_RSA", "INSTANCE_KEY_PUB",
            "MAX_CLOCK_SKEW", "LEASE_EXPIRE_SECONDS")
    newcomer = nodes.make(**{name: gone.settings[name] for name in keep})
    newcomer.port, newcomer.url = gone.port, gone.url
    publisher.trust(newcomer.publishers_dir)
    pair.give_admin_token(newcomer)
    return newcomer


def test_a_survivor_installs_entitlements_itself(pair, publisher):
    """R2: once the primary was retired there is nobody else."""
    pair.primary.kill()
    wait_peer(pair.secondary, "away")
    expect(pair.secondary.post("/-/peer/retire"), 200)
    expect(pair.secondary.install(publisher.entitlement(pair.secondary, {"more": 3})), 201)
    wait_scope(pair.secondary, lambda one: one["pending"] == 0, name="more")
    Origin.ready(pair.secondary).acquire("more", count=3)


def test_leases_of_a_retired_node_go_on(pair):
    """R10: they belong to the heir; a seat of one that ended there comes back after the wait."""
    origin = Origin.ready(pair.primary)
    lease = origin.acquire(count=2)
    pair.wait_equal()
    pair.primary.kill()
    there = origin.at(pair.secondary)
    wait_peer(pair.secondary, "away")
    expect(pair.secondary.post("/-/peer/retire"), 200)
    lease = there.renew(lease)
    there.release(lease)
    wait_until(
        lambda: there.post_leases({"feature": "render", "count": 10}).status_code == 201,
        PAIR_SECONDS,
        "every seat can be granted again",
    )
