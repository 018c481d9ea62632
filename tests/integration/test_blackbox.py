"""Half a minute of tests/fuzz/blackbox.py, always with another seed; a finding names its seed."""

import os
import random
import sys

import pytest

from cluster import ROOT

sys.path.insert(0, os.path.join(ROOT, "tests", "fuzz"))
import blackbox  # pylint: disable=wrong-import-position


@pytest.fixture
def world(nodes, publisher, tmp_path):
    settings, tokens = blackbox.write_role_tokens(tmp_path)
    node = nodes.make(DEBUG="true", **settings)
    publisher.trust(node.publishers_dir)
    node.start()
    return blackbox.new_world(node, publisher, tokens)


def test_mutated_traffic(world):
    connections = world.node.open_connections()
    counts = blackbox.drive(world, seconds=18, seed=random.randrange(10**6))
    assert counts["200 "] > 100 and counts["201 "] > 10 and len(counts) > 20, counts
    blackbox.check_afterwards(world, connections)


def test_without_authority_nothing_changes(world):
    before = blackbox.dump(world.node)
    assert len(before["lease"]) == len(before["origin"]) == 3
    counts = blackbox.drive(world, seconds=12, seed=random.randrange(10**6), authority=False)
    assert counts["401 token_invalid"] > 100, counts
    assert blackbox.dump(world.node) == before
