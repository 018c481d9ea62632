"""What goes wrong between two nodes, and with one of them: killed, frozen, cut off, lied to."""

import signal
import socket
import time

import pytest

import jose
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
from proxy import FORTH, Meddler, Wire
from waiting import wait_until

LISTENS_SECONDS = 8  # R3: a peer that fetched longer ago misses new leases
IDLE_BYTES_PER_SECOND = 1000


# ---- one of them dies ----------------------------------------------------------------------------


@pytest.mark.parametrize("dying", ["primary", "secondary"])
def test_a_lease_that_was_never_replicated_is_renewed_from_its_token(make_pair, dying):
    """I2, R4: kill -9 right after the answer, with replication held back."""
    pair = make_pair(wires=True)
    pair.install(10)
    home = getattr(pair, dying)
    survivor = pair.other(home)
    origin = Origin.ready(home)
    origin.release(origin.acquire())
    pair.wait_equal()
    pair.wires[survivor].stall()
    lease = origin.acquire()
    claims = jose.payload_of(lease["lease_token"])
    assert claims["adopt"] is True and claims["peer"] == health(survivor)["node_ref"]
    home.kill()
    there = origin.at(survivor)
    assert there.leases() == []
    renewed = there.renew(lease)
    assert renewed["lease_ref"] == lease["lease_ref"] and renewed["home"] == lease["home"]
    assert [one["lease_ref"] for one in there.leases()] == [lease["lease_ref"]]
    pair.wires[survivor].flow()
    home.start_alive()
    pair.wait_connected()
    assert [one["lease_ref"] for one in origin.leases()] == [lease["lease_ref"]]
    there.release(renewed)
    wait_until(lambda: not origin.leases(), PAIR_SECONDS, "the lease ends at its home")
    pair.wait_equal()
    wait_scope(home, lambda one: one["used"] == 0)


def test_killed_nodes_come_back_as_who_they_were(make_pair):
    """R11: nothing was lost, so nothing is renamed; whoever starts first."""
    pair = make_pair()
    pair.install(10)
    before = [health(node)["node_ref"] for node in pair.both]
    origin = Origin.ready(pair.primary)
    lease = origin.acquire()
    for order in (pair.both, pair.both[::-1]):
        for node in pair.both:
            node.kill()
        for node in order:
            node.start_alive()
        pair.wait_connected()
        assert [health(node)["node_ref"] for node in pair.both] == before
        lease = origin.at(order[1]).renew(lease)
    pair.wait_equal()


def test_one_alone_serves_after_a_restart(make_pair):
    """R3, R12: it leases what credits it has; what the other one has is out of reach, and it says
    so."""
    pair = make_pair()
    pair.install(10)
    origin = Origin.ready(pair.secondary)
    lease = origin.acquire()
    for node in pair.both:
        wait_scope(node, lambda one: one["at_peer"] > 0 and one["free_here"] > 0)
    pair.wait_equal()
    for node in pair.both:
        node.stop()
    pair.secondary.start()
    origin.renew(lease)
    free = scope(pair.secondary)["free_here"]
    origin.acquire(count=free)
    problem = expect_problem(origin.post_leases({"feature": "render"}), 409, "seats_at_peer")
    assert problem["seats"] == 10
    said = peer(pair.secondary)
    assert said["peer"]["state"] in ("connecting", "away")
    assert said["peer"]["detail"]
    (out_of_reach,) = said["seats_elsewhere"]
    assert out_of_reach["at_peer"] == 10 - free - 1
    pair.primary.start()
    pair.wait_connected()
    wait_until(
        lambda: origin.post_leases({"feature": "render"}).status_code == 201,
        PAIR_SECONDS,
        "seats come from the other node",
    )


def test_a_new_node_alone_waits_for_its_peer(make_pair):
    """R11: it decides nothing until a completed page has refilled it."""
    pair = make_pair(start=False)
    pair.secondary.start_alive()
    wait_health(pair.secondary, lambda one: one["self"] == "unfilled" and one["state"] == "ready")
    wait_until(
        lambda: pair.secondary.get("/-/ready", token=None).json().get("code") == "node_unfilled",
        PAIR_SECONDS,
        "it says what it waits for",
    )
    pair.primary.start_alive()
    pair.wait_connected()
    pair.install(4)
    Origin.ready(pair.secondary).acquire()


def test_a_frozen_node_does_not_stop_the_other(make_pair):
    """R12: it is asked for credits within the request, for so long and no longer."""
    pair = make_pair()
    pair.install(10)
    origin = Origin.ready(pair.primary)
    wait_scope(pair.primary, lambda one: one["free_here"] == 5)
    pair.wait_equal()
    pair.secondary.signal(signal.SIGSTOP)
    try:
        origin.acquire(count=5)
        begun = time.monotonic()
        expect_problem(origin.post_leases({"feature": "render"}), 409, "seats_at_peer")
        assert time.monotonic() - begun < 2.5 * SLOWNESS
    finally:
        pair.secondary.signal(signal.SIGCONT)
    pair.wait_connected()
    wait_until(
        lambda: origin.post_leases({"feature": "render"}).status_code == 201,
        PAIR_SECONDS,
        "seats come from the other node",
    )
    pair.wait_equal()


# ---- the wire ------------------------------------------------------------------------------------


def test_an_origin_deleted_while_the_other_node_was_away_is_gone_on_both(make_pair):
    pair = make_pair()
    pair.install(4)
    origin = Origin.ready(pair.primary)
    lease = origin.acquire()
    pair.wait_equal()
    pair.primary.stop()
    expect(pair.secondary.delete(f"/-/origins/{origin.ref}"), 204)
    pair.primary.start_alive()
    pair.wait_connected()
    wait_until(
        lambda: origin.call("GET", "/v1/leases").status_code == 401,
        PAIR_SECONDS,
        "the origin is deleted here, too",
    )
    answer = origin.put_lease(lease["lease_ref"], lease_token=lease["lease_token"])
    expect_problem(answer, 401, "origin_deleted")
    pair.wait_equal()


def test_what_each_decides_while_they_are_cut_off(make_pair):
    """R3, R7, R9, and convergence (I3), in one outage: it takes long enough to be shared."""
    pair = make_pair(wires=True)
    pair.install(10)
    origin = Origin.ready(pair.primary)
    there = origin.at(pair.secondary)
    short = origin.acquire(duration_seconds=2)
    renewed_there = origin.acquire(duration_seconds=3)
    pair.wait_equal()
    for wire in pair.wires.values():
        wire.refuse()
    for node in pair.both:
        wait_peer(node, "away")
    renewed_there = there.renew(renewed_there)
    twice = "20000000-0000-4000-8000-000000000001"
    both = [one.acquire(candidate_lease_ref=twice) for one in (origin, there)]
    assert both[0]["home"] != both[1]["home"]
    wait_until(
        lambda: short["lease_ref"] not in [one["lease_ref"] for one in origin.leases()],
        PAIR_SECONDS,
        "the short lease is over for its client",
    )
    assert scope(pair.primary)["used"] >= 3, "R7: the peer may have renewed it, so its seat waits"
    wait_until(
        lambda: not peer(pair.secondary)["peer"]["listens"],
        LISTENS_SECONDS + PAIR_SECONDS,
        "the peer has not been seen for some seconds",
    )
    private = there.acquire()
    assert jose.payload_of(private["lease_token"])["adopt"] is False
    answer = origin.put_lease(private["lease_ref"], lease_token=private["lease_token"])
    expect_problem(answer, 503, "ask_other_node")
    for wire in pair.wires.values():
        wire.flow()
    pair.wait_connected()
    pair.wait_equal()
    expect(origin.put_lease(private["lease_ref"], lease_token=private["lease_token"]), 200)
    listed = {one["lease_ref"] for one in origin.leases()}
    assert short["lease_ref"] not in listed
    assert {twice, private["lease_ref"]} <= listed
    for lease in (*both, private, renewed_there):
        origin.delete_lease(lease["lease_ref"])
    wait_scope(pair.primary, lambda one: one["used"] == 0)
    wait_until(
        lambda: there.post_leases({"feature": "render", "count": 10}).status_code == 201,
        PAIR_SECONDS,
        "I4: every seat can be granted again",
    )


def test_a_stalled_wire_is_noticed_and_mended(make_pair):
    """Nothing is refused and nothing arrives: only time can tell."""
    pair = make_pair(wires=True)
    pair.install(10)
    for wire in pair.wires.values():
        wire.stall(FORTH)
    for node in pair.both:
        wait_peer(node, "away")
        Origin.ready(node).acquire()
    for wire in pair.wires.values():
        wire.flow()
    pair.wait_connected()
    pair.wait_equal()


def test_pages_cut_off_at_any_byte_change_nothing(make_pair):
    """R8: rows, cursor, watermark and acknowledgement in one piece, or not at all."""
    pair = make_pair(wires=True)
    pair.install(50)
    pair.wait_equal()
    origin = Origin.ready(pair.primary)
    wire = pair.wires[pair.secondary]
    wire.cut_after = 2000
    wire.reset()
    for _ in range(20):
        origin.acquire()
    for limit in range(1500, 9000, 500):
        wire.cut_after = limit
        failures = peer(pair.secondary)["peer"]["failures"]
        wait_until(
            lambda before=failures: wire.cut_after is None
            or peer(pair.secondary)["peer"]["failures"] > before
            or pair.ledger(pair.primary) == pair.ledger(pair.secondary),
            PAIR_SECONDS,
            "another failure",
        )
        assert pair.secondary.cluster.broken_invariants(pair.secondary.database) == ""
    wire.cut_after = None
    pair.wait_connected()
    assert len(pair.wait_equal()) >= 20


# ---- lies ----------------------------------------------------------------------------------------


@pytest.fixture
def lied_to(make_pair, authority):
    """A pair whose secondary hears of the primary through a Meddler only."""
    pair = make_pair(start=False)
    meddler = Meddler(authority, pair.primary.port)
    pair.point(pair.secondary, meddler.port)
    pair.start()
    pair.install(20)
    pair.wait_equal()
    yield pair, meddler
    meddler.close()


def flip(answer):
    """One digit of the body is another: the hash in the token is not."""
    for digit in b"123456789":
        at = answer.body.rfind(digit)
        if at >= 0:
            answer.body = answer.body[:at] + b"0" + answer.body[at + 1 :]
            return answer
    raise AssertionError("a page without a digit")


def cut_body(answer):
    answer.body = answer.body[: len(answer.body) // 2]
    return answer


def cut_body_and_length(answer):
    answer.headers.append(("x-claimed-length", str(len(answer.body))))
    return cut_body(answer)


def garbage(answer):
    answer.body = b"\x1f\x8b" + b"\0" * 100
    return answer


def unsigned(answer):
    answer.headers = [(k, v) for k, v in answer.headers if k.lower() != "twinlease-peer"]
    return answer


@pytest.mark.parametrize("lie", [flip, cut_body, cut_body_and_length, garbage, unsigned])
def test_a_page_that_is_not_what_was_signed_changes_nothing(lied_to, lie):
    """R8: and it is logged."""
    pair, meddler = lied_to
    origin = Origin.ready(pair.primary)
    before = pair.wait_equal()
    meddler.meddle = lambda method, target, answer: (
        lie(answer) if "/changes" in target and answer.status == 200 else answer
    )
    count = failures(pair.secondary)
    lease = origin.acquire()
    wait_until(lambda: failures(pair.secondary) > count + 1, PAIR_SECONDS, "refused twice")
    assert pair.ledger(pair.secondary) == before
    assert origin.at(pair.secondary).leases() == []
    assert any(one["level"] in ("warning", "error") for one in pair.secondary.log_events())
    meddler.meddle = lambda method, target, answer: answer
    pair.wait_connected()
    pair.wait_equal()
    assert [one["lease_ref"] for one in origin.at(pair.secondary).leases()] == [lease["lease_ref"]]


def failures(node):
    said = peer(node)["peer"]
    return said["failures"] + said["refused"]


def test_an_earlier_page_shown_again_changes_nothing(lied_to):
    """R8: the token answers the request's own nonce."""
    pair, meddler = lied_to
    origin = Origin.ready(pair.primary)
    lease = origin.acquire()
    pair.wait_equal()
    old = [
        answer
        for _, target, answer in meddler.seen
        if "/changes" in target and lease["lease_ref"].encode() in answer.body
    ]
    assert old or any(answer.header("content-encoding") for _, _, answer in meddler.seen)
    old = old or [a for _, target, a in meddler.seen if "/changes" in target][-1:]
    count = failures(pair.secondary)
    meddler.meddle = lambda method, target, answer: (
        old[0].copy() if "/changes" in target else answer
    )
    origin.release(lease)
    wait_until(lambda: failures(pair.secondary) > count + 1, PAIR_SECONDS, "refused twice")
    there = origin.at(pair.secondary)
    assert [one["lease_ref"] for one in there.leases()] == [lease["lease_ref"]]
    meddler.meddle = lambda method, target, answer: answer
    pair.wait_connected()
    pair.wait_equal()
    assert there.leases() == []


# ---- figures -------------------------------------------------------------------------------------


def test_an_idle_pair_says_little(make_pair):
    """Less than 1 kB/s in all, TLS and headers included, and a new lease is told at once."""
    pair = make_pair(wires=True)
    pair.install(10)
    origin = Origin.ready(pair.primary)
    pair.wait_equal()

    def pages():
        return [peer(node)["peer"]["pages"] for node in pair.both]

    def moved_on(before, count):
        return all(new >= old + count for old, new in zip(before, pages()))

    before = pages()
    wait_until(lambda: moved_on(before, 1), PAIR_SECONDS, "what was left to say is said")
    before, begun = pages(), time.monotonic()
    carried = sum(wire.carried for wire in pair.wires.values())
    wait_until(lambda: moved_on(before, 2), PAIR_SECONDS, "two more pages each way")
    carried = sum(wire.carried for wire in pair.wires.values()) - carried
    taken = time.monotonic() - begun
    print(f"idle: {carried} bytes in {taken:.1f} s, {carried / taken:.0f} bytes/s")
    assert carried / taken < IDLE_BYTES_PER_SECOND
    lease = origin.acquire()
    begun = time.monotonic()
    wait_until(
        lambda: origin.at(pair.secondary).leases(), PAIR_SECONDS, "the lease is known there"
    )
    assert time.monotonic() - begun < 1 * SLOWNESS, "a long poll returns at once"
    origin.release(lease)


def test_lag_is_measured_and_shown(make_pair):
    """A node that hears nothing says how far it is behind, as far as it can know."""
    pair = make_pair(wires=True)
    pair.install(100)
    origin = Origin.ready(pair.primary)
    pair.wait_equal()
    for node in pair.both:
        wait_until(
            lambda node=node: peer(node)["peer"]["lag_changes"] == 0, PAIR_SECONDS, "no lag"
        )
    pair.wires[pair.secondary].delay_seconds = 0.5
    for _ in range(5):
        origin.acquire()
    wait_until(
        lambda: peer(pair.primary)["peer"]["unacknowledged_changes"] > 0,
        PAIR_SECONDS,
        "the primary sees what is not acknowledged",
    )
    pair.wires[pair.secondary].delay_seconds = 0.0
    pair.wait_equal()
    wait_until(
        lambda: peer(pair.primary)["peer"]["unacknowledged_changes"] == 0,
        PAIR_SECONDS,
        "all is acknowledged",
    )


def test_a_wire_carries_and_counts(authority):
    """The tests' own proxy: what it counts is what went through."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wire = Wire(listener.getsockname()[1])
        with socket.create_connection(("127.0.0.1", wire.port)) as near:
            far, _ = listener.accept()
            near.sendall(b"x" * 1000)
            assert len(far.recv(1000, socket.MSG_WAITALL)) == 1000
            far.sendall(b"y" * 500)
            assert len(near.recv(500, socket.MSG_WAITALL)) == 500
            wait_until(lambda: wire.carried == 1500, 10, lambda: wire.bytes)
            wire.refuse()
            with pytest.raises(ConnectionError):
                if not near.recv(1):
                    raise ConnectionResetError
            far.close()
        wire.close()
