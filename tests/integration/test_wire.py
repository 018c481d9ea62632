"""What comes over the wire from nobody good: requests that two readers would read in two ways,
clients that vanish, wait, or take up all room."""

import contextlib
import re
import resource
import socket
import ssl
import stat
import subprocess
import uuid

import pytest

import node as node_module
from node import expect, expect_problem
from origin import Origin
from test_bad_input import raw_exchange
from waiting import wait_until

HOST = b"Host: localhost\r\n"
HEALTH = b"GET /-/health HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = b"GET /-/health HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
CODE = b"POST /v1/auth/code HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
CODE_1_0 = CODE.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Connection: keep-alive\r\n"
CHUNKS = b"2\r\n{}\r\n0\r\n\r\n"


def statuses(data):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


# ---- one request, two readings -----------------------------------------------------------------

AMBIGUOUS = {
    "two lengths": CODE + b"Content-Length: 2\r\nContent-Length: 9\r\n\r\n{}",
    "the same length twice": CODE + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": CODE + b"Content-Length: 2, 2\r\n\r\n{}",
    "a signed length": CODE + b"Content-Length: +2\r\n\r\n{}",
    "length, then chunked": CODE
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    + CHUNKS,
    "chunked, then length": CODE
    + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n"
    + CHUNKS,
    "chunked twice": CODE
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
    + CHUNKS,
    "chunked in a list": CODE + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
    "chunked, but HTTP/1.0": CODE_1_0 + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "an empty line before two lengths": b"\r\n"
    + CODE
    + b"Content-Length: 2\r\nContent-Length: 9\r\n\r\n{}",
    "a bare newline before both": b"\n"
    + CODE
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    + CHUNKS,
    "a continued length": CODE + b"Content-Length: 2\r\n 0\r\n\r\n{}",
    "a continued header": b"GET /-/health HTTP/1.1\r\n" + HOST + b"X: a\r\n\tb\r\n\r\n",
    "a blank before the colon": CODE + b"Content-Length : 2\r\n\r\n{}",
    "no host": b"GET /-/health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /-/health HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n\r\n",
    "a chunk below nothing": CODE + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_nothing_is_smuggled(shared_node, name):
    """One refusal, and then the line is closed: what follows was never asked for."""
    data = raw_exchange(shared_node, AMBIGUOUS[name] + HEALTH, timeout=3)
    assert statuses(data) == [400], data[:600]
    expect(shared_node.get("/-/ready", token=None), 200)


UNUSUAL = {
    "an empty line before": (b"\r\n" + LAST, [200]),
    "bare newlines": (b"GET /-/health HTTP/1.1\nHost: a\nConnection: close\n\n", [200]),
    "HTTP/1.0 closes": (b"GET /-/health HTTP/1.0\r\n\r\n" + LAST, [200]),
    "HTTP/1.0 keeps alive": (
        b"GET /-/health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + LAST,
        [200, 200],
    ),
    "the absolute form": (
        b"GET https://localhost/-/health HTTP/1.1\r\n" + HOST + b"\r\n" + LAST,
        [200, 200],
    ),
    "chunks, extension and trailer": (
        CODE + b"Transfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\nX: y\r\n\r\n" + LAST,
        [400, 200],
    ),
    "an error, then more": (
        b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n" + HEALTH + CODE
        # a body that is no JSON, and one that nobody expects
        + b"Content-Length: 3\r\n\r\n{x}"
        + HEALTH.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n{}")
        + LAST,
        [404, 200, 400, 400, 200],
    ),
    "many at once": (HEALTH * 200 + LAST, [200] * 201),
    "100-continue, and then none": (
        CODE + b"Expect: 100-continue\r\nContent-Length: 70000\r\n\r\n",
        [413],
    ),
    "100-continue": (
        CODE + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}" + LAST,
        [100, 400, 200],
    ),
    "another expectation": (CODE + b"Expect: tea\r\nContent-Length: 2\r\n\r\n{}" + LAST, [417]),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_each_request_gets_its_own_answer(shared_node, name):
    data, wanted = UNUSUAL[name]
    assert statuses(raw_exchange(shared_node, data)) == wanted


def test_answers_come_in_the_order_of_the_requests(shared_node, shared_origin):
    """Each answer names the request it belongs to, also when some take a commit and some do not."""
    parts, ids = [], [f"wire-{n}" for n in range(40)]
    for number, request_id in enumerate(ids):
        mark = b"X-Request-Id: " + request_id.encode() + b"\r\n"
        body = b'{"lease_request_list":[{"feature":"render"}]}'
        grant = (
            b"POST /v1/leases HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
            b"Authorization: Bearer %s\r\n" % (len(body), shared_origin.token.encode())
        )
        if number % 3 == 0:
            parts.append(grant + HOST + mark + b"\r\n" + body)
        else:
            parts.append(HEALTH.replace(HOST, HOST + mark))
    data = raw_exchange(shared_node, b"".join(parts) + LAST)
    assert re.findall(rb"x-request-id: (wire-\d+)", data) == [one.encode() for one in ids]
    assert statuses(data) == [201 if n % 3 == 0 else 200 for n in range(40)] + [200]


def test_no_renegotiation(shared_node):
    """A client that may ask for new keys for ever makes the node work and pays nothing."""
    done = subprocess.run(
        ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{shared_node.port}"],
        input="R\n",
        text=True,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert "RENEGOTIATING" in done.stderr
    assert done.returncode == 1, "the node has renegotiated"
    expect(shared_node.get("/-/ready", token=None), 200)


# ---- clients that vanish -----------------------------------------------------------------------


@contextlib.contextmanager
def leases_locked(node):
    """No lease can be written meanwhile, as with a slow disk."""
    connection = node.cluster.connect(node.database)
    connection.autocommit = False
    try:
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE lease IN EXCLUSIVE MODE")
        yield
    finally:
        connection.rollback()
        connection.close()


def is_blocked(node):
    rows = node.cluster.sql("SELECT count(*) FROM pg_locks WHERE NOT granted", node.database)
    return rows[0][0] > 0


def tls_line(node):
    context = ssl.create_default_context(cafile=node.ca_file)
    plain = socket.create_connection(("127.0.0.1", node.port), 20)
    return context.wrap_socket(plain, server_hostname="localhost")


def grant_request(origin, ref):
    body = f'{{"lease_request_list":[{{"feature":"render","candidate_lease_ref":"{ref}"}}]}}'
    return (
        f"POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {origin.token}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def leave_politely(line):
    """Says goodbye, but does not wait for the answer."""
    line.settimeout(0.01)
    try:
        line.unwrap()
    finally:
        line.close()


def leave_with_a_reset(line):
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    line.close()


def leave_half(line):
    line.shutdown(socket.SHUT_WR)


LEAVING = [socket.socket.close, leave_politely, leave_with_a_reset, leave_half]


def test_clients_that_leave_while_their_commit_is_under_way(node, with_seats):
    """The decision stands or not, but it is nobody else's, and nothing is left behind."""
    with_seats(40)
    origin = Origin.ready(node)
    refs = [str(uuid.uuid4()) for _ in range(32)]
    expect(node.get("/-/ready", token=None), 200)
    before = node.open_connections()
    lines = [tls_line(node) for _ in refs]
    with leases_locked(node):
        for line, ref in zip(lines, refs):
            line.sendall(grant_request(origin, ref) + HEALTH)
        wait_until(lambda: is_blocked(node), 20, "the batch waits for the lock")
        for number, line in enumerate(lines):
            with contextlib.suppress(OSError, ssl.SSLError):
                LEAVING[number % len(LEAVING)](line)
    for ref in refs:  # asking again tells what became of it, and takes no second seat
        answer = origin.post_leases({"feature": "render", "candidate_lease_ref": ref})
        assert answer.status_code in (200, 201), answer.text
    held = {lease["lease_ref"] for lease in origin.leases()}
    assert held == set(refs)
    for line in lines:
        line.close()
    wait_until(lambda: node.open_connections() <= before, 40, "the lines are gone")
    assert len(node.leases(state="active")) == len(refs)


def test_the_deadline_while_a_commit_is_under_way(nodes, publisher):
    """503 in time; what was asked for is done once, and asking again finds it."""
    node = nodes.make(REQUEST_TIMEOUT=1)
    publisher.trust(node.publishers_dir)
    node.start()
    expect(node.install(publisher.entitlement(node, {"render": 2})), 201)
    origin = Origin.ready(node)
    item = {"feature": "render", "candidate_lease_ref": str(uuid.uuid4())}
    with leases_locked(node):
        answer = origin.post_leases(item)
        expect_problem(answer, 503, "deadline")
        assert answer.headers["Retry-After"]
    wait_until(lambda: node.is_ready(), 20, "ready")
    answer = origin.post_leases(item)
    assert answer.status_code in (200, 201), answer.text
    assert [lease["lease_ref"] for lease in origin.leases()] == [item["candidate_lease_ref"]]


# ---- clients that take up room -----------------------------------------------------------------


def test_two_thousand_idle_connections(node):
    """Others are served meanwhile, and all is given back."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 3000:
        pytest.skip(f"this shell allows only {hard} open files")
    expect(node.get("/-/ready", token=None), 200)
    before = node.open_connections()
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    idle = []
    try:
        for _ in range(2000):
            idle.append(socket.create_connection(("127.0.0.1", node.port), 20))
        wait_until(lambda: node.open_connections() >= before + 1900, 20, "accepted")
        session = node.new_session()
        expect(node.get("/-/health", token=None, session=session), 200)
        session.close()
    finally:
        for line in idle:
            line.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: node.open_connections() <= before, 30, "given back")


@pytest.fixture
def few_files(monkeypatch, tmp_path):
    """Nodes started from here on may open 64 files."""
    script = tmp_path / "few-files"
    script.write_text(f'#!/bin/sh\nulimit -n 64\nexec "{node_module.NODE}" "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(node_module, "NODE", str(script))


def test_connections_leave_files_for_the_database(few_files, node, with_seats):
    """Idle clients hold every connection there may be: the node still gets its session back, and
    later serves."""
    with_seats(1)
    origin = Origin.ready(node)
    (limited,) = [e for e in node.log_events() if e["event"] == "connections_limited"]
    allowed = int(re.match(r"at most (\d+) connections", limited["message"])[1])
    idle = [socket.create_connection(("127.0.0.1", node.port), 20) for _ in range(200)]
    try:
        wait_until(lambda: node.open_connections() >= allowed, 20, "accepted")
        node.cluster.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = %s AND application_name = 'twinlease-node'",
            parameters=(node.database,),
        )
        seen = lambda: [event["event"] for event in node.log_events()]
        wait_until(lambda: "store_back" in seen(), 9, "the database is back")
        assert "accept_failed" not in seen()
    finally:
        for line in idle:
            line.close()
    assert origin.acquire()
