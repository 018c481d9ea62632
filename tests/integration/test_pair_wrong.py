"""Pairings that must not be: each says what is wrong, and what to do."""

import os

import pytest

from node import expect
from origin import Origin
from pair import PAIR_SECONDS, instance_key, peer, wait_peer
from proxy import Wire
from tls import Authority
from waiting import wait_until


def refused(node, reason, *words):
    """The node does not replicate, says why and names the fix, in /-/peer and in its log."""
    wait_peer(node, "refused")
    said = wait_until(
        lambda: (one := peer(node)["peer"])["reason"] == reason and one,
        PAIR_SECONDS,
        lambda: f"{reason}: {peer(node)['peer']}",
    )
    for word in words:
        assert word in said["detail"], said["detail"]
    wait_until(
        lambda: any(
            one["level"] in ("warning", "error") and said["detail"] in one["message"]
            for one in node.log_events()
        ),
        PAIR_SECONDS,
        lambda: f"a line in the log with: {said['detail']}\n{node.log_tail()}",
    )
    return said


def start(pair):
    for node in pair.both:
        node.start_alive()
    return pair


@pytest.mark.parametrize("role", ["PRIMARY", "SECONDARY"])
def test_two_nodes_of_one_role(make_pair, role):
    pair = make_pair(start=False)
    for node in pair.both:
        node.settings["HA_ROLE"] = role
    start(pair)
    for node in pair.both:
        refused(node, "peer_same_role", f"HA_ROLE={role}")
        assert not node.is_ready()


def test_two_instance_keys(make_pair, tmp_path):
    pair = make_pair(start=False)
    pair.secondary.settings.update(instance_key(str(tmp_path / "another")))
    start(pair)
    for node in pair.both:
        refused(node, "peer_other_instance", "INSTANCE_KEY")
        assert not node.is_ready()


def test_two_instance_refs(make_pair):
    pair = make_pair(start=False)
    pair.secondary.settings["INSTANCE_REF"] = "10000000-0000-4000-8000-000000000009"
    start(pair)
    for node in pair.both:
        refused(node, "peer_other_instance", "INSTANCE_REF")


def test_a_node_pointed_at_itself(make_pair):
    """By a detour that its settings do not show."""
    pair = make_pair(start=False)
    wire = Wire(pair.primary.port)
    pair.point(pair.primary, wire.port)
    pair.primary.start_alive()
    refused(pair.primary, "peer_is_self", "HA_REPLICATE")
    assert not pair.primary.is_ready()
    wire.close()


def test_both_on_one_database(make_pair):
    pair = make_pair(start=False)
    pair.secondary.settings["DATABASE"] = pair.primary.settings["DATABASE"]
    pair.secondary.database = pair.primary.database
    pair.primary.start_alive()
    wait_until(
        lambda: pair.primary.get("/-/health", token=None).json()["state"] == "ready",
        PAIR_SECONDS,
        "the first one has the database",
    )
    code, said = pair.secondary.run_to_end()
    assert code == 78, said
    assert "another node owns the database" in said and "a database of its own" in said, said


def test_a_copy_of_the_other_node_s_database(make_pair):
    """R11: the same node_ref twice."""
    pair = make_pair()
    for node in pair.both:
        node.stop()
    cluster, copy = pair.primary.cluster, pair.primary.cluster.create_database()
    cluster.drop_database(copy)
    cluster.sql(f"CREATE DATABASE {copy} TEMPLATE {pair.primary.database}")
    cluster.drop_database(pair.secondary.database)
    cluster.sql(f"ALTER DATABASE {copy} RENAME TO {pair.secondary.database}")
    os.remove(os.path.join(pair.secondary.state_dir, "node.state"))
    start(pair)
    refused(pair.secondary, "peer_is_self", "database")


def test_two_nodes_with_histories_of_their_own(make_pair, publisher):
    """Neither can be refilled without forgetting what it promised."""
    pair = make_pair(start=False)
    peers = {}
    for node in pair.both:
        peers[node] = node.settings.pop("HA_REPLICATE"), node.settings.pop("HA_ROLE")
        node.start()
        expect(node.install(publisher.entitlement(node, {"render": 5})), 201)
        Origin.ready(node).acquire()
        node.stop()
        node.settings["HA_REPLICATE"], node.settings["HA_ROLE"] = peers[node]
    start(pair)
    for node in pair.both:
        refused(node, "peer_has_history", "database")


def test_a_single_node_becomes_a_pair(make_pair, publisher):
    """What one node alone has leased is the pair's, once the other one is there."""
    pair = make_pair(start=False)
    peers = pair.primary.settings.pop("HA_REPLICATE"), pair.primary.settings.pop("HA_ROLE")
    pair.primary.start()
    expect(pair.primary.install(publisher.entitlement(pair.primary, {"render": 5})), 201)
    origin = Origin.ready(pair.primary)
    lease = origin.acquire()
    pair.primary.stop()
    pair.primary.settings["HA_REPLICATE"], pair.primary.settings["HA_ROLE"] = peers
    start(pair)
    pair.wait_connected()
    pair.wait_equal()
    there = origin.at(pair.secondary)
    there.renew(lease)
    wait_until(
        lambda: there.post_leases({"feature": "render", "count": 4}).status_code == 201,
        PAIR_SECONDS,
        "the other seats at the new node",
    )


def test_a_peer_with_another_ca(make_pair, tmp_path):
    """TLS: whoever answers there is not believed."""
    pair = make_pair(start=False)
    folder = tmp_path / "other-ca"
    folder.mkdir()
    pair.secondary.settings["TLS_CA"] = Authority(str(folder)).ca_file
    start(pair)
    said = wait_until(
        lambda: (one := peer(pair.secondary)["peer"])["detail"] and one,
        PAIR_SECONDS,
        lambda: peer(pair.secondary),
    )
    assert said["state"] in ("connecting", "away", "refused")
    assert "TLS_CA" in said["detail"], said
    assert not pair.secondary.is_ready()


def test_the_node_s_own_address_is_no_peer(make_pair):
    pair = make_pair(start=False)
    pair.point(pair.primary, pair.primary.port)
    code, said = pair.primary.run_to_end()
    assert code == 78
    assert "HA_REPLICATE" in said and "must name the other node" in said, said
