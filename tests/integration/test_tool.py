"""The twinlease tool against a node: what README.md shows, every command, and its exit codes."""

import json
import os
import pty
import subprocess

import pytest

import jose
from node import TOOL, expect
from test_tour import blocks
from tls import Authority
from waiting import wait_until

OK, USAGE, NO_SEAT, NO_NODE, NOT_AUTHORISED, LEASE_LOST, VERIFICATION, BAD_FILE, REFUSED = (
    0, 2, 3, 4, 5, 6, 7, 8, 9,
)  # fmt: skip


class Tool:
    """The tool as an operator, a publisher and a client use it, in a folder of its own."""

    def __init__(self, node, folder):
        self.node, self.folder = node, folder
        self.environment = {
            "PATH": f"{os.path.dirname(TOOL)}:{os.environ['PATH']}",
            "HOME": str(folder),
            "TWINLEASE_URL": node.url,
            "TWINLEASE_CA": node.ca_file,
            "TWINLEASE_TOKEN_FILE": f"{node.state_dir}/admin.token",
            "TWINLEASE_TOK": str(folder / "client.tok"),
            "TWINLEASE_STATE": str(folder / "state"),
        }

    def run(self, *arguments, code=OK, **environment):
        done = subprocess.run(
            [TOOL, *map(str, arguments)],
            cwd=self.folder,
            text=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
            env={**self.environment, **environment},
        )
        assert (
            done.returncode == code
        ), f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        if code != OK:
            assert done.stderr.startswith("twinlease: "), done.stderr
        return done.stdout

    def json(self, *arguments, **more):
        return json.loads(self.run(*arguments, "--json", **more))

    def at_a_terminal(self, line, *arguments):
        """With somebody who types this line; returns exit code, output and errors."""
        master, slave = pty.openpty()
        with subprocess.Popen(
            [TOOL, *map(str, arguments)],
            text=True,
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self.environment,
        ) as process:
            os.close(slave)
            os.write(master, f"{line}\n".encode())
            out, errors = process.communicate(timeout=60)
        os.close(master)
        return process.returncode, out, errors

    def issue(self, *arguments, out="demo.entitlement", name="Tool Software"):
        self.run(
            "publisher", "issue", "--key", "keys/publisher.private.pem", "--publisher", name,
            "--instance-token", "instance.token", "--out", out, *arguments,
        )  # fmt: skip


@pytest.fixture
def tool(nodes, tmp_path):
    node = nodes.make()
    node.start()
    return Tool(node, tmp_path)


@pytest.fixture(params=jose.KEY_TYPES)
def any_kind(request):
    return request.param


def equip(tool, kind="ec", seats=2, *more):
    """From nothing to a client token: the operator's and the publisher's part."""
    tool.run("publisher", "init", "--dir", "keys", "--name", "Tool Software", "--type", kind)
    os.replace(
        tool.folder / "keys/Tool Software.pem",
        os.path.join(tool.node.publishers_dir, "Tool Software.pem"),
    )
    tool.node.restart()
    tool.run("instance-token", "--out", "instance.token")
    tool.issue("--feature", f"render={seats}", "--days", "30", *more)
    tool.run("entitlement", "install", "demo.entitlement")
    tool.run("client-token", "--out", "client.tok")


def public_key(tool):
    return os.path.join(tool.node.publishers_dir, "Tool Software.pem")


def test_the_whole_way(tool, any_kind):
    equip(tool, any_kind)
    lease = tool.json("acquire", "render")
    (tool.folder / "lease.json").write_text(json.dumps(lease))
    tool.run("verify", "--lease", "lease.json", "--publisher-key", public_key(tool))
    assert len(tool.node.leases(state="active")) == 1
    tool.run("renew")
    tool.run("release")
    assert tool.node.leases(state="active") == []
    tool.run("status")
    assert "render" in tool.run("entitlement", "list")
    assert tool.run("origins")


def test_acquire_again_takes_no_second_seat(tool):
    equip(tool, seats=2)
    first, again = tool.json("acquire", "render"), tool.json("acquire", "render")
    assert len(tool.node.leases(state="active")) == 1
    assert first["lease_ref"] == again["lease_ref"]
    another = tool.json("acquire", "render", "--another")
    assert another["lease_ref"] != first["lease_ref"]
    tool.run("acquire", "render", "--another", code=NO_SEAT)
    tool.run("release", "--all")
    assert tool.node.leases(state="active") == []


def test_exit_codes(tool):
    tool.run("nothing", code=USAGE)
    tool.run("acquire", code=USAGE)
    tool.run("acquire", "render", code=BAD_FILE)  # no client token yet
    equip(tool, seats=1)
    tool.run("acquire", "no-such-feature", code=REFUSED)
    tool.run("acquire", "render", "--count", "7", code=REFUSED)
    tool.run("leases", code=BAD_FILE, TWINLEASE_TOKEN_FILE="/nonexistent")
    (tool.folder / "wrong.token").write_text("x" * 43 + "\n")
    os.chmod(tool.folder / "wrong.token", 0o600)
    tool.run("leases", code=NOT_AUTHORISED, TWINLEASE_TOKEN_FILE="wrong.token")
    lease = tool.json("acquire", "render")
    tool.run("revoke", lease["lease_ref"])
    tool.run("renew", code=LEASE_LOST)
    tool.node.stop()
    tool.run("status", "--timeout", "3", code=NO_NODE)
    tool.run("leases", "--timeout", "3", code=NO_NODE)
    tool.run("acquire", "render", "--timeout", "3", code=NO_NODE)


def test_verify_finds_every_broken_link(tool):
    equip(tool)
    lease = tool.json("acquire", "render")

    def judged(changed, key=public_key(tool), code=VERIFICATION):
        (tool.folder / "judged.json").write_text(json.dumps({**lease, **changed}))
        tool.run("verify", "--lease", "judged.json", "--publisher-key", key, code=code)

    judged({}, code=OK)
    for name in ("lease_token", "entitlement"):
        token = lease[name]
        for place in (3, len(token.split(".")[0]) + 20, len(token) - 20):
            judged({name: jose.changed_byte(token, place)})
    tool.run("publisher", "init", "--dir", "other", "--name", "Other")
    judged({}, key="other/Other.pem")
    (tool.folder / "judged.json").write_text(json.dumps(lease))
    arguments = ("verify", "--lease", "judged.json", "--publisher-key", public_key(tool))
    tool.run(*arguments, "--feature", "simulate", code=VERIFICATION)
    tool.run(*arguments, "--count", "2", code=VERIFICATION)


def test_a_lease_that_is_over_does_not_verify(tool):
    equip(tool)
    lease = tool.json("acquire", "render", "--duration", "1")
    (tool.folder / "lease.json").write_text(json.dumps(lease))
    arguments = ("verify", "--lease", "lease.json", "--publisher-key", public_key(tool))

    def over():
        done = subprocess.run(
            [TOOL, *arguments, "--tolerance", "0"],
            cwd=tool.folder,
            capture_output=True,
            check=False,
        )
        return done.returncode == VERIFICATION

    wait_until(over, 20, "the lease is over")


def test_what_the_publisher_issued(tool):
    equip(tool, "ec", 2, "--max-lease-seconds", "600", "--release", "at_expiry")
    shown = tool.json("publisher", "inspect", "demo.entitlement", "--key", public_key(tool))
    assert "render" in json.dumps(shown) and "at_expiry" in json.dumps(shown)
    claims = jose.payload_of((tool.folder / "demo.entitlement").read_text().strip())
    assert claims["features"][0]["max_lease_seconds"] == 600
    tool.issue(
        "--replaces", "demo.entitlement", "--feature", "render=5", "--days", "30", out="more"
    )
    more = jose.payload_of((tool.folder / "more").read_text().strip())
    assert (more["sub"], more["revision"]) == (claims["sub"], claims["revision"] + 1)
    assert more["features"][0]["scope_ref"] == claims["features"][0]["scope_ref"]
    tool.run("entitlement", "install", "more")
    tool.run("entitlement", "install", "demo.entitlement", code=REFUSED)
    scopes = expect(tool.node.get("/-/scopes"), 200)["scope_list"]
    assert [scope["seats"] for scope in scopes] == [5]


def test_secrets_of_the_publisher_are_private(tool):
    tool.run("publisher", "init", "--dir", "keys", "--name", "Tool Software")
    assert os.stat(tool.folder / "keys/publisher.private.pem").st_mode & 0o777 == 0o600
    before = (tool.folder / "keys/publisher.private.pem").read_bytes()
    tool.run("publisher", "init", "--dir", "keys", "--name", "Tool Software", code=BAD_FILE)
    assert (tool.folder / "keys/publisher.private.pem").read_bytes() == before


def test_a_certificate_of_another_authority_is_refused(tool, tmp_path_factory):
    other = Authority(str(tmp_path_factory.mktemp("other")))
    tool.run("leases", code=11, TWINLEASE_CA=other.ca_file)


def test_what_the_readme_shows(tool, publisher, tmp_path):
    """The block under "The programs", word for word."""
    assert publisher.name == "Example Software", "the name that deploy/local-pair uses"
    publisher.trust(tool.node.publishers_dir)
    tool.node.restart()
    expect(tool.node.install(publisher.entitlement(tool.node, {"render": 3})), 201)
    (tmp_path / "client.tok").write_text(tool.node.client_token() + "\n")
    (tmp_path / "pair.env").write_text(
        f"PRIMARY_URL={tool.node.url}\nCA_CERT={tool.node.ca_file}\n"
        f"ADMIN_TOKEN_FILE={tool.node.state_dir}/admin.token\nDEMO_FEATURE=render\n"
        f"CLIENT_TOKEN_FILE={tmp_path}/client.tok\nPUBLISHER_DIR={tool.node.publishers_dir}\n"
    )
    script = "set -eux -o pipefail\n" + "\n".join(blocks("The programs"))
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
        env={"PATH": tool.environment["PATH"], "HOME": str(tmp_path), "PAIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
