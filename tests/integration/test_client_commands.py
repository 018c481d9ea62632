"""Each command for clients once, with time to spare: what tests/valgrind runs, where a handshake
may take longer than a client waits. A command that no node answered in time is repeated; any other
outcome than the expected one is an error."""

import json
import signal
import subprocess

import pytest

from node import TOOL, expect
from test_tool import Tool
from waiting import wait_until

OK, USAGE, NO_NODE, BAD_FILE, REFUSED, ABSENT = 0, 2, 4, 8, 9, 127
PATIENCE_SECONDS = 120
PATIENT = ("--timeout", "60")


@pytest.fixture
def tool(node, publisher, tmp_path):
    publisher.trust(str(tmp_path))
    expect(node.install(publisher.entitlement(node, {"render": 2})), 201)
    (tmp_path / "client.tok").write_text(node.client_token() + "\n")
    return Tool(node, tmp_path)


def in_the_end(tool, *arguments, code=OK):
    """Its output, once it has ended with this code."""
    said = []

    def done():
        ended = subprocess.run(
            [TOOL, *map(str, arguments)], cwd=tool.folder, text=True, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=PATIENCE_SECONDS, check=False, env=tool.environment,
        )  # fmt: skip
        assert ended.returncode in (code, NO_NODE), ended.stdout + ended.stderr
        said[:] = [ended.stdout]
        return ended.returncode == code

    wait_until(done, PATIENCE_SECONDS, f"{arguments} ends with {code}")
    return said[0]


def test_a_lease_from_acquire_to_release(tool):
    lease = json.loads(in_the_end(tool, "acquire", "render", "--wait", "60", *PATIENT, "--json"))
    (tool.folder / "lease.json").write_text(json.dumps(lease))
    again = in_the_end(tool, "acquire", "render", "--wait", "60", *PATIENT, "--json")
    assert json.loads(again)["lease_ref"] == lease["lease_ref"]
    in_the_end(tool, "renew", *PATIENT)
    assert lease["lease_ref"] in in_the_end(tool, "status", "--tok", "client.tok", *PATIENT)
    in_the_end(
        tool, "verify", "--lease", "lease.json", "--publisher-key", "Example Software.pem"
    )
    in_the_end(tool, "release", *PATIENT)
    assert tool.node.leases(state="active") == []


def test_what_goes_wrong(tool):
    in_the_end(tool, "acquire", code=USAGE)
    in_the_end(tool, "acquire", "render", "--tok", "absent", code=BAD_FILE)
    in_the_end(tool, "acquire", "no-such-feature", *PATIENT, code=REFUSED)
    in_the_end(tool, "run", "render", "--", "./absent", code=ABSENT)


def test_a_program_on_a_seat(tool):
    run = ("run", "render", "--wait", "60", *PATIENT, "--")
    assert in_the_end(tool, *run, "echo", "on a seat") == "on a seat\n"
    in_the_end(tool, *run, "sh", "-c", "exit 9", code=9)
    assert tool.node.leases(state="active") == []


def test_a_program_that_is_told_to_end(tool):
    with subprocess.Popen(
        [TOOL, "run", "render", "--wait", "60", *PATIENT, "--", "sh", "-c", "echo up; read never"],
        cwd=tool.folder, env=tool.environment, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
    assert tool.node.leases(state="active") == []


def test_a_machine_with_an_agent(tool):
    tool.environment.update(
        TWINLEASE_FEATURES="render",
        TWINLEASE_STATUS_FILE=str(tool.folder / "agent.json"),
        TWINLEASE_PROOF_DIR=str(tool.folder),
    )
    in_the_end(tool, "agent", "--check")
    with subprocess.Popen(
        [TOOL, "agent"], cwd=tool.folder, env=tool.environment, stderr=subprocess.DEVNULL
    ) as process:
        wait_until(
            (tool.folder / "render.lease.json").exists, PATIENCE_SECONDS, "the agent has a seat"
        )
        in_the_end(
            tool, "verify", "--lease", "render.lease.json",
            "--publisher-key", "Example Software.pem",
        )  # fmt: skip
        assert "render" in in_the_end(tool, "agent", "status", "--wait", "60")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == OK
    assert tool.node.leases(state="active") == []
