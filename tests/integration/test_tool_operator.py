"""The tool's commands for operators: every call of the operator API has one, with --json, and each
documented exit code is reached by a command that earns it."""

import json
import os
import re
import signal
import subprocess
import uuid

import pytest

import strange_node
from cluster import ROOT
from conftest import started
from node import TOOL, expect, free_port
from origin import Origin
from strange_node import LooseInstance, StrangeNode, answer, server_tls
from test_tool import NOT_AUTHORISED, OK, REFUSED, USAGE, Tool
from tls import Authority
from waiting import wait_until

# Calls of the operator API, and the commands that make them.
COMMANDS = {
    ("get", "/-/health"): "status",
    ("get", "/-/ready"): "status",
    ("get", "/-/scopes"): "status",
    ("get", "/-/config"): "config",
    ("get", "/-/origins"): "origins",
    ("delete", "/-/origins"): "origin delete",
    ("delete", "/-/origins/{origin_ref}"): "origin delete",
    ("get", "/-/leases"): "leases",
    ("delete", "/-/leases/expired"): "leases purge",
    ("delete", "/-/lease/{lease_ref}"): "revoke",
    ("get", "/-/client-token"): "client-token",
    ("get", "/-/instance-token"): "instance-token",
    ("get", "/-/entitlements"): "entitlement list",
    ("post", "/-/entitlements"): "entitlement install",
    ("get", "/-/peer"): "peer status",
    ("post", "/-/peer/retire"): "peer retire",
    ("post", "/-/peer/drain"): "peer drain",
    ("post", "/-/peer/resume"): "peer resume",
}

# Calls that browsers and programs make, and the other node.
NO_COMMAND = ("/-/readme", "/-/openapi.json", "/-/session", "/-/manage", "/-/web/", "/-/ha/")


def test_every_call_has_a_command():
    with open(os.path.join(ROOT, "node/http/openapi.json"), encoding="utf-8") as file:
        paths = json.load(file)["paths"]
    calls = {
        (method, path)
        for path, methods in paths.items()
        for method in methods
        if method in ("get", "post", "put", "delete")
        and path.startswith("/-/")
        and not path.startswith(NO_COMMAND)
    }
    assert calls == set(COMMANDS)
    shown = subprocess.run([TOOL, "--help"], text=True, capture_output=True, check=True).stdout
    for command in set(COMMANDS.values()):
        assert re.search(rf"^  {command}  ", shown, re.M), f"--help does not list {command}"


@pytest.fixture
def tool(node, publisher, tmp_path):
    """With three seats, and a client token."""
    expect(node.install(publisher.entitlement(node, {"render": 3})), 201)
    (tmp_path / "client.tok").write_text(node.client_token() + "\n")
    return Tool(node, tmp_path)


# ---- commands -----------------------------------------------------------------------------------


def test_every_command_has_json(tool):
    """One document, and nothing else, on standard output."""
    tool.run("acquire", "render")
    for command in sorted(set(COMMANDS.values()) - {"origin delete", "revoke"}):
        operands = {"entitlement install": ["absent"], "peer retire": ["--yes"]}.get(command, [])
        done = subprocess.run(
            [TOOL, *command.split(), *operands, "--timeout", "3", "--json"], cwd=tool.folder,
            text=True, capture_output=True, timeout=60, check=False, env=tool.environment,
        )  # fmt: skip
        said = json.loads(done.stdout)
        assert ("error" in said) == (done.returncode != OK), (command, said)
        if done.returncode != OK:
            assert said["error"]["message"] in done.stderr


def test_delete_one_machine(tool):
    gone, stays = Origin.ready(tool.node), Origin.ready(tool.node)
    gone.acquire()
    kept = stays.acquire()
    assert tool.json("origin", "delete", gone.ref) == {"deleted": gone.ref}
    assert [one["origin_ref"] for one in tool.json("origins")["origin_list"]] == [stays.ref]
    active = tool.json("leases", "--only", "active")["lease_list"]
    assert [one["lease_ref"] for one in active] == [kept["lease_ref"]]
    tool.run("origin", "delete", str(uuid.uuid4()), code=REFUSED)
    tool.run("origin", "delete", "nobody", code=USAGE)
    tool.run("origin", "delete", code=USAGE)
    tool.run("origin", "delete", stays.ref, "--all", code=USAGE)


def test_delete_every_machine_asks_first(tool):
    for _ in range(2):
        Origin.ready(tool.node).acquire()
    tool.run("origin", "delete", "--all", code=USAGE)  # nobody to ask
    code, _, errors = tool.at_a_terminal("yes", "origin", "delete", "--all")
    assert code == USAGE and "enrol again" in errors and "nothing was done" in errors
    assert len(tool.node.origins()) == 2
    code, out, errors = tool.at_a_terminal("delete", "origin", "delete", "--all")
    assert code == OK and "Deleted 2 machines" in out, errors
    assert tool.node.origins() == []


def test_delete_every_machine_without_asking(tool):
    Origin.ready(tool.node)
    assert tool.json("origin", "delete", "--all", "--yes")["deleted_count"] == 1
    assert tool.json("origins")["origin_list"] == []


def test_purge(nodes, publisher, tmp_path):
    node = started(nodes, publisher, ENDED_KEEP_HOURS=0)
    expect(node.install(publisher.entitlement(node, {"render": 3})), 201)
    tool, origin = Tool(node, tmp_path), Origin.ready(node)
    kept = origin.acquire()
    origin.acquire(duration_seconds=1)
    wait_until(lambda: tool.json("leases", "purge")["purged_count"] == 1, 30, "it was purged")
    assert [one["lease_ref"] for one in tool.json("leases")["lease_list"]] == [kept["lease_ref"]]
    assert "Purged 0 ended leases" in tool.run("leases", "purge")


def test_leases_of_one_machine(tool):
    first, second = Origin.ready(tool.node), Origin.ready(tool.node)
    first.acquire()
    lease = second.acquire()
    said = tool.json("leases", "--origin", second.ref.upper())
    assert [one["lease_ref"] for one in said["lease_list"]] == [lease["lease_ref"]]
    assert said["complete"] is True
    assert tool.json("leases", "--origin", str(uuid.uuid4()))["lease_list"] == []
    tool.run("leases", "--origin", "nobody", code=USAGE)
    tool.run("leases", "--only", "lost", code=USAGE)


def test_machines_with_their_leases(tool):
    origin = Origin.ready(tool.node)
    lease = origin.acquire()
    assert lease["lease_ref"] in tool.run("origins", "--leases")
    assert lease["lease_ref"] not in tool.run("origins")
    (shown,) = tool.json("origins", "--leases")["origin_list"]
    assert [one["lease_ref"] for one in shown["active_lease_list"]] == [lease["lease_ref"]]


def test_config(tool):
    said = tool.json("config")
    assert said["DLS_PORT"]["value"] == tool.node.port
    shown = tool.run("config")
    assert re.search(rf"^DLS_PORT +{tool.node.port} ", shown, re.M), shown
    assert len(shown.splitlines()) == len(said), "one line for each setting"


def test_a_viewer_may_look_and_not_touch(tool):
    """What the node refuses is told as it is."""
    (tool.folder / "none.token").write_text("x" * 43)
    os.chmod(tool.folder / "none.token", 0o600)
    for command in ("config", "leases", "origins", "leases purge", "origin delete --all --yes"):
        tool.run(*command.split(), code=NOT_AUTHORISED, TWINLEASE_TOKEN_FILE="none.token")


# ---- exit codes ---------------------------------------------------------------------------------


def documented_codes():
    """As `twinlease --help` lists them."""
    shown = subprocess.run([TOOL, "--help"], text=True, capture_output=True, check=True).stdout
    listed = shown.split("Exit codes:")[1]
    return {int(number) for number in re.findall(r"^ +(\d+)  \S", listed, re.M)}


def test_the_readme_lists_them():
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        section = file.read().split("### Exit codes")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (?:`\w+` )?\| (.+) \|$", section, re.M)
    shown = subprocess.run([TOOL, "--help"], text=True, capture_output=True, check=True).stdout
    assert rows == re.findall(r"^ +(\d+)  (.+)$", shown.split("Exit codes:")[1], re.M)


def ends(tool, code, *arguments, **more):
    tool.run(*arguments, code=code, **more)
    return code


def output_that_cannot_be_written(tool):
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run(
            [TOOL, "status"], env=tool.environment, stdout=full, stderr=subprocess.PIPE,
            timeout=60, check=False, text=True,
        )  # fmt: skip
    assert "could not be written" in done.stderr
    return done.returncode


def no_seat(tool):
    return ends(tool, 3, "acquire", "render", "--another")


def nodes_that_are_down(tool):
    return ends(tool, 4, "leases", TWINLEASE_URL=f"https://localhost:{free_port()}")


def lease_that_was_revoked(tool):
    (lease,) = tool.json("status", "--tok", tool.folder / "client.tok")["lease_list"]
    tool.run("revoke", lease["lease_ref"])
    return ends(tool, 6, "renew")


def lease_of_another_publisher(tool):
    (tool.folder / "lease.json").write_text(json.dumps(tool.json("acquire", "render")))
    tool.run("publisher", "init", "--dir", "keys", "--name", "Other")
    return ends(
        tool, 7, "verify", "--lease", "lease.json", "--publisher-key", "keys/Other.pem"
    )


def answers_of_a_stranger(tool, authority):
    node = StrangeNode(answer("<html>", "text/html"), server_tls(authority))
    try:
        return ends(tool, 10, "leases", TWINLEASE_URL=node.url)
    finally:
        node.close()


def certificate_of_a_stranger(tool, tmp_path_factory):
    other = Authority(str(tmp_path_factory.mktemp("other")))
    return ends(tool, 11, "leases", TWINLEASE_CA=other.ca_file)


def programs_that_cannot_be(tool):
    (tool.folder / "text").write_text("no program")
    ends(tool, 126, "run", "render", "--", tool.folder / "text")
    ends(tool, 127, "run", "render", "--", tool.folder / "absent")
    return {126, 127}


def state_that_cannot_be_kept(tool):
    (tool.folder / "file").write_text("")
    return ends(tool, 12, "acquire", "render", TWINLEASE_STATE=str(tool.folder / "file"))


def wait_that_is_ended(tool):
    """For a node that is silent, so that it waits for certain."""
    node = StrangeNode(strange_node.silent)
    instance = LooseInstance(tool.node)
    (tool.folder / "other.tok").write_text(instance.token(node.url))
    environment = {**tool.environment, "TWINLEASE_TOK": str(tool.folder / "other.tok")}
    with subprocess.Popen(
        [TOOL, "acquire", "render", "--wait", "60"], env=environment, stderr=subprocess.PIPE
    ) as process:
        wait_until(lambda: node.connections, 30, "it asks")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    node.close()
    assert process.returncode == 13, errors
    return process.returncode


def test_every_exit_code(tool, authority, tmp_path_factory):
    """In an order in which one prepares the next."""
    reached = {
        ends(tool, 0, "acquire", "render", "--count", 3),
        no_seat(tool),
        output_that_cannot_be_written(tool),
        ends(tool, 2, "acquire"),
        nodes_that_are_down(tool),
        ends(tool, 5, "leases", TWINLEASE_TOKEN_FILE=tool.environment["TWINLEASE_TOK"]),
        lease_that_was_revoked(tool),
        lease_of_another_publisher(tool),
        ends(tool, 8, "acquire", "render", TWINLEASE_TOK="absent.tok"),
        ends(tool, 9, "acquire", "no-such-feature"),
        answers_of_a_stranger(tool, authority),
        certificate_of_a_stranger(tool, tmp_path_factory),
        state_that_cannot_be_kept(tool),
        wait_that_is_ended(tool),
        *programs_that_cannot_be(tool),
    }
    assert reached == documented_codes()
