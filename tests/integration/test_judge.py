"""The judge of ha-examples notices what it is there for (no node is needed)."""

import json
import os
import sys

import pytest

from cluster import ROOT

sys.path.insert(0, os.path.join(ROOT, "ha-examples", "lib"))

import ledgers  # noqa: E402  pylint: disable=wrong-import-position
import seat_judge  # noqa: E402  pylint: disable=wrong-import-position


def told(what, ref, at, status=200, client=0, node="primary", **more):
    """An exchange of 10 ms."""
    record = {"client": client, "what": what, "node": node, "ref": ref, "at": at, "till": at + 0.01}
    return {**record, "status": status, **more}


def granted(ref, at, seconds=10.0, count=1, **more):
    return told("acquire", ref, at, 201, count=count, expires_in=seconds, **more)


def problems(*records, seats=1, **options):
    return seat_judge.judge(list(records), seats, **options).problems


def test_one_after_the_other_is_right():
    records = (
        granted("a", 0),
        told("release", "a", 1, 204),
        granted("b", 1.0, client=1),
        told("renew", "b", 5, expires_in=10.0, client=1),
        granted("c", 15.5, client=0),
    )
    verdict = seat_judge.judge(list(records), 1)
    assert not verdict.problems
    assert (verdict.peak, verdict.acknowledged, verdict.exchanges) == (1, 4, 5)


@pytest.mark.parametrize(
    "second",
    [
        granted("b", 5),
        granted("b", 9.9, node="secondary"),
        granted("b", 0, client=1),
    ],
)
def test_two_at_once_are_oversold(second):
    (problem,) = problems(granted("a", 0), second)
    assert "oversold: 2 seats" in problem


def test_seats_are_counted_not_leases():
    assert not problems(granted("a", 0, count=2), granted("b", 1), seats=3)
    assert problems(granted("a", 0, count=2), granted("b", 1, count=2), seats=3)


def test_the_same_reference_is_one_lease():
    """Granted on both nodes while they were cut off from each other: R9."""
    assert not problems(granted("a", 0), granted("a", 1, node="secondary"))


def test_a_renewal_keeps_the_seat():
    renewal = told("renew", "a", 5, expires_in=10.0)
    assert problems(granted("a", 0), renewal, granted("b", 12))
    assert not problems(granted("a", 0), renewal, granted("b", 16))


def test_a_release_counts_from_when_it_was_asked_for():
    cut_off = told("release", "a", 1, 0)
    again = told("release", "a", 3, 204, node="secondary")
    assert not problems(granted("a", 0), cut_off, granted("b", 2, client=1), again)


def test_giving_back_all_ends_all_of_that_machine():
    everything = told("release all", None, 2, 200)
    assert not problems(granted("a", 0), everything, granted("b", 3, client=1))
    assert problems(granted("a", 0, client=1), everything, granted("b", 3))


@pytest.mark.parametrize("status", [404, 409, 410, 401, 500])
@pytest.mark.parametrize("what", ["renew", "release"])
def test_a_lease_that_is_denied_to_its_holder_is_lost(what, status):
    (problem,) = problems(granted("a", 0), told(what, "a", 5, status, node="secondary"))
    assert "lost" in problem


def test_after_its_end_it_may_be_denied():
    assert not problems(granted("a", 0), told("renew", "a", 9.995, 410))
    assert not problems(granted("a", 0), told("renew", "a", 12, 410))


def test_a_list_must_have_what_is_held():
    def listing(*refs, at=5, client=0):
        return told("list", None, at, refs=list(refs), client=client)

    assert not problems(granted("a", 0), listing("a"))
    assert not problems(granted("a", 0), listing(at=11))
    assert not problems(granted("a", 0), listing(client=1))
    assert "does not list" in problems(granted("a", 0), listing("b"))[0]


def mark(text, at):
    return {"mark": text, "at": at}


def test_a_survivor_must_answer_the_very_next_request():
    outage = (granted("a", 0), mark("down primary", 1), mark("up primary", 5))

    def during(status, **more):
        return told("renew", "a", 2, status, node="secondary", expires_in=10.0, **more)

    assert not problems(*outage, during(200), survivor=True)
    assert "request 1 " in problems(*outage, during(503), survivor=True)[0]
    assert "request 1 " in problems(*outage, during(0), survivor=True)[0]
    assert not problems(*outage, during(503, code="ask_other_node"), survivor=True)
    assert "nobody asked" in problems(*outage, survivor=True)[0]


def test_each_request_must_be_answered_by_some_node():
    away = told("renew", "a", 2, 0)
    assert problems(granted("a", 0), away, no_refusal=True)
    answered = told("renew", "a", 3, expires_in=10.0, node="secondary")
    assert not problems(granted("a", 0), away, answered, no_refusal=True)


def test_a_retired_node_decides_nothing():
    span = (granted("a", 0, seconds=60), mark("retired primary", 1), mark("up primary", 9))
    assert not problems(*span, told("renew", "a", 2, 503))
    assert "retired" in problems(*span, told("renew", "a", 2, expires_in=60.0))[0]


def row(ref="a", home="h", state=0, expires_ms=1000):
    text = {"lease_ref": ref, "home": home, "state": state, "expires_ms": expires_ms}
    return "lease " + json.dumps(text)


def test_ledgers_are_compared_row_by_row():
    def differ(one, two, now_ms=500):
        return ledgers.differences(one, two, now_ms)

    assert not differ([row("a"), row("b")], [row("b"), row("a")])
    assert differ([row("a")], [row("a", expires_ms=1001)])
    assert differ([row("a")], [row("a", state=1)], 2000), "also when it is over"
    assert differ([row("a")], [])
    assert differ([], [row("a", state=1)]), "ended, but somebody may still use its token"
    assert differ([row("a", state=0)], [], 2000), "over, but not ended"
    assert not differ([row("a", state=4)], [], 2000)
    assert differ(['origin {"origin_ref": "a"}'], [], 2000)


def test_a_log_without_leases_proves_nothing():
    assert problems(told("renew", "a", 1, 503))
