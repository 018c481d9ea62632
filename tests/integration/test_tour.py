"""Done-when 2: what README.md tells people to type is typed, word for word."""

import os
import re
import subprocess

import pytest

from cluster import ROOT
from node import NODE, expect


def readme():
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        return file.read()


def blocks(heading):
    """The ```sh blocks under a heading of the README, in order."""
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", readme(), re.M | re.S)
    assert section, f"README.md has no heading: {heading}"
    found = re.findall(r"^```sh\n(.*?)^```$", section.group(1), re.M | re.S)
    assert found, f"nothing to type under: {heading}"
    return found


@pytest.fixture
def pair_env(node, publisher, tmp_path):
    """A pair.env like that of deploy/local-pair, of this test's node."""
    expect(node.install(publisher.entitlement(node, {"render": 3})), 201)
    (tmp_path / "client.tok").write_text(node.client_token() + "\n")
    (tmp_path / "pair.env").write_text(
        f"PRIMARY_URL={node.url}\nCA_CERT={node.ca_file}\n"
        f"ADMIN_TOKEN_FILE={node.state_dir}/admin.token\n"
        f"CLIENT_TOKEN_FILE={tmp_path}/client.tok\nDEMO_FEATURE=render\n"
    )
    return tmp_path


def test_tour_by_hand(pair_env, tmp_path):
    script = "set -eux -o pipefail\n" + "\n".join(blocks("A tour by hand"))
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
        env={"PATH": os.environ["PATH"], "PAIR": str(pair_env), "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    for word in ("lease_token", "renew_after", "active_lease_list", "204"):
        assert word in done.stdout, f"the tour never shows {word}"


def test_settings_table_is_the_node_s_own():
    done = subprocess.run(
        [NODE, "--help=markdown"], text=True, capture_output=True, timeout=60, check=True
    )
    assert done.stdout.strip() in readme(), "README.md and `twinlease-node --help=markdown` differ"
