"""The ledger clock (R1) across the stops and starts of a node."""

import time

from node import expect
from origin import Origin


def now_of(node):
    """The ledger clock's present time, in seconds, from an answer that carries it exactly."""
    lease = Origin.ready(node).acquire(duration_seconds=600)
    rows = node.cluster.sql(
        "SELECT created_ms FROM lease WHERE lease_ref = %s", node.database, [lease["lease_ref"]]
    )
    return rows[0][0] / 1000


def test_an_orderly_restart_does_not_set_the_clock_forward(node, publisher):
    expect(node.install(publisher.entitlement(node, {"render": 10})), 201)
    now_of(node)
    for _ in range(3):
        node.restart()
        ahead = now_of(node) - time.time()
        assert ahead < 0.5, f"{ahead} s ahead of the wall clock"


def test_a_killed_node_never_uses_a_time_again(node, publisher):
    expect(node.install(publisher.entitlement(node, {"render": 10})), 201)
    before = now_of(node)
    for _ in range(3):
        ceiling = node.cluster.sql("SELECT ceiling_ms FROM node_state", node.database)[0][0] / 1000
        assert ceiling > before
        node.kill()
        node.start()
        after = now_of(node)
        assert after >= ceiling, "it started below the ceiling that was on disk"
        before = after
