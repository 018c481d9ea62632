"""A client and a pair of which one node dies, freezes or comes back; and waiting for a seat. Each
command is a machine that has just been started: it has to find out everything anew."""

import contextlib
import json
import signal
import subprocess
import time

import pytest

from node import TOOL
from pair import SLOWNESS
from test_tool import NO_NODE, NO_SEAT, Tool
from waiting import wait_until

SECONDS = 30 * SLOWNESS  # deadlines are for hangs
INTERRUPTED = 13
FROZEN_SECONDS = 2.5 * SLOWNESS  # what a call may take while one node is frozen


@pytest.fixture
def pair(make_pair):
    made = make_pair()
    made.install(20)
    made.install(2, "rare")
    yield made
    for node in made.both:
        if node.process:
            node.signal(signal.SIGCONT)


@pytest.fixture
def machine(pair, tmp_path):
    tool = Tool(pair.primary, tmp_path)
    tool.run("client-token", "--out", "client.tok")
    return tool


@pytest.fixture(params=["primary", "secondary"])
def victim(request, pair):
    return getattr(pair, request.param)


def clocked(run, *arguments, **more):
    begin = time.monotonic()
    run(*arguments, **more)
    return time.monotonic() - begin


def round_of_calls(machine, state):
    """A fresh machine: enrols, proves who it is, leases; renews; gives back. The longest."""
    client = {"TWINLEASE_STATE": str(machine.folder / state), "TWINLEASE_URL": ""}
    return max(
        clocked(machine.run, *arguments, **client)
        for arguments in (["acquire", "render"], ["renew"], ["status"], ["release"])
    )


@contextlib.contextmanager
def start(machine, *arguments, state="state"):
    """A process that is told of by its first line on standard error, and does not outlast this."""
    with subprocess.Popen(
        [TOOL, *arguments, "--json"],
        cwd=machine.folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**machine.environment, "TWINLEASE_STATE": str(machine.folder / state)},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def active(node):
    return [lease for lease in node.leases() if lease["state"] == "active"]


def test_a_frozen_node_costs_little(machine, victim):
    victim.signal(signal.SIGSTOP)
    assert round_of_calls(machine, "state") < FROZEN_SECONDS


def test_a_dead_node_costs_nothing_to_speak_of(pair, machine, victim):
    usual = round_of_calls(machine, "before")
    victim.kill()
    # A deadline that was waited for would be a second at least.
    assert round_of_calls(machine, "after") < usual + 0.9 * SLOWNESS


def test_a_node_that_is_back_in_time_is_found(pair, machine):
    """The only node restarts: the call outlasts it."""
    pair.secondary.kill()
    pair.primary.kill()
    with start(machine, "acquire", "render", "--wait", "60") as waiting:
        assert "Waiting for a node" in waiting.stderr.readline()
        pair.primary.start_alive()
        out, errors = waiting.communicate(timeout=SECONDS)
    assert waiting.returncode == 0, errors
    assert json.loads(out)["count"] == 1


def test_both_dead(pair, machine):
    for node in pair.both:
        node.kill()
    assert clocked(machine.run, "acquire", "render", code=NO_NODE) < FROZEN_SECONDS * 2


def test_waiting_for_a_seat_ends_with_its_release(pair, machine):
    for state in ("one", "two"):
        machine.run("acquire", "rare", TWINLEASE_STATE=str(machine.folder / state))
    with start(machine, "acquire", "rare", "--wait", "60", state="three") as waiting:
        assert "Waiting for a seat of rare: 2 of 2 in use" in waiting.stderr.readline()
        machine.run("release", TWINLEASE_STATE=str(machine.folder / "one"))
        released = time.monotonic()
        out, errors = waiting.communicate(timeout=SECONDS)
    assert waiting.returncode == 0, errors
    assert time.monotonic() - released < 5 * SLOWNESS  # a pause of 2.5 s, and the seat's way
    assert json.loads(out)["feature"] == "rare"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_wait_that_is_ended_leaves_nothing_behind(pair, machine, number):
    for state in ("one", "two"):
        machine.run("acquire", "rare", TWINLEASE_STATE=str(machine.folder / state))
    with start(machine, "acquire", "rare", "--wait", "3600", state="three") as waiting:
        waiting.stderr.readline()
        waiting.send_signal(number)
        out, errors = waiting.communicate(timeout=SECONDS)
    assert waiting.returncode == INTERRUPTED, errors
    assert json.loads(out)["error"]["code"] == "interrupted"
    assert len(active(pair.primary)) == 2
    machine.run("acquire", "rare", code=NO_SEAT, TWINLEASE_STATE=str(machine.folder / "three"))


def test_a_wait_for_frozen_nodes_can_be_ended(pair, machine):
    """And what it had begun is found by the next acquire of the machine: one seat in all."""
    machine.run("acquire", "render")
    machine.run("release")  # enrolled
    for node in pair.both:
        node.signal(signal.SIGSTOP)
    with start(machine, "acquire", "render", "--wait", "60") as waiting:
        assert "Waiting for a node" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        out, errors = waiting.communicate(timeout=SECONDS)
    assert waiting.returncode == INTERRUPTED, errors + out
    for node in pair.both:
        node.signal(signal.SIGCONT)
    pair.wait_connected()
    machine.run("acquire", "render")
    wait_until(lambda: len(active(pair.primary)) == 1, SECONDS, "one active lease")
