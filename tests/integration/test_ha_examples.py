"""Each of ha-examples is run, on a pair of its own, and must prove what it says."""

import os
import re
import subprocess

import pytest

from examples import FOLDER, release_build_only, run_example

NAMES = sorted(
    name for name in os.listdir(FOLDER) if os.access(os.path.join(FOLDER, name), os.X_OK)
    and os.path.isfile(os.path.join(FOLDER, name))
)
UNDER_LOAD = [name for name in NAMES if not name.startswith("container-")]  # test_containers.py


def may_make_namespaces():
    done = subprocess.run(
        ["unshare", "--net", "true"], capture_output=True, timeout=60, check=False
    )
    return os.geteuid() == 0 and done.returncode == 0


def test_none_is_missing():
    assert NAMES == [
        "container-entrypoint",
        "container-sidecar",
        "cut-the-wire",
        "drain-for-maintenance",
        "kill-a-node",
        "replace-a-node",
        "restore-a-backup",
        "rolling-restart",
    ]


@release_build_only
@pytest.mark.parametrize("name", UNDER_LOAD)
def test_example(name):
    if name == "cut-the-wire" and not may_make_namespaces():
        pytest.skip("needs root and network namespaces")
    last = run_example(name)
    assert re.search(r"none lost; at most \d+ of \d+ seats held at once", last), last


@release_build_only
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who is not")
@pytest.mark.parametrize("name", ["container-entrypoint", "container-sidecar", "cut-the-wire"])
def test_what_needs_root_says_so(name):
    done = subprocess.run(
        ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
         os.path.join(FOLDER, name)],
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
