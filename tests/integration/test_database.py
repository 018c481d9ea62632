"""A database that goes away, comes back, fills up or changes under a running node: the node lives,
says 503 with the reason, and goes on by itself."""

import os
import subprocess
import tempfile
import threading

import pytest
import requests

from load import Load
from node import expect, expect_problem
from origin import Origin
from waiting import wait_until


SEATS = 20


@pytest.fixture
def own_node(nodes, private_cluster, publisher):
    """A node on a PostgreSQL that this test may hurt."""
    node = nodes.make(cluster=private_cluster)
    publisher.trust(node.publishers_dir)
    node.start()
    expect(node.install(publisher.entitlement(node, {"render": SEATS})), 201)
    return node


def hurt_fast(cluster):
    cluster.stop("fast")
    cluster.start()


def hurt_immediate(cluster):
    cluster.stop("immediate")
    cluster.start()


def hurt_kill(cluster):
    cluster.kill()
    cluster.start()


def hurt_sessions(cluster):
    cluster.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname LIKE 'test_%'"
    )


@pytest.mark.parametrize("hurt", [hurt_fast, hurt_immediate, hurt_kill, hurt_sessions])
def test_restart_under_load(own_node, private_cluster, hurt):
    load = Load(own_node, SEATS)
    with load:
        for _ in range(3):
            load.wait_for_more()
            hurt(private_cluster)
        load.wait_for_more()
    own_node.wait_ready()
    assert load.count("cut off") == 0, "the node closed connections"
    if hurt is not hurt_sessions:
        assert load.count(503) > 0, "nobody noticed"
    load.judge()


def names_no_path(answer, cluster):
    return cluster.folder not in answer.text and "socket" not in answer.text


def test_not_ready_while_away(own_node, private_cluster):
    origin = Origin.ready(own_node)
    lease = origin.acquire()
    private_cluster.stop()
    own_node.wait_not_ready()
    answer = own_node.get("/-/ready", token=None)
    assert answer.status_code == 503
    assert answer.json()["code"] in ("store_away", "not_ready"), answer.text
    assert names_no_path(answer, private_cluster), "strangers learn where the database is"
    assert expect(own_node.get("/-/health", token=None), 200)["status"] == "up"
    assert names_no_path(origin.post_leases({"feature": "render"}), private_cluster)
    for answer in (
        origin.post_leases({"feature": "render"}),
        origin.put_lease(lease["lease_ref"]),
        origin.delete_lease(lease["lease_ref"]),
        origin.call("GET", "/v1/leases"),
        own_node.get("/-/leases"),
        own_node.get("/-/entitlements"),
    ):
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.json()["code"] in ("store_away", "not_ready"), answer.text
    # what needs no database goes on
    expect(own_node.get("/.well-known/jwks.json", token=None), 200)
    private_cluster.start()
    own_node.wait_ready()
    assert origin.renew(lease)["lease_ref"] == lease["lease_ref"]


def test_start_before_the_database(nodes, private_cluster, publisher):
    node = nodes.make(cluster=private_cluster)
    publisher.trust(node.publishers_dir)
    private_cluster.stop()
    node.start(ready=False)
    wait_until(lambda: answers(node), 60, "health is up")
    assert node.get("/-/ready", token=None).status_code == 503
    private_cluster.start()
    node.wait_ready()
    expect(node.install(publisher.entitlement(node, {"render": 1})), 201)


def answers(node):
    try:
        return node.get("/-/health", token=None).status_code == 200
    except requests.ConnectionError:
        assert node.alive(), node.log_tail()
        return False


def test_read_only_for_a_while(own_node, private_cluster):
    origin = Origin.ready(own_node)
    lease = origin.acquire()
    private_cluster.sql(
        f"ALTER DATABASE {own_node.database} SET default_transaction_read_only = on"
    )
    hurt_sessions(private_cluster)
    wait_until(
        lambda: "read-only" in own_node.get("/-/ready", token=None).text,
        60,
        lambda: f"the reason is named: {own_node.get('/-/ready', token=None).text}",
    )
    assert origin.post_leases({"feature": "render"}).status_code == 503
    private_cluster.sql(f"ALTER DATABASE {own_node.database} RESET default_transaction_read_only")
    own_node.wait_ready()
    assert origin.renew(lease)["lease_ref"] == lease["lease_ref"]


def test_a_second_node_in_the_meantime(own_node, private_cluster, nodes):
    """A node that lost its session and finds the database owned by another must not serve."""
    private_cluster.sql(f"ALTER DATABASE {own_node.database} ALLOW_CONNECTIONS false")
    hurt_sessions(private_cluster)
    own_node.wait_not_ready()
    private_cluster.sql(f"ALTER DATABASE {own_node.database} ALLOW_CONNECTIONS true")
    own_node.wait_ready()
    assert own_node.alive()


@pytest.fixture
def small_disk():
    """A file system of 24 MB, for root who may mount one; its own function to make room again."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tempfile.mkdtemp(prefix="twinlease-small.")
    os.chmod(folder, 0o711)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0711", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        os.rmdir(folder)
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
    os.rmdir(folder)


def test_disk_full(small_disk, nodes, publisher):
    """The database's own files have no space left: 503, the node lives, and with room again it goes
    on by itself; what was acknowledged is there."""
    cluster = nodes.make_cluster()
    space = os.path.join(small_disk, "space")
    os.mkdir(space, 0o700)
    subprocess.run(["chown", "postgres", space], check=True)
    cluster.sql(f"CREATE TABLESPACE small LOCATION '{space}'")
    node = nodes.make(cluster=cluster, database=cluster.create_database("TABLESPACE small"))
    publisher.trust(node.publishers_dir)
    node.start()
    expect(node.install(publisher.entitlement(node, {"render": 1000000})), 201)
    lease = Origin.ready(node).acquire(duration_seconds=3000)
    filler = fill(small_disk)
    origin = Origin.ready(node) if node.is_ready() else None
    wait_until(lambda: origin is None or runs_full(node, origin), 120, "the disk is full")
    assert node.alive()
    assert "store_full" in node.log(), "the reason is not told"
    os.unlink(filler)
    wait_until(lambda: serves(node), 60, lambda: f"service went on\n{node.log_tail()}")
    assert lease["lease_ref"] in {one["lease_ref"] for one in node.leases()}


def fill(folder):
    path = os.path.join(folder, "filler")
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return path


def runs_full(node, origin):
    answer = origin.post_leases(*[{"feature": "render", "duration_seconds": 3000}] * 60)
    if answer.status_code == 409:  # one origin holds as many leases as it may
        expect(origin.call("DELETE", "/v1/leases"), 200)
        return False
    if answer.status_code == 201:
        return False
    problem = expect(answer, 503)
    return problem["code"] in ("store_full", "store_away", "not_ready", "outcome_unknown")


def serves(node):
    try:
        return Origin.ready(node).acquire()
    except AssertionError:
        return None


def test_a_stuck_database_meets_the_deadline(nodes, publisher):
    """Another session holds a lock: requests are answered 503 at their deadline, the node is still
    reachable, and afterwards the same reference holds one seat."""
    node = nodes.make(REQUEST_TIMEOUT=1)
    publisher.trust(node.publishers_dir)
    node.start()
    expect(node.install(publisher.entitlement(node, {"render": 3})), 201)
    origin = Origin.ready(node)
    ref = origin.acquire()["lease_ref"]
    blocker = node.cluster.connect(node.database)
    blocker.autocommit = False
    with blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE lease IN ACCESS EXCLUSIVE MODE")
    item = {"feature": "render", "candidate_lease_ref": "c0ffee00-0000-4000-8000-000000000001"}
    expect_problem(origin.post_leases(item), 503, "deadline")
    assert expect(origin.call("GET", "/-/health", token=None, timeout=10), 200)
    blocker.rollback()
    blocker.close()
    wait_until(lambda: origin.post_leases(item).status_code in (200, 201), 60, "service went on")
    assert {lease["lease_ref"] for lease in origin.leases()} == {ref, item["candidate_lease_ref"]}


def test_a_full_queue_is_answered_at_once(nodes, publisher):
    """QUEUE_MAX requests wait; the next are refused with 503 instead of growing the queue."""
    node = nodes.make(QUEUE_MAX=64, REQUEST_TIMEOUT=20)
    publisher.trust(node.publishers_dir)
    node.start()
    expect(node.install(publisher.entitlement(node, {"render": 1000})), 201)
    origin = Origin.ready(node)
    blocker = node.cluster.connect(node.database)
    blocker.autocommit = False
    with blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE lease IN ACCESS EXCLUSIVE MODE")
    sessions = [node.new_session() for _ in range(150)]
    body = {"lease_request_list": [{"feature": "render"}]}
    answers_, refused = [], []

    def ask(session):
        answer = node.post("/v1/leases", token=origin.token, session=session, json=body)
        answers_.append(answer.status_code)
        if answer.status_code == 503:
            refused.append(answer.json()["code"])

    threads = [threading.Thread(target=ask, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    wait_until(lambda: "overloaded" in refused, 60, "somebody was refused")
    blocker.rollback()
    blocker.close()
    for thread in threads:
        thread.join(60)
    assert set(answers_) <= {201, 503} and answers_.count(201) >= 64, answers_
    assert set(refused) == {"overloaded"}, refused
    assert len(origin.leases()) == answers_.count(201)
