"""Two nodes that both serve: what one is told, the other knows (I3), and seats go where they are
needed (R12)."""

import time
import uuid

import pytest

import jose
from node import expect, expect_problem
from origin import Origin
from pair import PAIR_SECONDS, SLOWNESS, health, peer, scope, wait_scope
from publisher import feature
from waiting import wait_until

PROMPT_SECONDS = 1 * SLOWNESS


@pytest.fixture
def pair(shared_pair):
    return shared_pair


@pytest.fixture(params=["primary", "secondary"])
def node(pair, request):
    """Each of the two in turn; `pair.other(node)` is the other one."""
    return getattr(pair, request.param)


@pytest.fixture
def origin(node):
    return Origin.ready(node)


def knows(origin, node, lease):
    """Until that node lists the lease."""
    there = origin.at(node)
    wait_until(
        lambda: lease["lease_ref"] in [one["lease_ref"] for one in there.leases()],
        PAIR_SECONDS,
        f"lease {lease['lease_ref']} is known at the other node",
    )
    return there


def test_both_are_connected_and_say_so(pair, node):
    said = health(node)
    assert said["role"] == ("PRIMARY" if node is pair.primary else "SECONDARY")
    assert said["self"] == "serving"
    assert said["peer"]["state"] == "connected"
    assert said["peer"]["lag_seconds"] < PAIR_SECONDS
    shown = peer(node)
    assert shown["self"]["node_ref"] == said["node_ref"]
    assert shown["peer"]["node_ref"] == health(pair.other(node))["node_ref"]
    assert shown["peer"]["url"] == pair.other(node).url
    assert shown["peer"]["serving"] is True
    assert shown["peer"]["reason"] is None


def test_nothing_secret_is_shown_to_everybody(node):
    expect_problem(node.get("/-/peer", token=None), 401, "token_missing")


def test_a_client_token_names_both_primary_first(pair, node):
    claims = jose.payload_of(node.client_token())
    assert claims["node_url_list"] == [pair.primary.url, pair.secondary.url]


def test_a_machine_enrolled_at_one_is_served_by_the_other(pair, node, origin):
    there = origin.at(pair.other(node))
    lease = there.acquire()
    assert lease["home"] == health(there.node)["node_ref"]
    there.release(lease)


def test_a_lease_is_renewed_and_released_on_either(pair, node, origin):
    lease = origin.acquire()
    there = origin.at(pair.other(node))
    renewed = there.renew(lease)
    assert renewed["home"] == lease["home"], "R4: a renewal leaves the home"
    there.release(renewed)
    wait_until(
        lambda: origin.put_lease(lease["lease_ref"]).status_code == 410,
        PAIR_SECONDS,
        "the lease has ended at its home",
    )


def test_the_same_reference_is_one_lease_on_both(pair, node, origin):
    """R3."""
    ref = str(uuid.uuid4())
    lease = origin.acquire(candidate_lease_ref=ref)
    there = knows(origin, pair.other(node), lease)
    again = there.acquire(status=200, candidate_lease_ref=ref)
    assert again["home"] == lease["home"]
    assert [one["lease_ref"] for one in origin.leases()] == [ref]
    there.release(again)


def gone(origin, lease):
    """It never comes back to life, not even from its token."""
    wait_until(lambda: not origin.leases(), PAIR_SECONDS, "the lease is no longer listed")
    token = lease["lease_token"]
    expect_problem(origin.put_lease(lease["lease_ref"], lease_token=token), 410, "lease_ended")
    again = {"feature": "render", "candidate_lease_ref": lease["lease_ref"]}
    expect_problem(origin.post_leases(again), 410, "lease_ended")


def test_a_released_lease_is_gone_on_both(pair, node, origin):
    lease = origin.acquire()
    there = knows(origin, pair.other(node), lease)
    origin.release(lease)
    gone(there, lease)
    gone(origin, lease)


def test_a_lease_released_where_it_is_not_known_yet_is_gone_on_both(pair, node, origin):
    """R4: its token is knowledge; the release must not be undone by the grant that comes after."""
    lease = origin.acquire()
    there = origin.at(pair.other(node))
    answer = there.delete_lease(lease["lease_ref"], lease_token=lease["lease_token"])
    expect(answer, 204)
    gone(there, lease)
    gone(origin, lease)


def test_a_revoked_lease_is_gone_on_both(pair, node, origin):
    lease = origin.acquire()
    there = knows(origin, pair.other(node), lease)
    expect(pair.other(node).delete(f"/-/lease/{lease['lease_ref']}"), 204)
    gone(there, lease)
    gone(origin, lease)


def test_an_expired_lease_is_gone_on_both(pair, node, origin):
    """R7."""
    lease = origin.acquire(duration_seconds=1)
    there = origin.at(pair.other(node))
    wait_until(lambda: not origin.leases() and not there.leases(), PAIR_SECONDS, "it has ended")
    gone(there, lease)
    gone(origin, lease)


def test_a_deleted_origin_is_gone_on_both(pair, node, origin):
    lease = origin.acquire()
    there = knows(origin, pair.other(node), lease)
    expect(pair.other(node).delete(f"/-/origins/{origin.ref}"), 204)
    wait_until(
        lambda: origin.call("GET", "/v1/leases").status_code == 401,
        PAIR_SECONDS,
        "the origin is deleted at the other node, too",
    )
    for one in (origin, there):
        expect_problem(one.call("GET", "/v1/leases"), 401, "origin_deleted")
        answer = one.put_lease(lease["lease_ref"], lease_token=lease["lease_token"])
        expect_problem(answer, 401, "origin_deleted")


# ---- seats ---------------------------------------------------------------------------------------


def test_all_seats_can_be_had_at_one_node(pair, node):
    """R12: wherever the credits are."""
    name = f"bulk-{node.port}"
    pair.install(20, name)
    origin = Origin.ready(node)
    lease = origin.acquire(name, count=20)
    assert scope(node, name)["free_here"] == 0
    there = Origin.ready(pair.other(node))
    problem = expect_problem(there.post_leases({"feature": name}), 409, "no_free_seat")
    assert problem["seats"] == 20 and problem["used"] == 20
    origin.release(lease)
    wait_until(
        lambda: there.post_leases({"feature": name, "count": 20}).status_code == 201,
        PAIR_SECONDS,
        "all seats at the other node",
    )


def test_free_seats_are_split_between_the_nodes(pair):
    """R12: so that either can serve at once."""
    pair.install(100, "split")
    for node in pair.both:
        found = wait_scope(node, lambda one: 30 <= one["free_here"] <= 70, name="split")
        assert found["free_here"] + found["at_peer"] == 100


def test_a_seat_released_at_one_is_back_within_a_second(pair, node):
    """R6: it takes one exchange, which does not wait for a poll."""
    name = f"solo-{node.port}"
    pair.install(1, name)
    origin, there = Origin.ready(node), Origin.ready(pair.other(node))
    for _ in range(3):
        lease = origin.acquire(name)
        knows(origin, there.node, lease)
        origin.at(there.node).release(lease)
        begun = time.monotonic()
        second = wait_until(
            lambda: (answer := there.post_leases({"feature": name})).status_code == 201
            and answer.json()["lease_result_list"][0],
            PAIR_SECONDS,
            "the seat is back",
        )
        assert time.monotonic() - begun < PROMPT_SECONDS
        there.release(second)
        wait_scope(node, lambda one: one["used"] == 0, name=name)


# ---- entitlements --------------------------------------------------------------------------------


def test_an_entitlement_for_the_secondary_is_handed_on(pair, publisher):
    """R2: seats are minted at the primary."""
    text = publisher.entitlement(pair.primary, [feature("handed-on", 7)])
    body = expect(pair.secondary.install(text), 201)
    assert "usable" in body, "R2: it says whether the seats can be leased already"
    expect(pair.secondary.install(text), 200)
    found = wait_scope(pair.secondary, lambda one: one["pending"] == 0, name="handed-on")
    assert found["seats"] == 7
    Origin.ready(pair.secondary).acquire("handed-on", count=7)


def test_what_the_primary_refuses_is_refused(pair, publisher):
    text = publisher.entitlement(pair.primary, [feature("x", 1)], instance_ref=str(uuid.uuid4()))
    expect_problem(pair.secondary.install(text), 422, "entitlement_foreign")


def test_a_reduction_holds_on_both(pair, publisher):
    """R2: minted by its difference; nobody is sent away, and nothing new is granted above it."""
    ref, scope_ref = str(uuid.uuid4()), str(uuid.uuid4())
    origins = [Origin.ready(node) for node in pair.both]
    for revision, seats in ((1, 10), (2, 4)):
        item = feature("shrinks", seats, scope_ref=scope_ref)
        text = publisher.entitlement(pair.primary, [item], ref=ref, revision=revision)
        expect(pair.primary.install(text), 201)
        for node in pair.both:
            wait_scope(
                node,
                lambda one, seats=seats: one["seats"] == seats and one["pending"] == 0,
                name="shrinks",
            )
        if revision == 1:
            held = [origin.acquire("shrinks", count=3) for origin in origins]
    for origin, lease in zip(origins, held):
        origin.renew(lease)
        answer = origin.post_leases({"feature": "shrinks"})
        assert answer.status_code == 409, answer.text
    for origin, lease in zip(origins, held):
        origin.release(lease)
    wait_until(
        lambda: origins[1].post_leases({"feature": "shrinks", "count": 4}).status_code == 201,
        PAIR_SECONDS,
        "the seats that are left",
    )


# ---- the peer's calls are for the peer -----------------------------------------------------------


@pytest.mark.parametrize(
    "method,path",
    [
        ("GET", "/-/ha/hello"),
        ("POST", "/-/ha/hello"),
        ("GET", "/-/ha/changes?since=0"),
        ("POST", "/-/ha/credits"),
    ],
)
@pytest.mark.parametrize("token", [None, "admin"])
def test_strangers_are_refused(node, method, path, token):
    answer = node.call(method, path, token=token, json={} if method == "POST" else None)
    expect_problem(answer, 401, "token_missing")


def test_at_the_end_both_ledgers_are_equal(pair):
    """I3, row by row, after all of the above."""
    rows = pair.wait_equal()
    assert len(rows) > 20
