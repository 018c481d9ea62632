"""Each of ha-examples is run, on a pair of its own, and must prove what it says."""

import os
import re
import subprocess
import sys
import tempfile

import pytest

from cluster import ROOT
from node import NODE

FOLDER = os.path.join(ROOT, "ha-examples")
NAMES = sorted(
    name for name in os.listdir(FOLDER) if os.access(os.path.join(FOLDER, name), os.X_OK)
    and os.path.isfile(os.path.join(FOLDER, name))
)
LIMIT_SECONDS = 240  # for a hang; the examples wait for conditions with deadlines of their own

release_build_only = pytest.mark.skipif(
    os.path.realpath(NODE) != os.path.join(ROOT, "build/release/node/twinlease-node"),
    reason="deploy/local-pair runs the release build",
)


def may_make_namespaces():
    done = subprocess.run(
        ["unshare", "--net", "true"], capture_output=True, timeout=60, check=False
    )
    return os.geteuid() == 0 and done.returncode == 0


def test_none_is_missing():
    assert NAMES == [
        "cut-the-wire",
        "drain-for-maintenance",
        "kill-a-node",
        "replace-a-node",
        "restore-a-backup",
        "rolling-restart",
    ]


@release_build_only
@pytest.mark.parametrize("name", NAMES)
def test_example(name):
    if name == "cut-the-wire" and not may_make_namespaces():
        pytest.skip("needs root and network namespaces")
    folder = tempfile.mkdtemp(prefix="twinlease-example.", dir="/var/tmp")
    os.chmod(folder, 0o711)
    done = subprocess.run(
        [os.path.join(FOLDER, name), "--dir", folder],
        text=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    print(done.stdout, file=sys.stderr)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"{name}: proven: "), last
    assert re.search(r"none lost; at most \d+ of \d+ seats held at once", last), last
    assert not os.path.exists(folder), "it leaves nothing behind"


@release_build_only
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who is not")
def test_without_rights_the_wire_is_not_cut():
    done = subprocess.run(
        ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
         os.path.join(FOLDER, "cut-the-wire")],
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done
    assert "need root" in done.stderr, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_help_says_what_it_is(name):
    done = subprocess.run(
        [os.path.join(FOLDER, name), "--help"], text=True, capture_output=True, timeout=60,
        check=False,
    )
    assert done.returncode == 0 and name in done.stdout and "--keep-files" in done.stdout, done
