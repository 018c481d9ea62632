"""ha-examples: how they are run, and what each must do."""

import os
import subprocess
import sys
import tempfile

import pytest

from cluster import ROOT
from node import NODE

FOLDER = os.path.join(ROOT, "ha-examples")
LIMIT_SECONDS = 240  # for a hang; the examples wait for conditions with deadlines of their own

release_build_only = pytest.mark.skipif(
    os.path.realpath(NODE) != os.path.join(ROOT, "build/release/node/twinlease-node"),
    reason="deploy/local-pair runs the release build",
)


def run_example(name):
    """Runs one; returns its last line, which says what it has proven."""
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
    assert not os.path.exists(folder), "it leaves nothing behind"
    return last
