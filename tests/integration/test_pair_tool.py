"""`twinlease peer`: what an operator sees of a pair, and what only a person can decide (R10)."""

import pytest

from node import expect
from pair import PAIR_SECONDS, health, peer, wait_health, wait_peer
from test_tool import NO_NODE, OK, REFUSED, USAGE, Tool
from waiting import wait_until


@pytest.fixture
def pair(make_pair):
    made = make_pair()
    made.install(10)
    return made


@pytest.fixture
def tools(pair, tmp_path):
    return [Tool(node, tmp_path) for node in pair.both]


def words(tool, *arguments, **more):
    """What people read, as words."""
    return tool.run("peer", *arguments, **more).split()


def test_status(pair, tools):
    for node, tool in zip(pair.both, tools):
        said = tool.json("peer", "status")
        assert said["self"]["node_ref"] == health(node)["node_ref"]
        assert said["peer"]["state"] == "connected"
        assert said["peer"]["node_ref"] == health(pair.other(node))["node_ref"]
        shown = words(tool, "status")
        assert said["self"]["node_ref"] + "," in shown and "render" in shown
        assert f"localhost:{pair.other(node).port}," in shown


def test_drain_waits_until_the_other_one_has_everything(pair, tools):
    said = tools[0].json("peer", "drain")
    assert said["self"]["state"] == "drained"
    assert said["peer"]["unacknowledged_changes"] == 0
    assert peer(pair.secondary)["peer"]["closed"] is True
    assert "drained:" in words(tools[1], "status")
    assert tools[0].json("peer", "resume")["self"]["state"] == "serving"
    pair.wait_connected()


def test_resume_says_who_has_not_heard_of_it(pair, tools):
    tools[0].run("peer", "drain")
    pair.secondary.kill()
    wait_peer(pair.primary, "away")
    tools[0].run("peer", "resume", "--timeout", "2", code=NO_NODE)
    assert health(pair.primary)["self"] == "resuming"


def test_retire_asks_on_a_terminal_only(pair, tools):
    tools[0].run("peer", "retire", code=USAGE)
    tools[0].run("peer", "retire", "--yes", code=REFUSED)  # it answers
    tools[0].run("peer", "retire", "nobody", "--yes", code=USAGE)
    assert health(pair.secondary)["self"] == "serving"


def test_retire_says_what_it_costs(pair, tools):
    pair.primary.kill()
    wait_peer(pair.secondary, "away")
    code, _, errors = tools[1].at_a_terminal("no", "peer", "retire")
    assert code == USAGE and "nothing was done" in errors
    code, out, errors = tools[1].at_a_terminal("retire", "peer", "retire")
    assert code == OK, errors
    assert "24 hours" in errors and "render" in errors, "the longest lease and twice the skew"
    until = peer(pair.secondary)["peer"]["waits_until"]
    assert until and until[:19] in out
    assert "until" in words(tools[1], "status")
    pair.primary.start_alive()
    wait_health(pair.primary, lambda one: one["self"] == "retired")


def test_a_drained_node_is_retired_without_a_wait(pair, tools):
    tools[0].run("peer", "drain")
    wait_until(lambda: peer(pair.secondary)["peer"]["closed"], PAIR_SECONDS, "it is closed")
    ref = health(pair.primary)["node_ref"]
    said = tools[1].json("peer", "retire", ref, "--yes")
    assert said["node_ref"] == ref and said["retired_count"] == 1
    assert said["waits_until"] is None
    wait_health(pair.primary, lambda one: one["self"] == "retired")
    expect(pair.secondary.get("/-/ready", token=None), 200)
