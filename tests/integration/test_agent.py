"""`twinlease agent` started by hand: it holds its leases whatever happens, and never two of one
feature."""

import json
import os
import signal
import stat
import subprocess

import pytest

from agent import (
    BAD_FILE,
    NO_NODE,
    NO_SEAT,
    OK,
    STATE,
    USAGE,
    VERIFICATION,
    Agent,
    NotifySocket,
    held,
)
from node import TOOL, expect
from tls import pem_public
from wall_clock import WallClock
from waiting import wait_until

SECONDS = 30  # for what takes a few


@pytest.fixture
def make_agent(tmp_path):
    """make_agent(node, FEATURES=…): an agent with a client token of that node; not started."""
    made = []

    def make(node=None, folder=None, **settings):
        made.append(Agent(tmp_path / (folder or f"agent-{len(made)}"), **settings))
        if node:
            made[-1].token(node)
        return made[-1]

    yield make
    for agent in made:
        agent.finish()


@pytest.fixture
def agent(make_agent, node, with_seats):
    """One for two seats of `render`; started."""
    with_seats(5)
    return make_agent(node, FEATURES="render=2").start()


def publisher_key(publisher, folder):
    path = folder / "publisher.pem"
    path.write_bytes(pem_public(publisher.key.public_key()))
    return path


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


# ---- the happy path ----


def test_it_holds_and_gives_back(agent, node):
    (lease,) = held(node)
    assert lease["count"] == 2 and lease["lease_ref"] == agent.lease_ref()
    agent.wait_log(r"License acquired: render, 2 seats, until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n")
    agent.stop()
    assert held(node) == []
    assert "License released: render, 2 seats\n" in agent.log()
    assert agent.status_code() == BAD_FILE, "a status file is left"
    assert list(agent.proofs.iterdir()) == []


def test_programs_can_prove_the_licence_offline(
    make_agent, node, with_seats, publisher, tmp_path
):
    with_seats(5)
    agent = make_agent(node, FEATURES="render=2", LEASE_SECONDS=6).start()
    proof = agent.proofs / "render.lease.json"
    assert mode(proof) == 0o644 and mode(agent.status_file) == 0o644
    assert mode(agent.proofs) == 0o755
    key = publisher_key(publisher, tmp_path)
    arguments = ("--lease", str(proof), "--publisher-key", str(key), "--count", "2")
    code, out, err = agent.run_to_end(*arguments, command="verify")
    assert code == OK, out + err
    lease_ref = agent.lease_ref()
    expect(node.delete(f"/-/lease/{lease_ref}"), 204)
    agent.wait_log("License lost: render, 2 seats: ")
    wait_until(lambda: agent.lease_ref() not in (None, lease_ref), SECONDS, "another lease")
    assert json.loads(proof.read_text())["lease_ref"] == agent.lease_ref()
    assert len(held(node)) == 1


def test_several_features(make_agent, node, publisher):
    expect(node.install(publisher.entitlement(node, {"render": 3, "simulate": 1, "mesh": 1})), 201)
    scope_ref = next(
        one["scope_ref"]
        for one in expect(node.get("/-/scopes"), 200)["scope_list"]
        if one["feature"] == "mesh"
    )
    agent = make_agent(node, FEATURES=f"render=3 simulate mesh@{scope_ref}").start()
    assert {one["feature"]: one["count"] for one in node.leases(state="active")} == {
        "render": 3,
        "simulate": 1,
        "mesh": 1,
    }
    code, body, _ = agent.status()
    assert code == OK and [one["feature"] for one in body["feature_list"]] == [
        "render",
        "simulate",
        "mesh",
    ]
    assert body["pid"] == agent.process.pid and body["instance_ref"] == node.instance_ref
    _, text, _ = agent.run_to_end("--feature", "mesh", command="agent status")
    assert text.startswith("mesh: licensed, 1 seat until ") and text.count("\n") == 1
    agent.stop()
    assert node.leases(state="active") == []


# ---- what must not cost the licence, and never take a second one ----


def test_it_is_started_again_and_gives_back(agent, node):
    first = agent.lease_ref()
    agent.stop().start()
    (lease,) = held(node)
    assert lease["lease_ref"] == agent.lease_ref() != first


def test_it_is_started_again_and_keeps(make_agent, node, with_seats):
    with_seats(1)
    agent = make_agent(node, ON_STOP="keep").start()
    first = agent.lease_ref()
    agent.stop()
    assert agent.status_code() == OK, "a kept lease is as good as before"
    (lease,) = held(node)
    assert lease["lease_ref"] == first
    agent.start()
    agent.wait_log("License found again: render, 1 seat, until ")
    agent.wait_lease("render", first)
    (lease,) = held(node)
    assert lease["lease_ref"] == first
    assert "License kept for the next start: render, 1 seat\n" in agent.log()


def test_it_is_started_again_while_no_node_answers(make_agent, node, with_seats):
    with_seats(1)
    agent = make_agent(node, ON_STOP="keep").start()
    first = agent.lease_ref()
    agent.stop()
    node.stop()
    agent.spawn()
    agent.wait_log("License found again, and still valid though no node answers: render, 1 seat")
    agent.wait_lease("render", first)
    node.start()
    agent.wait_log("License renewed: render")
    assert [one["lease_ref"] for one in held(node)] == [first]


def test_it_is_killed(agent, node):
    first = agent.lease_ref()
    for _ in range(3):
        agent.kill().start()
        agent.wait_log("License found again: render, 2 seats")
        assert [one["lease_ref"] for one in held(node)] == [first]


def test_a_start_is_no_loss(make_agent, node, with_seats):
    """Until a node has answered, the status is what the killed agent has left of it: programs that
    ask in between go on, and no longer than the lease."""
    with_seats(1)
    agent = make_agent(node, LEASE_SECONDS=3).start()
    first = agent.lease_ref()
    agent.kill()
    node.signal(signal.SIGSTOP)
    try:
        agent.spawn()
        wait_until(
            lambda: json.loads(agent.status_file.read_text())["pid"] == agent.process.pid,
            SECONDS,
            "the new agent's status file",
        )
        code, document, _ = agent.status()
        (feature,) = document["feature_list"]
        assert code == OK and agent.lease_ref() == first, feature
        wait_until(lambda: agent.status_code() != OK, SECONDS, "the end of the lease")
    finally:
        node.signal(signal.SIGCONT)
    agent.wait_licensed()
    assert len(held(node)) == 1


def test_it_stands_still_for_longer_than_its_lease(make_agent, node, with_seats):
    with_seats(1)
    agent = make_agent(node, LEASE_SECONDS=3).start()
    first = agent.lease_ref()
    agent.signal(signal.SIGSTOP)
    wait_until(lambda: held(node) == [], SECONDS, "the seat to come back")
    assert agent.run_to_end(command="agent status")[0] != OK, "its lease has expired"
    agent.signal(signal.SIGCONT)
    agent.wait_log("License lost: render, 1 seat: ")
    wait_until(lambda: agent.lease_ref() not in (None, first), SECONDS, "another lease")
    assert [one["lease_ref"] for one in held(node)] == [agent.lease_ref()]


def test_its_seat_is_somebody_else_s_when_it_comes_back(make_agent, node, with_seats):
    with_seats(1)
    agent = make_agent(node, LEASE_SECONDS=3).start()
    agent.signal(signal.SIGSTOP)
    wait_until(lambda: held(node) == [], SECONDS, "the seat to come back")
    other = make_agent(node).start()
    agent.signal(signal.SIGCONT)
    agent.wait_status(NO_SEAT)
    assert [one["lease_ref"] for one in held(node)] == [other.lease_ref()]
    assert not (agent.proofs / "render.lease.json").exists()
    other.stop()
    agent.wait_licensed()


def test_either_node_is_killed(make_agent, make_pair):
    pair = make_pair()
    pair.install(1)
    agent = make_agent(pair.primary, LEASE_SECONDS=6, DEBUG="yes").start()
    first = agent.lease_ref()
    for node in (pair.primary, pair.secondary, pair.primary):
        renewed = agent.log().count("License renewed")
        node.kill()
        agent.wait_log("License renewed", times=renewed + 4)
        assert agent.status_code() == OK
        node.start_alive()
        pair.wait_connected()
    assert agent.lease_ref() == first and "License lost" not in agent.log()
    for node in pair.both:
        assert [one["lease_ref"] for one in held(node)] == [first]
    agent.stop()
    wait_until(lambda: not any(held(node) for node in pair.both), SECONDS, "the seat is back")


@pytest.mark.skipif("/asan/" in TOOL or "/tsan/" in TOOL, reason="preloads a library")
def test_the_wall_clock_steps(make_agent, node, with_seats, tmp_path):
    """The agent's alone, by minutes and by a day: what it holds is counted on the boot clock."""
    with_seats(1)
    agent = make_agent(node, LEASE_SECONDS=6, DEBUG="yes")
    clock = WallClock(tmp_path)
    agent.more_environment = clock.environment
    agent.start()
    first = agent.lease_ref()
    for step in (3600, -1800, 86400, 0):
        clock.step(step)
        renewed = agent.log().count("License renewed")
        agent.wait_log("License renewed", times=renewed + 3)
        assert agent.status_code() == OK
    assert agent.lease_ref() == first and "License lost" not in agent.log()
    assert [one["lease_ref"] for one in held(node)] == [first]


def test_the_operator_ends_its_lease(make_agent, node, with_seats):
    with_seats(5)
    agent = make_agent(node, FEATURES="render=2", LEASE_SECONDS=6).start()
    first = agent.lease_ref()
    expect(node.delete(f"/-/lease/{first}"), 204)
    agent.wait_log("License lost: render, 2 seats: ")
    wait_until(lambda: agent.lease_ref() not in (None, first), SECONDS, "another lease")
    assert [one["lease_ref"] for one in held(node)] == [agent.lease_ref()]


# ---- SIGHUP ----


def conf(agent, **settings):
    """The settings that a SIGHUP reads again stand in a file."""
    for name in settings:
        agent.settings.pop(name, None)
    path = agent.folder / "agent.conf"
    path.write_text("".join(f"TWINLEASE_{name}={value}\n" for name, value in settings.items()))
    return path


def reload(agent, **settings):
    told = agent.log().count("Settings ")
    conf(agent, **settings)
    agent.signal(signal.SIGHUP)
    agent.wait_log("Settings (read again|not changed)", times=told + 1)


def test_sighup_follows_the_features(make_agent, node, publisher):
    expect(node.install(publisher.entitlement(node, {"render": 5, "simulate": 5, "mesh": 5})), 201)
    agent = make_agent(node)
    file = conf(agent, FEATURES="'render simulate'")
    agent.start("--config", str(file))
    render = agent.lease_ref("render")
    simulate = agent.lease_ref("simulate")
    reload(agent, FEATURES="'render mesh=2'")
    agent.wait_log("License released: simulate, 1 seat")
    agent.wait_status(OK, "--feature", "mesh")
    assert agent.lease_ref("render") == render, "what stays is left alone"
    assert {(one["feature"], one["count"]) for one in node.leases(state="active")} == {
        ("render", 1),
        ("mesh", 2),
    }
    assert not (agent.proofs / "simulate.lease.json").exists()
    reload(agent, FEATURES="'render=4 mesh=2 simulate'")
    agent.wait_log("License acquired: render, 4 seats")
    agent.wait_licensed()
    assert sorted((one["feature"], one["count"]) for one in node.leases(state="active")) == [
        ("mesh", 2),
        ("render", 4),
        ("simulate", 1),
    ]
    assert agent.lease_ref("render") != render and agent.lease_ref("simulate") != simulate
    assert json.loads((agent.proofs / "render.lease.json").read_text())["count"] == 4


def test_a_changed_count_never_has_two_leases(make_agent, node, with_seats):
    """All seats are leased, so that another lease is to be had only when the first is back."""
    with_seats(3)
    agent = make_agent(node)
    file = conf(agent, FEATURES="render=3")
    agent.start("--config", str(file))
    reload(agent, FEATURES="render=2")
    agent.wait_log("License acquired: render, 2 seats")
    assert [one["count"] for one in held(node)] == [2]


def test_a_lease_that_cannot_be_given_back_stands_in_the_way(make_agent, node, with_seats):
    with_seats(5)
    agent = make_agent(node)
    file = conf(agent, FEATURES="render=3")
    agent.start("--config", str(file))
    node.stop()
    reload(agent, FEATURES="render=2")
    agent.wait_status(NO_NODE)
    node.start()
    agent.wait_log("License acquired: render, 2 seats")
    assert [one["count"] for one in held(node)] == [2]


def test_sighup_with_bad_settings_keeps_the_old_ones(make_agent, node, with_seats):
    with_seats(5)
    agent = make_agent(node)
    state = agent.settings["STATE"]
    file = conf(agent, FEATURES="render", STATE=state)
    agent.start("--config", str(file))
    first = agent.lease_ref()
    cases = [
        ({"FEATURES": "render=x"}, r'FEATURES is "render=x"; allowed: '),
        ({"FEATURES": ""}, "TWINLEASE_FEATURES is not set"),
        ({"FEATURS": "render"}, "did you mean TWINLEASE_FEATURES"),
        ({"FEATURES": "render", "STATE": "/elsewhere"}, "TWINLEASE_STATE has changed, which needs"),
        ({"FEATURES": "render", "PUBLISHER_KEY": "/nonexistent"}, "/nonexistent: cannot open it"),
    ]
    for settings, why in cases:
        told = agent.log().count("Settings not changed")
        conf(agent, **{"STATE": state, **settings})
        agent.signal(signal.SIGHUP)
        agent.wait_log(f"Settings not changed, .*{why}")
        assert agent.log().count("Settings not changed") == told + 1
        assert agent.alive() and [one["lease_ref"] for one in held(node)] == [first]
    assert agent.lease_ref() == first


def test_sighup_reads_the_client_token_again(make_agent, make_pair):
    """The first one knows the primary alone; the second one both."""
    pair = make_pair()
    pair.install(1)
    agent = make_agent(pair.primary, DEBUG="yes", LEASE_SECONDS=20).start()
    with open(agent.settings["TOK"], "w", encoding="ascii") as file:
        file.write("nonsense")
    agent.signal(signal.SIGHUP)
    agent.wait_log("Client token not changed, the agent goes on with the old one: ")
    agent.token(pair.secondary)
    agent.signal(signal.SIGHUP)
    agent.wait_log("Settings read again", times=2)
    assert agent.log().count("Client token not changed") == 1
    assert agent.status_code() == OK


# ---- settings that have changed between two runs ----


def test_what_nobody_wants_any_more_is_given_back_by_the_next_run(make_agent, node, publisher):
    expect(node.install(publisher.entitlement(node, {"render": 5, "simulate": 5})), 201)
    agent = make_agent(node, FEATURES="render simulate", ON_STOP="keep").start()
    agent.kill()
    agent.settings["FEATURES"] = "render=2"
    agent.start()
    agent.wait_log("License released: simulate, 1 seat")
    agent.wait_log("License acquired: render, 2 seats")
    assert [(one["feature"], one["count"]) for one in node.leases(state="active")] == [
        ("render", 2)
    ]


# ---- the end ----


def test_a_second_signal_hurries(agent, node):
    node.signal(signal.SIGSTOP)
    try:
        agent.signal(signal.SIGTERM)
        agent.wait_log("Stopping; seats are given back")
        agent.signal(signal.SIGTERM)
        agent.process.wait(5)
    finally:
        node.signal(signal.SIGCONT)
    agent.wait_end()
    assert "what was not comes back when its lease ends" in agent.log()


def test_the_end_is_bounded(make_agent, node, with_seats):
    with_seats(1)
    agent = make_agent(node, STOP_SECONDS=1).start()
    first = agent.lease_ref()
    node.signal(signal.SIGSTOP)
    try:
        agent.signal(signal.SIGINT)
        agent.process.wait(6)
    finally:
        node.signal(signal.SIGCONT)
    agent.wait_end()
    agent.start()
    assert [one["lease_ref"] for one in held(node)] == [agent.lease_ref()]
    assert first


# ---- bad input ----


def test_two_agents_of_one_state_folder(agent, make_agent, node):
    other = make_agent(node, STATE=agent.settings["STATE"])
    code, _, err = other.run_to_end()
    assert code == STATE
    assert f"another agent runs with the state folder {agent.settings['STATE']}" in err
    assert f"pid {agent.process.pid}\n" in err
    assert len(held(node)) == 1
    agent.stop()
    other.start()


def test_settings_that_are_wrong(make_agent, tmp_path):
    agent = make_agent(FEATURES="")
    code, _, err = agent.run_to_end()
    assert code == USAGE and "so there is nothing to hold: name the features in" in err
    code, _, err = agent.run_to_end("--config", "/nonexistent/agent.conf")
    assert code == USAGE and "/nonexistent/agent.conf: cannot be opened" in err
    file = tmp_path / "agent.conf"
    file.write_text("TWINLEASE_FEATURES=render\nTWINLEASE_ONSTOP=keep\n")
    code, _, err = agent.run_to_end("--config", str(file), "--check")
    assert code == USAGE
    assert f"{file}:2: there is no setting TWINLEASE_ONSTOP; did you mean TWINLEASE_ON_STOP?" in err
    file.write_text("TWINLEASE_FEATURES=render\n")
    agent.settings.pop("FEATURES")
    code, out, _ = agent.run_to_end("--config", str(file), "--check")
    assert code == OK and out == "The settings are fine: 1 feature to hold.\n"


def test_the_client_token_is_missing_or_bad(make_agent):
    agent = make_agent()
    code, _, err = agent.run_to_end()
    assert code == BAD_FILE and agent.settings["TOK"] in err
    with open(agent.settings["TOK"], "w", encoding="ascii") as file:
        file.write("nonsense\n")
    code, _, err = agent.run_to_end()
    assert code == BAD_FILE and agent.settings["TOK"] in err


def test_a_misspelt_variable_is_told(make_agent, node, with_seats):
    with_seats(1)
    agent = make_agent(node, ONSTOP="keep", SERVICE_HOST="10.0.0.1").start()
    assert "TWINLEASE_ONSTOP, which is no setting; did you mean TWINLEASE_ON_STOP?" in agent.log()
    assert "SERVICE_HOST" not in agent.log()


def test_the_state_folder_cannot_be_written(make_agent, node, with_seats):
    """It holds and gives back; only a restart cannot find its lease."""
    with_seats(1)
    agent = make_agent(node)
    os.makedirs(agent.settings["STATE"], mode=0o700)
    agent.prefix = [
        "unshare", "--mount", "sh", "-c",
        'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"',
        agent.settings["STATE"],
    ]  # fmt: skip
    agent.start()
    assert "the state cannot be written" in agent.log()
    assert len(held(node)) == 1
    agent.stop()
    assert held(node) == []


def test_the_status_file_cannot_be_written(make_agent, node, with_seats):
    with_seats(1)
    agent = make_agent(node, STATUS_FILE="/proc/agent.json")
    agent.spawn()
    agent.wait_log("License acquired: render")
    agent.wait_log("/proc/agent.json: cannot create it: ")
    agent.stop()
    assert held(node) == [] and agent.log().count("/proc/agent.json") == 1


# ---- the publisher's key ----


def test_a_lease_counts_once_it_is_verified(make_agent, node, with_seats, publisher, tmp_path):
    with_seats(1)
    agent = make_agent(node)
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(pem_public(type(publisher)().key.public_key()))
    file = conf(agent, FEATURES="render", PUBLISHER_KEY=str(stranger))
    agent.spawn("--config", str(file))
    agent.wait_status(VERIFICATION)
    agent.wait_log("License does not count: render: ")
    assert not (agent.proofs / "render.lease.json").exists()
    assert "License acquired" not in agent.log()
    reload(agent, FEATURES="render", PUBLISHER_KEY=str(publisher_key(publisher, tmp_path)))
    agent.wait_licensed()
    assert (agent.proofs / "render.lease.json").exists()
    assert len(held(node)) == 1


# ---- the status ----


def test_exit_codes_of_the_status(make_agent, node, with_seats):
    agent = make_agent(node)
    assert agent.status_code() == BAD_FILE
    with_seats(1)
    other = make_agent(node).start()
    agent.spawn()
    agent.wait_status(NO_SEAT)
    code, _, err = agent.status("--feature", "mesh")
    assert code == USAGE and "mesh: the agent does not hold it" in err
    waiting = subprocess.Popen(
        [TOOL, "agent", "status", "--wait", "60", "--feature", "render"],
        env=agent.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    other.stop()
    out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == OK and out.startswith("render: licensed, 1 seat until ")
    node.stop()
    agent.stop()
    agent.status_file.write_text("{}")
    code, _, err = agent.status()
    assert code == BAD_FILE and "is no status file of an agent" in err


def test_no_node_answers(make_agent, node, with_seats):
    with_seats(1)
    agent = make_agent(node)
    node.stop()
    agent.spawn()
    agent.wait_status(NO_NODE)
    agent.wait_log("License denied: render, 1 seat: .*; next try in [0-9]+ s")
    node.start()
    agent.wait_licensed()


def test_sigusr1_tells_how_it_stands(agent):
    agent.signal(signal.SIGUSR1)
    agent.wait_log(r"render: 2 seats, held until \d{4}-")


# ---- systemd ----


@pytest.fixture
def notified(tmp_path):
    made = NotifySocket(tmp_path / "notify")
    yield made
    made.close()


def test_systemd_is_told(make_agent, node, with_seats, notified):
    with_seats(1)
    agent = make_agent(node)
    agent.more_environment = {"NOTIFY_SOCKET": notified.path, "WATCHDOG_USEC": "600000"}
    agent.start()
    notified.wait("READY=1")
    notified.wait("STATUS=1 of 1 features licensed; render until 20")
    notified.wait("WATCHDOG=1", times=5)
    agent.signal(signal.SIGHUP)
    notified.wait("RELOADING=1")
    notified.wait("READY=1", times=2)
    assert notified.count("MONOTONIC_USEC=") == 1
    agent.signal(signal.SIGSTOP)
    notified.listen()
    os.waitpid(agent.process.pid, os.WUNTRACED)
    notified.listen()
    before = notified.count("WATCHDOG=1")
    assert notified.count("WATCHDOG=1") == before, "it stands still, and says that it lives"
    agent.signal(signal.SIGCONT)
    notified.wait("WATCHDOG=1", times=before + 2)
    agent.stop()
    notified.wait("STOPPING=1")
    notified.wait("EXTEND_TIMEOUT_USEC=20000000")


def test_ready_waits_for_the_licence(make_agent, node, with_seats, notified):
    agent = make_agent(node, READY="licensed")
    agent.more_environment = {"NOTIFY_SOCKET": notified.path}
    node.stop()
    agent.spawn()
    notified.wait("STATUS=0 of 1 features licensed; render: no_node")
    agent.signal(signal.SIGHUP)
    agent.wait_log("Settings read again")
    assert notified.count("READY=1") == 0
    node.start()
    with_seats(1)
    notified.wait("READY=1")
    assert agent.status_code() == OK


def test_the_log_for_journal_and_machines(make_agent, node, with_seats):
    with_seats(2)
    agent = make_agent(node)
    agent.log_file.touch()
    status = os.stat(agent.log_file)
    agent.more_environment = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    agent.start().stop()
    lines = agent.log().splitlines()
    assert all(line.startswith("<6>") for line in lines), lines
    assert any(line.startswith("<6>License acquired: render, 1 seat, until ") for line in lines)
    machine = make_agent(node).start("--json").stop()
    events = [json.loads(line) for line in machine.log().splitlines()]
    (acquired,) = [one for one in events if one["event"] == "license_acquired"]
    assert acquired["feature"] == "render" and acquired["level"] == "info"
