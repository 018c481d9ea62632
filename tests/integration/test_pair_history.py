"""R11: a node whose history is shorter than it was notices, and decides nothing more under its old
name; its peer refills it. Nothing is oversold meanwhile, and every seat comes back."""

import os
import shutil

import pytest

from node import expect, expect_problem
from origin import Origin
from pair import PAIR_SECONDS, events, health, peer, scope, wait_health, wait_scope
from test_pair_operator import LEASE_SECONDS, SKEW_SECONDS, wait_ready_code
from waiting import wait_until


@pytest.fixture
def pair(make_pair):
    """With leases that outlast all that is done here."""
    made = make_pair()
    made.install(10)
    return made


class Backup:
    """Of a node that does not run: its database, and, with disk=True, its state folder."""

    def __init__(self, node, disk=False):
        self.node, self.cluster = node, node.cluster
        self.name = f"{node.database}_backup"
        self.cluster.drop_database(self.name)
        self.cluster.sql(f"CREATE DATABASE {self.name} TEMPLATE {node.database}")
        self.folder = node.state_dir + ".backup" if disk else None
        if disk:
            shutil.copytree(node.state_dir, self.folder)

    def restore(self):
        self.cluster.drop_database(self.node.database)
        self.cluster.sql(f"ALTER DATABASE {self.name} RENAME TO {self.node.database}")
        if self.folder:
            shutil.rmtree(self.node.state_dir)
            os.rename(self.folder, self.node.state_dir)


def wipe(node):
    node.cluster.drop_database(node.database)
    node.cluster.sql(f"CREATE DATABASE {node.database} TEMPLATE template0")


def lose_database(node, backup):
    wipe(node)


def restore_dump(node, backup):
    backup.restore()


@pytest.mark.parametrize("victim", ["primary", "secondary"])
@pytest.mark.parametrize(
    "lose,disk",
    [(restore_dump, False), (restore_dump, True), (lose_database, False)],
    ids=["dump", "disk", "wiped"],
)
def test_lost_history_is_noticed_and_healed(pair, victim, lose, disk):
    node = getattr(pair, victim)
    other = pair.other(node)
    before = Origin.ready(other)
    kept = before.at(node).acquire(count=3)
    pair.wait_equal()
    node.stop()
    backup = Backup(node, disk)
    node.start_alive()
    pair.wait_connected()
    old = health(node)["node_ref"]
    kept = before.renew(kept)
    later = before.at(node).acquire(count=2)
    pair.wait_equal()
    node.stop()
    lose(node, backup)
    kept = before.renew(kept)
    node.start_alive()
    pair.wait_connected()
    said = health(node)
    assert said["node_ref"] != old, "R11: it goes on under a name of which it has forgotten deeds"
    assert events(node, "history_lost"), node.log_tail()
    assert events(node, "node_renamed")[-1]["former"] == old
    later = before.at(node).renew(later)
    kept = before.at(node).renew(kept)
    answer = before.post_leases({"feature": "render", "count": 6})
    assert answer.status_code == 409, "5 of 10 are held"
    found = scope(other)
    assert found["used"] == 5 and found["locked"] > 0, "R10: what it had free waits"
    before.release(kept)
    before.release(later)
    pair.wait_equal()


def test_a_peer_that_is_away_lets_a_rolled_back_node_serve_nothing(pair):
    """R11: noticed by its own state file; refilled by nobody, so it waits."""
    node, other = pair.secondary, pair.primary
    origin = Origin.ready(node)
    node.stop()
    backup = Backup(node)
    node.start_alive()
    pair.wait_connected()
    lease = origin.acquire()
    node.stop()
    other.stop()
    backup.restore()
    node.start_alive()
    wait_ready_code(node, "node_unfilled")
    answer = origin.put_lease(lease["lease_ref"], lease_token=lease["lease_token"])
    expect_problem(answer, 503, "node_unfilled")
    other.start_alive()
    pair.wait_connected()
    origin.release(origin.acquire())
    pair.wait_equal()


def test_a_token_of_its_own_future_is_noticed(pair):
    """R11: the disk was swapped, and the peer is away: only a client's lease token can tell."""
    node, other = pair.secondary, pair.primary
    origin = Origin.ready(node)
    pair.wait_equal()
    node.stop()
    backup = Backup(node, disk=True)
    node.start_alive()
    pair.wait_connected()
    lease = origin.acquire()
    old = health(node)["node_ref"]
    for one in pair.both:
        one.stop()
    backup.restore()
    node.start()
    assert health(node)["node_ref"] == old, "nothing is known yet"
    answer = origin.put_lease(lease["lease_ref"], lease_token=lease["lease_token"])
    assert answer.status_code == 503, answer.text
    wait_health(node, lambda said: said["node_ref"] != old)
    wait_ready_code(node, "node_unfilled")
    other.start_alive()
    pair.wait_connected()
    pair.wait_equal()


def test_both_lost_their_history(make_pair):
    """R11: only an operator can start again, and R10's wait is kept."""
    pair = make_pair(MAX_CLOCK_SKEW=SKEW_SECONDS, LEASE_EXPIRE_SECONDS=LEASE_SECONDS)
    pair.install(10)
    pair.wait_equal()
    for node in pair.both:
        node.stop()
        wipe(node)
    for node in pair.both:
        node.start_alive()
    for node in pair.both:
        wait_ready_code(node, "node_unfilled")
    for node in pair.both:
        wait_until(
            lambda node=node: "retire" in (peer(node)["peer"]["detail"] or ""),
            PAIR_SECONDS,
            lambda node=node: f"it says what to do: {peer(node)}",
        )
    expect(pair.primary.post("/-/peer/retire", json={"force": True}), 200)
    wait_until(pair.primary.is_ready, PAIR_SECONDS, lambda: pair.primary.log_tail())
    pair.wait_connected()
    assert peer(pair.primary)["self"]["state"] == "serving"
    pair.install(5)
    Origin.ready(pair.secondary).acquire(count=5)
    wait_scope(pair.primary, lambda one: one["used"] == 5)
