"""Done-when 6: what stops a start. One line on standard error says what is wrong and what to do,
and the exit code is 78 (EX_CONFIG), so that a supervisor does not try again and again."""

import json
import os
import socket
import subprocess
import uuid

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import jose
from node import NODE, expect
from origin import Origin
from tls import pem_private, pem_public, write_private

EX_CONFIG = 78


def is_news(line):
    """What a node logs of what it has made or loaded before it found out."""
    return line.startswith("{") and json.loads(line)["level"] in ("info", "warning")


def refused(node, *words):
    """Starts the node, expects the refusal and returns its line. Every word must stand in it."""
    code, text = node.run_to_end()
    lines = [line for line in text.splitlines() if not is_news(line)]
    assert code == EX_CONFIG, (code, text)
    assert len(lines) == 1, text
    for word in words:
        assert word in lines[0], f"{word!r} is not in: {lines[0]}"
    return lines[0]


# setting, value, and what the line must name
WRONG = [
    ("DLS_PORT", "0"),
    ("DLS_PORT", "65536"),
    ("DLS_PORT", "https"),
    ("DLS_PORT", "443x"),
    ("DEBUG", "maybe"),
    ("LOG_FORMAT", "xml"),
    ("INSTANCE_REF", "one"),
    ("INSTANCE_REF", "1" * 36),
    ("HA_ROLE", "LEADER"),
    ("LEASE_EXPIRE_DAYS", "0"),
    ("LEASE_EXPIRE_DAYS", "91"),
    ("LEASE_EXPIRE_DAYS", "-1"),
    ("LEASE_EXPIRE_DAYS", "1.5"),
    ("LEASE_EXPIRE_SECONDS", "0"),
    ("LEASE_EXPIRE_HOURS", "9999999999999999999999"),
    ("LEASE_RENEWAL_PERIOD", "0"),
    ("LEASE_RENEWAL_PERIOD", "1"),
    ("LEASE_RENEWAL_PERIOD", "nan"),
    ("LEASE_RENEWAL_PERIOD", "0,15"),
    ("TOKEN_EXPIRE_DAYS", "0"),
    ("MAX_CLOCK_SKEW", "0"),
    ("WORKERS", "65"),
    ("BATCH_MAX", "0"),
    ("LISTEN", "nowhere"),
    ("LISTEN", "127.0.0.1:0x50"),
    ("LISTEN", "256.1.1.1"),
    ("QUERY_THREADS", "0"),
    ("CONNECTIONS_MAX", "1"),
    ("BODY_MAX_KIB", "2000"),
]


@pytest.mark.parametrize("name,value", WRONG)
def test_wrong_values(nodes, name, value):
    line = refused(nodes.make(**{name: value}), name)
    assert value in line, f"the line does not say what was found: {line}"


def test_the_database_is_required(nodes):
    refused(nodes.make(DATABASE="None"), "DATABASE")


def test_contradictions(nodes):
    refused(nodes.make(HA_REPLICATE="other.example:443"), "HA_ROLE")
    refused(nodes.make(HA_ROLE="PRIMARY"), "HA_REPLICATE")


def test_unknown_names(nodes, tmp_path):
    refused(nodes.make(TWINLEASE_LEASE_EXPIRE_DAYS="1"), "TWINLEASE_LEASE_EXPIRE_DAYS")
    file = tmp_path / "node.conf"
    file.write_text("DLS_PORT=8443\nLEASE_EXPIRY_DAYS=1\n")
    done = subprocess.run(
        [NODE, "--config", file],
        env={"PATH": os.environ["PATH"]},
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == EX_CONFIG
    assert "LEASE_EXPIRY_DAYS" in done.stderr and len(done.stderr.splitlines()) == 1
    assert "2" in done.stderr, "the line number is not named"


@pytest.mark.parametrize(
    "arguments", [["--config"], ["--config", "/nonexistent"], ["--nothing"], ["x"]]
)
def test_wrong_arguments(arguments):
    done = subprocess.run(
        [NODE, *arguments],
        env={"PATH": os.environ["PATH"]},
        text=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (2, 64, EX_CONFIG), done
    assert done.stderr.strip() and done.stdout == ""


def test_settings_from_a_file_and_the_environment_before_it(nodes, tmp_path):
    node = nodes.make()
    names = [name for name in node.settings if name != "LEASE_EXPIRE_SECONDS"]
    file = tmp_path / "node.conf"
    file.write_text(
        "# a comment\n\n"
        + "".join(f"{name}={node.settings[name]}\n" for name in names)
        + "LEASE_EXPIRE_SECONDS=1000\nTOKEN_EXPIRE_DAYS=3\n"
    )
    node.settings = {"LEASE_EXPIRE_SECONDS": "2000", "STATE_DIR": node.state_dir}
    node.spawn(["--config", str(file)])
    node.wait_ready()
    config = node.get("/-/config").text
    assert "2000" in config and "1000" not in config.replace("10000", "")


@pytest.mark.parametrize(
    "content", ["", "garbage", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
@pytest.mark.parametrize("name", ["TLS_CERT", "TLS_KEY", "INSTANCE_KEY_RSA", "ADMIN_TOKEN_FILE"])
def test_files_with_wrong_content(nodes, tmp_path, name, content):
    if name == "ADMIN_TOKEN_FILE" and content.startswith("-"):
        content = "short\n"
    path = tmp_path / "file"
    write_private(path, content.encode())
    refused(nodes.make(**{name: path}), str(path))


def test_certificate_and_key_do_not_belong_together(nodes, authority):
    _, key, _ = authority.issue("another")
    node = nodes.make(TLS_KEY=key)
    refused(node)


def test_instance_key_that_others_can_read(nodes, tmp_path):
    path = tmp_path / "instance.private.pem"
    path.write_bytes(pem_private(jose.make_key("ec")))
    os.chmod(path, 0o644)
    refused(nodes.make(INSTANCE_KEY_RSA=path), str(path))


@pytest.mark.parametrize("kind", ["p384", "rsa1024", "public mismatch"])
def test_instance_keys_of_the_wrong_kind(nodes, tmp_path, kind):
    key = {
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "rsa1024": lambda: rsa.generate_private_key(65537, 1024),
        "public mismatch": lambda: jose.make_key("ec"),
    }[kind]()
    path, public = tmp_path / "instance.private.pem", tmp_path / "instance.public.pem"
    write_private(path, pem_private(key))
    shown = jose.make_key("ec") if kind == "public mismatch" else key
    public.write_bytes(pem_public(shown.public_key()))
    line = refused(nodes.make(INSTANCE_KEY_RSA=path, INSTANCE_KEY_PUB=public))
    assert str(path) in line or str(public) in line


def test_broken_publisher_key(nodes):
    node = nodes.make()
    with open(os.path.join(node.publishers_dir, "Example.pem"), "w", encoding="ascii") as file:
        file.write("garbage")
    refused(node, "Example.pem")


def test_the_same_token_for_two_roles(nodes, tmp_path):
    for name in ("viewer", "enrol"):
        write_private(tmp_path / name, b"0123456789abcdef0123456789abcdef\n")
    refused(nodes.make(VIEWER_TOKEN_FILE=tmp_path / "viewer", ENROL_TOKEN_FILE=tmp_path / "enrol"))


def test_state_folder_that_cannot_be_used(nodes, tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    refused(nodes.make(STATE_DIR=path), str(path))


def test_port_in_use(nodes):
    node = nodes.make()
    with socket.socket() as other:
        other.bind(("127.0.0.1", node.port))
        other.listen()
        refused(node, str(node.port))


class TestDatabase:
    def test_owned_by_another_node(self, nodes, publisher):
        first = nodes.make()
        publisher.trust(first.publishers_dir)
        first.start()
        expect(first.install(publisher.entitlement(first, {"render": 1})), 201)
        second = nodes.make(database=first.database)
        refused(second, "database")
        assert Origin.ready(first).acquire(), "the first node was disturbed"

    def test_of_another_instance(self, nodes):
        first = nodes.make()
        first.start().stop()
        second = nodes.make(database=first.database, INSTANCE_REF=str(uuid.uuid4()))
        refused(second, second.instance_ref)

    @pytest.mark.parametrize("conninfo", ["nonsense", "postgresql://[", "dbname=x nothing=1"])
    def test_malformed_connection_string(self, nodes, conninfo):
        line = refused(nodes.make(DATABASE=conninfo))
        assert "DATABASE" in line or "database" in line

    def test_password_is_never_shown(self, nodes):
        line = refused(nodes.make(DATABASE="host=localhost password=sesame nothing=1"))
        assert "sesame" not in line

    def test_missing(self, nodes, cluster):
        refused(nodes.make(DATABASE=cluster.conninfo("no_such_database")), "no_such_database")

    def test_unknown_user(self, nodes, cluster):
        conninfo = cluster.conninfo("postgres").replace("user=postgres", "user=nobody_knows")
        refused(nodes.make(DATABASE=conninfo), "nobody_knows")

    def test_of_a_newer_schema(self, nodes):
        node = nodes.make()
        node.start().stop()
        node.database_is_judged = False
        node.cluster.sql(
            "INSERT INTO schema_version VALUES (9999, '9999_later.sql', '9.9.9', 1)", node.database
        )
        refused(node, "9999")

    def test_read_only(self, nodes):
        node = nodes.make()
        node.cluster.sql(f"ALTER DATABASE {node.database} SET default_transaction_read_only = on")
        refused(node, "read-only")

    @pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit"])
    def test_that_may_lose_what_it_confirmed(self, nodes, private_cluster, setting):
        private_cluster.sql(f"ALTER SYSTEM SET {setting} = off")
        private_cluster.stop()
        private_cluster.start()
        node = nodes.make(cluster=private_cluster)
        refused(node, setting)
        private_cluster.sql(f"ALTER SYSTEM RESET {setting}")
        private_cluster.stop()
        private_cluster.start()
        node.start().stop()

    def test_that_is_a_standby(self, nodes, private_cluster):
        node = nodes.make(cluster=private_cluster)
        private_cluster.stop()
        with open(
            os.path.join(private_cluster.folder, "data", "standby.signal"), "w", encoding="ascii"
        ):
            pass
        private_cluster.start()
        refused(node, "recovery")
        node.database_is_judged = False
        os.unlink(os.path.join(private_cluster.folder, "data", "standby.signal"))
        private_cluster.stop()
        private_cluster.start()

    def test_that_contradicts_itself(self, nodes, publisher):
        """A row that no node could have written stops the start; nothing is repaired in silence."""
        node = nodes.make()
        publisher.trust(node.publishers_dir)
        node.start()
        expect(node.install(publisher.entitlement(node, {"render": 1})), 201)
        Origin.ready(node).acquire()
        node.stop()
        node.database_is_judged = False
        node.cluster.sql("UPDATE lease SET seq = 1000000", node.database)
        code, text = node.run_to_end()
        assert code == 70, (code, text)
        assert "1000000" in text


def test_help_and_version():
    for argument, words in (
        ("--help", ("DATABASE", "LEASE_EXPIRE_DAYS", "--config")),
        ("--help=markdown", ("| `DATABASE`", "|---", "LEASE_EXPIRE_DAYS")),
        ("--version", (".",)),
    ):
        done = subprocess.run(
            [NODE, argument],
            env={"PATH": os.environ["PATH"]},
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done
        assert done.stderr == ""
        for word in words:
            assert word.replace("|---", "---") in done.stdout, (argument, word)
