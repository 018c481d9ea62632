"""twinlease-agent.service, judged by systemd's own tools. Nothing is started."""

import os
import subprocess

import pytest

from node import TOOL

UNIT = "twinlease-agent.service"
EXPOSURE_MAX = "15"  # of 100, as systemd-analyze counts


@pytest.fixture
def unit(tmp_path):
    """As it is installed, but for the path of the program, which is not installed here."""
    with open(os.path.join(os.path.dirname(TOOL), UNIT), encoding="utf-8") as file:
        lines = file.read().splitlines()
    (start,) = [at for at, line in enumerate(lines) if line.startswith("ExecStart=")]
    assert lines[start].endswith("/bin/twinlease agent")
    lines[start] = f"ExecStart={TOOL} agent"
    path = tmp_path / UNIT
    path.write_text("\n".join(lines) + "\n")
    return path


def analyze(*arguments):
    done = subprocess.run(
        ["systemd-analyze", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_it_verifies(unit):
    assert analyze("verify", "--man=no", str(unit)) == (0, "")


def test_a_mistake_is_found(unit):
    unit.write_text(unit.read_text().replace("WatchdogSec=60", "WatchdogSek=60"))
    assert "WatchdogSek" in analyze("verify", "--man=no", str(unit))[1]


def test_it_is_hardened(unit):
    code, said = analyze("security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", str(unit))
    assert code == 0, said


def test_without_the_hardening_it_would_not_pass(unit):
    kept = [
        line
        for line in unit.read_text().splitlines()
        if not line.startswith(("Protect", "Restrict", "SystemCall", "CapabilityBounding"))
    ]
    unit.write_text("\n".join(kept) + "\n")
    code, _ = analyze("security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", str(unit))
    assert code != 0
