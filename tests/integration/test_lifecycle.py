"""Signals: an orderly stop drains, SIGHUP swaps certificates and publishers, a kill loses
nothing."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading

import pytest
from cryptography import x509

from cluster import ROOT
from load import Load
from node import NODE, expect, expect_problem
from origin import Origin
from publisher import Publisher
from waiting import wait_until


def serial_shown(node):
    context = ssl.create_default_context(cafile=node.ca_file)
    with socket.create_connection(("127.0.0.1", node.port), 20) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            return x509.load_der_x509_certificate(connection.getpeercert(True)).serial_number


def test_sigterm_answers_what_it_has_taken(node, with_seats):
    """A request that waits for its commit when SIGTERM comes is still answered, and kept."""
    with_seats(2)
    origin = Origin.ready(node)
    blocker = node.cluster.connect(node.database)
    blocker.autocommit = False
    with blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE lease IN ACCESS EXCLUSIVE MODE")
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(origin.post_leases({"feature": "render"}))
    )
    thread.start()
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'lease'::regclass"
    wait_until(lambda: node.cluster.sql(waits, node.database)[0][0] > 0, 60, "the commit waits")
    node.signal(signal.SIGTERM)
    wait_until(lambda: not accepts(node), 60, "no new connection is taken")
    blocker.rollback()
    blocker.close()
    thread.join(60)
    node.stop()
    lease = expect(answers[0], 201)["lease_result_list"][0]
    node.start()
    assert Origin.leases(origin)[0]["lease_ref"] == lease["lease_ref"]


def accepts(node):
    try:
        socket.create_connection(("127.0.0.1", node.port), 5).close()
        return True
    except OSError:
        return False


def test_sigterm_under_load(node, with_seats):
    """Nobody who was answered loses anything; after the restart the same clients go on."""
    with_seats(20)
    load = Load(node, 20, clients=6)
    for _ in range(3):
        with load:
            load.wait_for_more()
            node.stop()
        node.start()
        load.judge()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_connection_does_not_hold_up_the_end(node, number):
    context = ssl.create_default_context(cafile=node.ca_file)
    plain = socket.create_connection(("127.0.0.1", node.port), 20)
    connection = context.wrap_socket(plain, server_hostname="localhost")
    half = context.wrap_socket(
        socket.create_connection(("127.0.0.1", node.port), 20), server_hostname="localhost"
    )
    half.sendall(b"POST /v1/leases HTTP/1.1\r\nContent-Length: 100\r\n")
    node.signal(number)
    assert node.process.wait(30) == 0
    node.process = None
    connection.close()
    half.close()


def test_sighup_swaps_certificates(node, authority, with_seats):
    with_seats(1)
    origin = Origin.ready(node)  # has a connection open
    old = serial_shown(node)
    certificate, key, new = authority.issue("renewed")
    os.replace(certificate, node.settings["TLS_CERT"])
    os.replace(key, node.settings["TLS_KEY"])
    assert serial_shown(node) == old
    node.signal(signal.SIGHUP)
    wait_until(lambda: serial_shown(node) == new, 30, "new connections see the new certificate")
    assert origin.acquire(), "the open connection goes on"


def test_sighup_with_a_broken_certificate_changes_nothing(node):
    old = serial_shown(node)
    with open(node.settings["TLS_CERT"], "w", encoding="ascii") as file:
        file.write("garbage")
    node.signal(signal.SIGHUP)
    wait_until(
        lambda: any(node.settings["TLS_CERT"] in str(event) for event in node.log_events()),
        30,
        "the log names the file",
    )
    assert serial_shown(node) == old


def test_sighup_reads_publishers_again(node):
    other = Publisher("Other Software")
    text = other.entitlement(node, {"theirs": 1})
    expect_problem(node.install(text), 422, "entitlement_untrusted")
    other.trust(node.publishers_dir)
    node.signal(signal.SIGHUP)
    wait_until(lambda: node.install(text).status_code == 201, 30, "the new publisher is trusted")


def test_sighups_under_load(node, with_seats, authority):
    with_seats(20)
    load = Load(node, 20, clients=4)
    with load:
        for number in range(5):
            certificate, key, serial = authority.issue(f"swap{number}")
            os.replace(certificate, node.settings["TLS_CERT"])
            os.replace(key, node.settings["TLS_KEY"])
            node.signal(signal.SIGHUP)
            wait_until(lambda: serial_shown(node) == serial, 30, "swapped")  # noqa: B023
            load.wait_for_more(5)
    assert load.count("cut off") == 0 and load.count(503) == 0
    load.judge()


def test_ledger_clock_never_goes_back_over_a_kill(node, with_seats):
    """R1: what a killed node has shown is not undercut by its successor."""
    with_seats(50)
    origin = Origin.ready(node)
    last = ""
    for _ in range(5):
        lease = origin.acquire(duration_seconds=600)
        assert lease["created"] > last, (lease["created"], last)
        last = lease["created"]
        node.kill()
        node.start()


@pytest.mark.parametrize("kind,rounds", [([], 50), (["--pair"], 20)], ids=["single", "pair"])
def test_kill_loop(kind, rounds):
    """Nothing is lost or oversold. The release build takes all rounds; sanitized ones, which are
    many times slower, a few."""
    rounds = str(rounds if "sanit" not in build_kind() else rounds // 6)
    script = os.path.join(ROOT, "tests/faults/kill-loop")
    done = subprocess.run(
        [sys.executable, script, *kind, "--count", rounds],
        text=True,
        capture_output=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]


def build_kind():
    """Sanitized binaries link their runtime."""
    done = subprocess.run(["ldd", NODE], text=True, capture_output=True, check=True)
    return "sanitized" if "libasan" in done.stdout or "libtsan" in done.stdout else "plain"
