"""Done-when 4: more clients than seats, all at once."""

import datetime
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from node import expect, expect_problem
from origin import Origin


def at_once(calls):
    """Runs all calls from as many threads, released together; returns their results in order."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait(60)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(run, call) for call in calls]]


def instant(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def ready_origins(node, count):
    client_token = node.client_token()
    return [Origin.ready(node, client_token) for _ in range(count)]


def test_fifty_clients_three_seats(node, with_seats):
    with_seats(3)
    origins = ready_origins(node, 50)
    answers = at_once(
        [lambda o=o: o.post_leases({"feature": "render", "duration_seconds": 600}) for o in origins]
    )
    granted = [a for a in answers if a.status_code == 201]
    denied = [a for a in answers if a.status_code != 201]
    assert len(granted) == 3 and len(denied) == 47, [a.status_code for a in answers]
    ends = [instant(a.json()["lease_result_list"][0]["expires"]) for a in granted]
    for answer in denied:
        problem = expect_problem(answer, 409, "no_free_seat")
        assert problem["seats"] == 3 and problem["used"] == 3, problem
        assert abs(instant(problem["next_expected"]) - min(ends)) < 1, problem
        assert time.time() < instant(problem["next_expected"]) < time.time() + 601
    assert len(node.leases()) == 3


def test_same_reference_twenty_times(node, with_seats, origin):
    with_seats(3)
    ref = str(uuid.uuid4())
    sessions = [node.new_session() for _ in range(20)]
    body = {"lease_request_list": [{"feature": "render", "candidate_lease_ref": ref}]}
    answers = at_once(
        [
            lambda s=s: node.post("/v1/leases", token=origin.token, session=s, json=body)
            for s in sessions
        ]
    )
    assert sorted(a.status_code for a in answers) == [200] * 19 + [201], [a.text for a in answers]
    leases = [a.json()["lease_result_list"][0] for a in answers]
    assert {lease["lease_ref"] for lease in leases} == {ref}
    assert len({lease["expires"] for lease in leases}) == 1
    assert [lease["lease_ref"] for lease in origin.leases()] == [ref]


def test_same_reference_after_a_restart(node, with_seats, origin):
    with_seats(1)
    first = origin.acquire(candidate_lease_ref=str(uuid.uuid4()))
    node.restart()
    again = origin.acquire(status=200, candidate_lease_ref=first["lease_ref"])
    assert again["lease_ref"] == first["lease_ref"]
    assert again["expires"] == first["expires"]
    expect_problem(origin.post_leases({"feature": "render"}), 409, "no_free_seat")


def test_last_seat_goes_round(node, with_seats):
    """One seat, released and fought for again: each round has exactly one winner."""
    with_seats(1)
    origins = ready_origins(node, 8)
    for _ in range(10):
        answers = at_once([lambda o=o: o.post_leases({"feature": "render"}) for o in origins])
        winners = [(o, a) for o, a in zip(origins, answers) if a.status_code == 201]
        assert len(winners) == 1, [a.status_code for a in answers]
        holder, answer = winners[0]
        holder.release(answer.json()["lease_result_list"][0])


def test_all_or_nothing_under_contention(node, publisher):
    """Requests for two features in both orders never leave half a grant behind."""
    expect(node.install(publisher.entitlement(node, {"render": 4, "simulate": 4})), 201)
    origins = ready_origins(node, 12)
    orders = [("render", "simulate"), ("simulate", "render")]

    def take(number):
        return origins[number].post_leases(*({"feature": f} for f in orders[number % 2]))

    answers = at_once([lambda n=n: take(n) for n in range(12)])
    assert [a.status_code for a in answers].count(201) == 4
    leases = node.leases()
    assert sorted(lease["feature"] for lease in leases) == ["render"] * 4 + ["simulate"] * 4


@pytest.mark.parametrize("count", [2, 3])
def test_counts_are_never_split(node, with_seats, count):
    with_seats(7)
    origins = ready_origins(node, 6)
    answers = at_once(
        [lambda o=o: o.post_leases({"feature": "render", "count": count}) for o in origins]
    )
    assert [a.status_code for a in answers].count(201) == 7 // count
    assert sum(lease["count"] for lease in node.leases()) == 7 // count * count
