"""twinlease-agent.service as it is installed, started by a real systemd, which is PID 1 of a
container: it holds its lease whatever happens, and never two."""

import os
import re
import tempfile

import pytest

from agent import AGENT_SECONDS, held
from node import TOOL
from system import System
from waiting import wait_until
from wall_clock import WallClock

UNIT = "twinlease-agent.service"
DROP_IN = f"/run/systemd/system/{UNIT}.d/test.conf"
AGENT_CONF = "/etc/twinlease/agent.conf"
CLOCK_FOLDER = "/opt/clock"
# Bits of Linux' capabilities with which a program could change the machine.
FORBIDDEN = {
    "NET_ADMIN": 12,
    "NET_RAW": 13,
    "SYS_MODULE": 16,
    "SYS_RAWIO": 17,
    "SYS_BOOT": 22,
    "SYS_RESOURCE": 24,
    "SYS_TIME": 25,
    "MKNOD": 27,
    "SYSLOG": 34,
    "BPF": 39,
}

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
    pytest.mark.skipif(
        "/asan/" in TOOL or "/tsan/" in TOOL, reason="the image has no sanitizer's libraries"
    ),
]


@pytest.fixture(scope="module")
def system():
    """In a folder with a short name, as that of containerd's sockets must not be over 104 bytes."""
    with tempfile.TemporaryDirectory(prefix="twinlease-", dir="/var/tmp") as folder:
        made = System(folder)
        yield made
        made.close()


class Service:
    """The agent, by what systemctl and journalctl say of it."""

    def __init__(self, system, pair):
        self.system, self.pair = system, pair
        self.before = {one["lease_ref"] for one in pair.primary.leases()}
        said = self.system.must("journalctl", "--lines=0", "--show-cursor")
        self.cursor = re.search(r"^-- cursor: (.*)$", said, re.M)[1]

    def ctl(self, *arguments):
        return self.system.must("systemctl", *arguments, UNIT)

    def settings(self, **settings):
        settings = {"FEATURES": "render", "LEASE_SECONDS": 6, "DEBUG": "yes", **settings}
        lines = [f'TWINLEASE_{name}="{value}"\n' for name, value in settings.items()]
        self.system.write(AGENT_CONF, "".join(lines))

    def drop_in(self, *lines):
        self.system.write(DROP_IN, "\n".join(["[Service]", *lines, ""]))
        self.system.must("systemctl", "daemon-reload")

    def show(self, name):
        return self.ctl("show", "--value", f"--property={name}").strip()

    def is_active(self):
        return self.show("ActiveState") == "active"

    def journal(self):
        return self.system.must(
            "journalctl", f"--unit={UNIT}", "--output=cat", f"--after-cursor={self.cursor}"
        )

    def wait_journal(self, pattern, times=1):
        wait_until(
            lambda: len(re.findall(pattern, self.journal())) >= times,
            AGENT_SECONDS,
            lambda: f"{times} x {pattern} in the journal:\n{self.journal()}",
        )

    def start(self):
        """Until it holds its lease; returns the reference."""
        self.ctl("start")
        self.wait_journal("License acquired: render")
        return self.lease()["lease_ref"]

    def active(self):
        return held(self.pair.primary)

    def lease(self):
        """The only active one, as both nodes say."""
        (lease,) = self.active()
        wait_until(
            lambda: [one["lease_ref"] for one in held(self.pair.secondary)] == [lease["lease_ref"]],
            AGENT_SECONDS,
            lambda: f"{lease['lease_ref']}; the secondary has {held(self.pair.secondary)}",
        )
        return lease

    def wait_another_lease(self, first):
        def found():
            active = self.active()
            return active and active[0]["lease_ref"] != first and self.lease()

        return wait_until(found, AGENT_SECONDS, lambda: f"another lease; {self.journal()}")

    def wait_renewals(self, times):
        done = self.journal().count("License renewed")
        self.wait_journal("License renewed", times=done + times)

    def finish(self):
        """Whatever the test did: no lease ever began before the one before it had ended."""
        self.ctl("stop")
        self.system.run("systemctl", "reset-failed", UNIT)
        self.system.remove(DROP_IN)
        self.system.must("systemctl", "daemon-reload")
        assert self.active() == []
        leases = [one for one in self.pair.primary.leases() if one["lease_ref"] not in self.before]
        leases.sort(key=lambda lease: lease["created"])
        assert leases, "none at all"
        for one, next_one in zip(leases, leases[1:]):
            assert one["ended"] <= next_one["created"], f"two leases at once: {one}, {next_one}"


@pytest.fixture
def service(system, shared_pair):
    made = Service(system, shared_pair)
    made.settings()
    system.write(
        "/etc/twinlease/client.tok",
        shared_pair.primary.client_token(),
        mode="640",
        group="twinlease-agent",
    )
    yield made
    made.finish()


def test_the_machine_is_out_of_reach(system):
    """What tests/lib/systemd-container promises."""
    assert system.must("cat", "/proc/1/comm") == "systemd\n"
    with tempfile.NamedTemporaryFile(dir="/tmp") as marker:
        assert system.run("test", "-e", marker.name)[0] == 1
    code, said = system.run("sh", "-c", "echo 1 >/proc/sys/vm/overcommit_memory")
    assert code != 0 and "Read-only file system" in said
    limit = int(re.search(r"^CapBnd:\s*(\w+)$", system.must("cat", "/proc/1/status"), re.M)[1], 16)
    assert [name for name, bit in FORBIDDEN.items() if limit >> bit & 1] == []
    groups = system.must("find", "/sys/fs/cgroup", "-name", "cgroup.procs")
    assert "/sys/fs/cgroup/init.scope/" in groups
    assert "/docker/" not in groups
    assert system.must("systemctl", "--failed", "--no-legend") == ""


def test_it_starts_and_stops(service):
    """With READY=licensed, systemctl start returns when it holds its lease, and not before."""
    service.settings(READY="licensed")
    service.ctl("start")
    lease = service.lease()
    assert service.show("Type") == "notify" and service.is_active()
    status = service.ctl("status")
    assert re.search(r'^ +Status: "1 of 1 features licensed; render until \S+Z"$', status, re.M)
    assert f"/usr/local/lib/systemd/system/{UNIT}" in status
    assert re.search(
        r"^License acquired: render, 1 seat, until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$",
        service.journal(),
        re.M,
    )
    assert service.show("User") == "twinlease-agent"
    code, said = service.system.run("twinlease", "agent", "status")
    assert code == 0 and said.startswith("render: licensed, 1 seat until ")
    service.ctl("stop")
    assert lease["lease_ref"] not in [one["lease_ref"] for one in service.active()]
    assert service.show("Result") == "success" and service.show("ExecMainStatus") == "0"
    assert "License released: render, 1 seat\n" in service.journal()


def test_either_node_is_killed(service):
    first = service.start()
    for node in (service.pair.primary, service.pair.secondary):
        node.kill()
        service.wait_renewals(3)
        other = service.pair.other(node)
        assert [one["lease_ref"] for one in held(other)] == [first]
        node.start_alive()
        service.pair.wait_connected()
        assert service.lease()["lease_ref"] == first
    assert service.is_active() and service.show("NRestarts") == "0"
    assert "License lost" not in service.journal()


def test_it_is_reloaded(service):
    first = service.start()
    process = service.show("MainPID")
    service.ctl("reload")
    service.wait_renewals(1)
    assert service.lease()["lease_ref"] == first
    service.settings(FEATURES="render=2")
    service.ctl("reload")
    service.wait_journal("License acquired: render, 2 seats")
    lease = service.lease()
    assert lease["count"] == 2
    assert service.is_active() and service.show("MainPID") == process


def test_it_is_restarted_and_keeps(service):
    service.settings(ON_STOP="keep", LEASE_SECONDS=30)
    first = service.start()
    service.ctl("restart")
    service.wait_journal("License found again: render, 1 seat, until ")
    assert service.lease()["lease_ref"] == first
    assert "License kept for the next start: render, 1 seat\n" in service.journal()
    service.settings()
    service.ctl("reload")
    service.ctl("stop")
    assert service.active() == [], "told so by reload, it gives back"


def test_it_is_restarted_and_gives_back(service):
    first = service.start()
    service.ctl("restart")
    service.wait_journal("License acquired: render", times=2)
    assert service.lease()["lease_ref"] != first


def test_it_is_killed(service):
    """systemd starts it again after RestartSec=5, and it finds its lease."""
    service.settings(LEASE_SECONDS=30)
    first = service.start()
    service.ctl("kill", "--signal=KILL")
    service.wait_journal("License found again: render, 1 seat")
    assert service.is_active() and service.show("NRestarts") == "1"
    assert service.lease()["lease_ref"] == first


def test_it_stands_still_for_longer_than_its_lease(service):
    service.settings(LEASE_SECONDS=3)
    first = service.start()
    service.ctl("kill", "--signal=STOP")
    wait_until(lambda: service.active() == [], AGENT_SECONDS, "the seat to come back")
    service.ctl("kill", "--signal=CONT")
    service.wait_another_lease(first)
    service.wait_journal("License lost: render, 1 seat: ")
    assert service.is_active() and service.show("NRestarts") == "0"


def test_it_stands_still_until_the_watchdog_acts(service):
    """With a shorter WatchdogSec=, for the test not to wait for a minute. RestartSec=5 is longer
    than the lease: one that is still good would be found again."""
    service.drop_in("WatchdogSec=2")
    service.settings(LEASE_SECONDS=3)
    first = service.start()
    service.wait_renewals(2)
    assert service.show("NRestarts") == "0", "it tells the watchdog in time"
    service.ctl("kill", "--signal=STOP")
    lease = service.wait_another_lease(first)
    assert service.is_active() and service.show("NRestarts") == "1"
    assert service.lease()["lease_ref"] == lease["lease_ref"]


def test_the_wall_clock_steps(service, tmp_path):
    """The agent's alone: no program of the container may set the machine's."""
    clock = WallClock(tmp_path)
    inside = {
        name: value.replace(str(tmp_path), CLOCK_FOLDER)
        for name, value in clock.environment.items()
    }
    service.system.must("mkdir", "-p", CLOCK_FOLDER)
    service.system.copy_in(clock.environment["LD_PRELOAD"], CLOCK_FOLDER)
    service.system.write(inside["WALL_CLOCK_OFFSET"], "0\n")
    service.drop_in(*(f"Environment={name}={value}" for name, value in inside.items()))
    first = service.start()
    for step in (3600, -1800, 86400, 0):
        service.system.write(inside["WALL_CLOCK_OFFSET"], f"{step}\n")
        service.wait_renewals(2)
        assert service.lease()["lease_ref"] == first
    assert service.is_active() and "License lost" not in service.journal()
