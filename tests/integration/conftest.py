"""Fixtures. Run under tests/lib/with-postgres, which gives the tests a PostgreSQL of their own:

    tests/lib/with-postgres /usr/bin/python3 -m pytest tests/integration

TWINLEASE_NODE and TWINLEASE_TOOL name the binaries to test (default: build/release), so that the
same tests run on sanitized builds. After every test, every node that it started must stop in
order, its log must have no sanitizer's report, and its database must pass
schema/invariants.sql."""

import os

import pytest

from cluster import Cluster
from node import Node, expect
from origin import Origin
from pair import Pair
from publisher import Publisher, feature
from tls import Authority


@pytest.fixture(scope="session")
def cluster():
    folder = os.environ.get("TWINLEASE_TEST_CLUSTER")
    if not folder:
        pytest.exit("run under tests/lib/with-postgres (see tests/README.md)", returncode=2)
    return Cluster(folder)


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(str(tmp_path_factory.mktemp("tls")))


@pytest.fixture(scope="session")
def publisher():
    return Publisher()


class Nodes:
    """Makes nodes, and judges and removes them at the end."""

    def __init__(self, tmp_path_factory, cluster, authority):
        self.tmp_path_factory, self.cluster, self.authority = tmp_path_factory, cluster, authority
        self.made, self.clusters = [], []

    def make_cluster(self):
        """A PostgreSQL that a test may stop, kill or fill up; removed after its nodes."""
        self.clusters.append(Cluster.make())
        return self.clusters[-1]

    def make(self, database=None, cluster=None, **settings):
        """A node that is not started yet, on a new database unless one is named."""
        cluster = cluster or self.cluster
        database = database or cluster.create_database()
        settings.setdefault("DATABASE", cluster.conninfo(database))
        node = Node(
            self.tmp_path_factory.mktemp("node"),
            authority=self.authority,
            database=settings.pop("DATABASE"),
            **settings,
        )
        node.cluster, node.database = cluster, database
        self.made.append(node)
        return node

    def finish(self):
        """Every node gets its turn; then what any of them did wrong is told."""
        problems = []
        for node in self.made:
            node.close_sessions()
            for judge in (Node.stop, Node.assert_no_reports, self.judge_database):
                try:
                    judge(node)
                except Exception as problem:
                    problems.append(f"{type(problem).__name__}: {problem}")
            if node.process is not None:
                node.process.kill()
        for cluster, database in {(node.cluster, node.database) for node in self.made}:
            cluster.drop_database(database)
        for cluster in self.clusters:
            cluster.destroy()
        assert not problems, "\n".join(problems)

    @staticmethod
    def judge_database(node):
        if not getattr(node, "database_is_judged", True):
            return
        tables = node.cluster.sql(
            "SELECT count(*) FROM pg_tables WHERE schemaname "
            "NOT IN ('pg_catalog', 'information_schema')",
            node.database,
        )
        if tables[0][0]:
            broken = node.cluster.broken_invariants(node.database)
            assert broken == "", f"schema/invariants.sql finds:\n{broken}"


@pytest.fixture
def nodes(tmp_path_factory, cluster, authority):
    made = Nodes(tmp_path_factory, cluster, authority)
    yield made
    made.finish()


@pytest.fixture
def private_cluster(nodes):
    return nodes.make_cluster()


@pytest.fixture(scope="module")
def module_nodes(tmp_path_factory, cluster, authority):
    made = Nodes(tmp_path_factory, cluster, authority)
    yield made
    made.finish()


def started(made, publisher, **settings):
    node = made.make(**settings)
    publisher.trust(node.publishers_dir)
    return node.start()


@pytest.fixture
def node(nodes, publisher):
    """A running node of this test alone, that trusts `publisher` and has no entitlement yet."""
    return started(nodes, publisher)


@pytest.fixture(scope="module")
def shared_node(module_nodes, publisher):
    """A running node for all tests of a file, with many seats of `render`; for tests that leave
    nothing behind that disturbs another."""
    node = started(module_nodes, publisher)
    expect(node.install(publisher.entitlement(node, {"render": 10000})), 201)
    return node


@pytest.fixture
def with_seats(node, publisher):
    """with_seats(3) installs an entitlement for `render`; more arguments go into the feature."""

    def install(seats, name="render", **more):
        return expect(
            node.install(publisher.entitlement(node, [feature(name, seats, **more)])), 201
        )

    return install


@pytest.fixture
def origin(node):
    return Origin.ready(node)


@pytest.fixture
def shared_origin(shared_node):
    return Origin.ready(shared_node)


@pytest.fixture
def make_pair(nodes, publisher, tmp_path):
    """make_pair() gives two running nodes that replicate; start=False: not started yet."""
    made = []

    def make(start=True, **more):
        made.append(Pair(nodes, publisher, str(tmp_path / f"instance-{len(made)}"), **more))
        return made[-1].start() if start else made[-1]

    yield make
    for pair in made:
        pair.close()


@pytest.fixture(scope="module")
def shared_pair(module_nodes, publisher, tmp_path_factory):
    """A running pair for all tests of a file, with many seats of `render`; for tests that leave
    nothing behind that disturbs another."""
    pair = Pair(module_nodes, publisher, str(tmp_path_factory.mktemp("instance"))).start()
    pair.install(1000)
    yield pair
    pair.close()
