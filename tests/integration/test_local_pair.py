"""deploy/local-pair from nothing to two nodes that replicate and a lease, and back to nothing."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import tempfile

import pytest

import jose
from cluster import ROOT
from node import NODE, two_ports
from waiting import wait_until
from test_tour import blocks

SCRIPT = os.path.join(ROOT, "deploy", "local-pair")

# It runs what it has built itself: once is enough.
pytestmark = pytest.mark.skipif(
    os.path.realpath(NODE) != os.path.join(ROOT, "build/release/node/twinlease-node"),
    reason="deploy/local-pair runs the release build",
)


@pytest.fixture(scope="module")
def pair():
    """A pair that is up; yields its folder."""
    folder = tempfile.mkdtemp(prefix="twinlease-pair.", dir="/var/tmp")
    local_pair(folder, "up", "--port", str(two_ports()), "--seats", "3", "--quiet")
    yield folder
    local_pair(folder, "down", "--purge")
    assert processes_of(folder) == []
    assert not os.path.exists(folder)


def local_pair(folder, *arguments, code=0):
    done = subprocess.run(
        [SCRIPT, *arguments, "--dir", folder],
        text=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def environment(folder):
    """What pair.env says, as a shell reads it."""
    line = f". {shlex.quote(folder)}/pair.env && set"
    text = subprocess.run(["bash", "-c", line], text=True, capture_output=True, check=True).stdout
    pairs = (row.partition("=") for row in text.splitlines() if "=" in row)
    return {name: "".join(shlex.split(value)) for name, _, value in pairs if name.isupper()}


def processes_of(folder):
    """Command lines of the processes that have to do with the folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(word.startswith(folder) or f"{folder}/" in word for word in words):
            found.append(words)
    return found


def ask(folder, *arguments):
    """curl, as a user of pair.env would."""
    line = f'. {shlex.quote(folder)}/pair.env && curl -sS --cacert "$CA_CERT" {" ".join(arguments)}'
    return subprocess.run(["bash", "-c", line], text=True, capture_output=True, check=False).stdout


def health(folder, name):
    return json.loads(ask(folder, f'"${name.upper()}_URL/-/health"'))


def test_pair_env_says_where_everything_is(pair):
    variables = environment(pair)
    for name in (
        "CA_CERT",
        "ADMIN_TOKEN_FILE",
        "CLIENT_TOKEN_FILE",
        "PUBLISHER_KEY",
        "PUBLISHER_DIR",
    ):
        assert os.path.exists(variables[name]), name
    assert variables["DEMO_FEATURE"] == "render"
    ports = []
    for name in ("PRIMARY", "SECONDARY"):
        assert variables[f"{name}_URL"].startswith("https://localhost:")
        ports.append(int(variables[f"{name}_URL"].rpartition(":")[2]))
        with open(f"/proc/{variables[f'{name}_PID']}/cmdline", encoding="utf-8") as file:
            assert "twinlease-node" in file.read()
    assert ports[1] == ports[0] + 1


def test_the_nodes_replicate(pair):
    said = [health(pair, name) for name in ("primary", "secondary")]
    assert [one["role"] for one in said] == ["PRIMARY", "SECONDARY"]
    assert [one["peer"]["state"] for one in said] == ["connected", "connected"]
    assert said[0]["node_ref"] != said[1]["node_ref"]


def test_each_node_has_its_own_and_both_have_the_instance_s(pair):
    def contents(name, path):
        with open(os.path.join(pair, name, path), "rb") as file:
            return file.read()

    for path in ("state/instance.private.pem", "state/admin.token"):
        assert contents("primary", path) == contents("secondary", path)
    assert contents("ca", "primary.cert.pem") != contents("ca", "secondary.cert.pem")
    for name in ("primary", "secondary"):
        assert b"listen_addresses = ''" in contents(name, "postgres/data/postgresql.conf")


def test_the_secondary_knows_the_lease_and_the_operator(pair):
    def known():
        answer = ask(
            pair,
            '-H "Authorization: Bearer $(cat "$ADMIN_TOKEN_FILE")"',
            '"$SECONDARY_URL/-/leases?state=active"',
        )
        return '"feature":"render"' in answer

    wait_until(known, 30, "the lease is known at the secondary")


def test_the_client_token_names_both(pair):
    variables = environment(pair)
    with open(variables["CLIENT_TOKEN_FILE"], encoding="ascii") as file:
        claims = jose.payload_of(file.read().strip())
    assert claims["node_url_list"] == [variables["PRIMARY_URL"], variables["SECONDARY_URL"]]


def test_a_lease_was_granted(pair):
    answer = ask(
        pair,
        '-H "Authorization: Bearer $(cat "$ADMIN_TOKEN_FILE")"',
        '"$PRIMARY_URL/-/leases?state=active"',
    )
    assert '"feature":"render"' in answer


def test_no_process_of_it_runs_as_root(pair):
    variables = environment(pair)
    if os.geteuid() == 0:
        for name in ("PRIMARY_PID", "SECONDARY_PID"):
            assert os.stat(f"/proc/{variables[name]}").st_uid != 0


def test_secrets_are_closed_to_others(pair):
    variables = environment(pair)
    for name in ("ADMIN_TOKEN_FILE", "PUBLISHER_KEY"):
        assert os.stat(variables[name]).st_mode & 0o007 == 0, name
    for name in (
        "ca/ca.key.pem",
        "ca/primary.key.pem",
        "ca/secondary.key.pem",
        "instance/private.pem",
        "primary/state/instance.private.pem",
        "secondary/state/instance.private.pem",
        "secondary/state/admin.token",
    ):
        assert os.stat(os.path.join(pair, name)).st_mode & 0o077 == 0, name


def test_the_tour_of_the_readme(pair):
    script = "set -eu -o pipefail\n" + "\n".join(blocks("A tour by hand"))
    folder = tempfile.mkdtemp()
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
        env={"PATH": os.environ["PATH"], "PAIR": pair, "HOME": folder},
    )
    shutil.rmtree(folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_the_operator_s_commands_of_the_readme(pair):
    folder = tempfile.mkdtemp()
    done = subprocess.run(
        ["bash", "-c", "set -eu -o pipefail\n" + "\n".join(blocks("Two nodes"))],
        cwd=folder,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
        env={"PATH": f"{pair}/bin:{os.environ['PATH']}", "PAIR": pair, "HOME": folder},
    )
    shutil.rmtree(folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "connected" in done.stdout, done.stdout
    wait_until(lambda: health(pair, "secondary")["self"] == "serving", 30, "it serves again")


def test_up_again_changes_nothing(pair):
    before = environment(pair)
    local_pair(pair, "up", "--quiet")
    assert environment(pair) == before


def test_up_with_other_options_changes_just_that(pair):
    before = environment(pair)["PRIMARY_URL"]
    local_pair(pair, "up", "--seats", "4", "--port", str(two_ports()), "--set", "DEBUG=true")
    assert environment(pair)["PRIMARY_URL"] != before
    answer = ask(
        pair, '-H "Authorization: Bearer $(cat "$ADMIN_TOKEN_FILE")"', '"$PRIMARY_URL/-/scopes"'
    )
    assert '"seats":4' in answer
    for name in ("primary", "secondary"):
        with open(os.path.join(pair, name, "node.conf"), encoding="utf-8") as file:
            assert "DEBUG=true\n" in file.read()
    local_pair(pair, "up", "--set", "", "--quiet")
    with open(os.path.join(pair, "primary", "node.conf"), encoding="utf-8") as file:
        assert "DEBUG" not in file.read()


@pytest.mark.parametrize("name", ["primary", "secondary"])
def test_stop_start_kill(pair, name):
    assert "ready" in local_pair(pair, "status")
    local_pair(pair, "stop", name)
    said = local_pair(pair, "status", code=1)
    assert f"{name}: " in said and "does not run" in said
    local_pair(pair, "stop", name)
    local_pair(pair, "start", name)
    local_pair(pair, "status")
    before = health(pair, name)["node_ref"]
    local_pair(pair, "kill", name)
    assert "does not run" in local_pair(pair, "kill", name, code=1)
    local_pair(pair, "start", name)
    local_pair(pair, "kill", name, "--database")
    assert processes_of(os.path.join(pair, name)) == []
    local_pair(pair, "up", "--quiet")
    local_pair(pair, "status")
    assert health(pair, name)["node_ref"] == before


def test_a_machine_that_is_gone_is_made_anew(pair):
    """R11: its name with the survivor is another one, so an operator retires the old one first."""
    before = health(pair, "secondary")["node_ref"]
    local_pair(pair, "kill", "secondary", "--database")
    shutil.rmtree(os.path.join(pair, "secondary"))
    ask(
        pair,
        '-X POST -H "Authorization: Bearer $(cat "$ADMIN_TOKEN_FILE")"',
        '"$PRIMARY_URL/-/peer/retire"',
    )
    local_pair(pair, "start", "secondary")
    local_pair(pair, "up", "--quiet")
    assert health(pair, "secondary")["node_ref"] != before


def test_down_and_up_again(pair):
    local_pair(pair, "down")
    assert processes_of(pair) == []
    local_pair(pair, "down")
    local_pair(pair, "up", "--quiet")
    local_pair(pair, "status")


def test_a_number_of_another_process_is_not_taken_for_the_node(pair):
    """After a reboot, node.pid may name anything."""
    path = os.path.join(pair, "primary", "node.pid")
    local_pair(pair, "stop", "primary")
    other = subprocess.Popen(["tail", "-f", "/dev/null"])
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{other.pid}\n")
    local_pair(pair, "stop", "primary")
    local_pair(pair, "kill", "primary", code=1)
    assert other.poll() is None, "a process of somebody else was stopped"
    other.terminate()
    other.wait()
    local_pair(pair, "up", "--quiet")


@pytest.mark.parametrize(
    "arguments,code",
    [
        (["stop", "tertiary"], 1),
        (["start"], 2),
        (["start", "primary", "--database"], 2),
        (["stop", "primary", "--no-wait"], 2),
        (["status", "--set", "DEBUG=true"], 2),
        (["up", "--set", "debug"], 2),
        (["up", "--hosts", "one"], 2),
        (["frob"], 2),
        (["up", "--seats", "0"], 2),
        (["up", "--port", "x"], 2),
        (["up", "--lease-seconds"], 2),
        (["status", "--purge"], 2),
    ],
)
def test_wrong_arguments_get_one_sentence(pair, arguments, code):
    done = subprocess.run(
        [SCRIPT, *arguments], text=True, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == code, done
    assert done.stderr.startswith("local-pair: "), done.stderr


@pytest.mark.parametrize("name", ["PRIMARY", "SECONDARY"])
def test_a_port_in_use_is_named(pair, name):
    port = environment(pair)[f"{name}_URL"].rsplit(":", 1)[1]
    folder = tempfile.mkdtemp(prefix="twinlease-pair.", dir="/var/tmp")
    said = local_pair(folder, "up", "--port", port, "--quiet", code=1)
    assert port in said and "cannot be bound" in said
    local_pair(folder, "down", "--purge")
    assert not os.path.exists(folder)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    """`down --purge` would remove them."""
    (tmp_path / "thesis.txt").write_text("years of work\n")
    said = local_pair(str(tmp_path), "up", "--quiet", code=1)
    assert said.startswith(f"local-pair: {tmp_path} has other files in it; "), said
    local_pair(str(tmp_path), "down", "--purge")
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
@pytest.mark.parametrize("verb", ["up", "status", "down"])
def test_another_users_pair_is_left_alone(tmp_path, verb):
    (tmp_path / "options").touch()
    shutil.chown(tmp_path, "nobody")
    said = local_pair(str(tmp_path), verb, "--quiet", code=1)
    assert said.startswith(f"local-pair: {tmp_path} belongs to user nobody: "), said
    assert [entry.name for entry in tmp_path.iterdir()] == ["options"]
