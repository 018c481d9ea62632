"""`twinlease run`: a program on a seat. Programs, terminals, nodes and signals are real."""

import datetime
import json
import os
import pty
import resource
import select
import signal
import subprocess
import sys
import time

import pytest

from node import REQUEST_SECONDS, TOOL, expect
from pair import SLOWNESS
from test_tool import BAD_FILE, LEASE_LOST, NO_NODE, NO_SEAT, OK, USAGE, Tool
from waiting import wait_until

STATE = 12
UNUSABLE, ABSENT = 126, 127
SECONDS = 30 * SLOWNESS  # deadlines are for hangs
REPLACE_SECONDS = 5  # WATCH_REPLACE_MS of client/tool/watch.h
CALL_SECONDS = 5  # --timeout, if not given

# Says what happens to it, a word a line, until it has got a line on standard input. (A signal just
# before Python blocks would wait as long as that; hence the pipe.)
WITNESS = """
import os, select, signal, sys
def say(word):
    os.write(log, f"{word}\\n".encode())
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for name in sys.argv[2:]:
    number = getattr(signal, name.lstrip("-"))
    signal.signal(number, lambda n, _: say(signal.Signals(n).name)
                  or (name[0] != "-" and n == signal.SIGTERM and sys.exit(7)))
awake, wake = os.pipe()
os.set_blocking(wake, False)
signal.set_wakeup_fd(wake)
say("begun")
while sys.stdin not in select.select([awake, sys.stdin], [], [])[0]:
    os.read(awake, 1)
sys.stdin.readline()
say("over")
"""


class Runs:
    """A machine with a client token, and what it runs."""

    def __init__(self, nodes, folder, scope="a"):
        self.nodes, self.folder = nodes, folder
        self.tool = Tool(nodes[0], folder)
        self.tool.run("client-token", "--out", "client.tok")
        self.all = []

    def start(self, feature, *program, options=(), state="state", **more):
        self.all.append(Run(self, feature, program, options, state, more))
        return self.all[-1]

    def witness(self, feature, *signals, **more):
        """A program that runs until it is told not to; returns when it does."""
        log = str(self.folder / f"witness-{len(self.all)}")
        run = self.start(feature, sys.executable, "-c", WITNESS, log, *signals, **more)
        run.log = log
        return run

    def close(self):
        for run in self.all:
            run.end()

    def free(self, feature, code=OK):
        """Another machine gets the seat, or does not, and gives it back."""
        other = {"TWINLEASE_STATE": str(self.folder / "other")}
        self.tool.run("acquire", feature, code=code, **other)
        if code == OK:
            self.tool.run("release", "--all", **other)


class Run:
    def __init__(self, runs, feature, program, options, state, more):
        self.runs, self.log = runs, None
        self.errors = str(runs.folder / f"errors-{len(runs.all)}")
        environment = {**runs.tool.environment, "TWINLEASE_STATE": str(runs.folder / state)}
        more.setdefault("start_new_session", True)
        more.setdefault("stdin", subprocess.PIPE)
        more.setdefault("stdout", subprocess.PIPE)
        wrapper, lines = more.pop("wrapper", ()), ["--json"] if more.pop("json", True) else []
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                [*wrapper, TOOL, "run", feature, *options, *lines, "--", *program],
                env=environment,
                stderr=errors,
                cwd=runs.folder,
                **more,
            )

    # ---- what is told ----

    def events(self, name=None):
        with open(self.errors, encoding="utf-8") as file:
            lines = file.read().splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{")]
        return [one for one in events if name in (None, one["event"])]

    def told(self):
        with open(self.errors, encoding="utf-8") as file:
            return file.read()

    def wait(self, name, count=1, seconds=SECONDS):
        """Until so many events of that name were told; the last one."""
        wait_until(
            lambda: len(self.events(name)) >= count,
            seconds,
            lambda: f"{count} {name}: {self.told()}",
        )
        return self.events(name)[-1]

    # ---- the program ----

    def words(self):
        if not os.path.exists(self.log):
            return []
        with open(self.log, encoding="ascii") as file:
            return file.read().split()

    def wait_word(self, word, count=1):
        wait_until(
            lambda: self.words().count(word) >= count,
            SECONDS,
            lambda: f"{count} {word}: {self.words()} {self.told()}",
        )
        return self

    def begun(self):
        return self.wait_word("begun")

    @property
    def pid(self):
        """Of the program."""
        return self.wait("started")["pid"]

    def finish(self, code=OK, data=b"\n"):
        """Lets the program end; what it printed."""
        out, _ = self.process.communicate(data, timeout=SECONDS)
        assert self.process.returncode == code, f"{self.process.returncode}: {self.told()}"
        return out

    def join(self, code):
        """Waits for an end that has another cause."""
        assert self.process.wait(SECONDS) == code, self.told()
        return self

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()
        for event in self.events("started"):
            if is_alive(event["pid"]):
                os.kill(event["pid"], signal.SIGKILL)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def ignores(pid, number):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        (mask,) = [line.split()[1] for line in file if line.startswith("SigIgn")]
    return bool(int(mask, 16) & bit(number))


def bit(number):
    return 1 << (number - 1)


def is_stopped(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


def instant(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


FEATURES = 80


@pytest.fixture(scope="module")
def seats_node(module_nodes, publisher):
    """A node with one seat for every test of this file."""
    node = module_nodes.make()
    publisher.trust(node.publishers_dir)
    node.start()
    features = {f"seat-{i}": 1 for i in range(FEATURES)}
    expect(node.install(publisher.entitlement(node, features)), 201)
    node.unused = list(features)
    return node


@pytest.fixture
def feature(seats_node):
    return seats_node.unused.pop()


@pytest.fixture
def runs(seats_node, tmp_path):
    made = Runs([seats_node], tmp_path)
    yield made
    made.close()


@pytest.fixture
def pair_runs(make_pair, tmp_path):
    pair = make_pair()
    pair.install(4)
    made = Runs(pair.both, tmp_path)
    made.pair = pair
    yield made
    made.close()


# ---- one seat and several programs ---------------------------------------------------------------

# Writes down when it began and when it ended, and is there for a while.
RECORDER = """
import os, sys, threading, time
def note(word):
    os.write(log, f"{time.monotonic_ns()} {word} {os.getpid()}\\n".encode())
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
note("begin")
threading.Event().wait(0.2)
note("end")
"""


def test_five_programs_take_turns_on_one_seat(runs, feature):
    record = runs.folder / "record"
    program = (sys.executable, "-c", RECORDER, str(record))
    started = [
        runs.start(feature, *program, options=("--wait", str(SECONDS)), state=f"machine-{i}")
        for i in range(5)
    ]
    for run in started:
        run.finish()
    lines = sorted(record.read_text().splitlines(), key=lambda line: int(line.split()[0]))
    words = [line.split()[1:] for line in lines]
    assert len(words) == 10
    for begin, end in zip(words[::2], words[1::2]):
        assert begin == ["begin", end[1]] and end[0] == "end", lines
    assert any(run.events("waiting") for run in started), "nobody ever had to wait"
    runs.free(feature)


def test_programs_of_one_machine_take_turns_too(runs, feature):
    first = runs.witness(feature).begun()
    second = runs.witness(feature, options=("--wait", str(SECONDS)))
    second.wait("waiting")
    assert second.words() == []
    first.finish()
    second.begun().finish()


def test_who_does_not_wait_is_told_at_once(runs, feature):
    first = runs.witness(feature).begun()
    second = runs.witness(feature, state="other").join(NO_SEAT)
    error = second.events("failed")[0]["error"]
    assert error["code"] == "no_seat" and error["exit_code"] == NO_SEAT
    assert error["seats"] == 1 and second.words() == []
    assert second.process.stdout.read() == b"", "standard output is the program's"
    runs.start(feature, "true", state="other", options=("--wait", "1")).join(NO_SEAT)
    runs.start(feature, "true", state="other", options=("--failure-code", "99")).join(99)
    first.finish()


# ---- the seat comes back -------------------------------------------------------------------------


def test_the_seat_is_back_when_the_program_ends(runs, feature):
    runs.witness(feature, options=("--duration", "3600")).begun().finish()
    runs.free(feature)


def test_sigterm_brings_the_seat_back_at_once(runs, feature):
    run = runs.witness(feature, "SIGTERM", options=("--duration", "3600")).begun()
    runs.free(feature, NO_SEAT)
    run.signal(signal.SIGTERM)
    run.join(7)  # what the program made of it
    assert run.words() == ["begun", "SIGTERM"]
    assert run.events("released")
    runs.free(feature)


def killed_at_expiry(runs, feature, options, sent):
    run = runs.witness(feature, "-SIGTERM", options=("--duration", "5", *options)).begun()
    pid = run.pid
    run.wait("renewed")
    run.signal(signal.SIGKILL)
    run.join(-signal.SIGKILL)
    if sent:
        run.wait_word(sent)
    (lease,) = [
        one for one in runs.nodes[0].leases(state="active") if one["feature"] == feature
    ]
    other = {"TWINLEASE_STATE": str(runs.folder / "other")}
    got = runs.tool.json("acquire", feature, "--wait", "60", **other)
    assert got["created"] >= lease["expires"], "before the lease was over"
    runs.tool.run("release", "--all", **other)
    return run, pid


def test_a_killed_run_gives_its_seat_back_at_expiry_and_not_before(runs, feature):
    run, _ = killed_at_expiry(runs, feature, (), "SIGTERM")
    # The kernel passes the program on from thread to thread of `run` while they die, and may tell
    # it each time.
    assert run.words()[0] == "begun" and set(run.words()[1:]) == {"SIGTERM"}


def test_a_killed_run_takes_its_program_along_or_not(runs, feature):
    run, pid = killed_at_expiry(runs, feature, ("--on-loss", "warn"), None)
    assert is_alive(pid) and run.words() == ["begun"]
    run, pid = killed_at_expiry(runs, feature, ("--on-loss", "kill"), None)
    wait_until(lambda: not is_alive(pid), SECONDS, "the program is killed too")


def test_keep_leaves_the_lease_for_the_next_run(runs, feature):
    first = runs.witness(feature, options=("--keep",)).begun()
    lease = first.wait("acquired")
    first.finish()
    assert first.events("kept")
    runs.free(feature, NO_SEAT)
    second = runs.witness(feature).begun()
    again = second.wait("acquired")
    assert again["lease_ref"] == lease["lease_ref"] and again["resumed"] is True
    second.finish()
    runs.free(feature)


# ---- nodes go away -------------------------------------------------------------------------------


def test_a_program_survives_its_node(pair_runs):
    run = pair_runs.witness("render", options=("--duration", "20")).begun()
    home = run.wait("acquired")
    before = run.wait("renewed")
    node = pair_runs.pair.primary
    for victim in (node, pair_runs.pair.other(node)):
        count = len(run.events("renewed"))
        victim.kill()
        run.wait("renewed", count + 2)
        victim.start_alive()
        pair_runs.pair.wait_connected()
    assert run.events("renewed")[-1]["lease_ref"] == home["lease_ref"] == before["lease_ref"]
    assert run.words() == ["begun"] and not run.events("lost")
    run.finish()
    pair_runs.pair.wait_equal()


def test_both_nodes_away_at_the_end(pair_runs):
    run = pair_runs.witness("render", options=("--duration", "3600")).begun()
    for node in pair_runs.pair.both:
        node.kill()
    begin = time.monotonic()
    run.finish()
    assert time.monotonic() - begin < CALL_SECONDS + 2 * SLOWNESS
    (event,) = run.events("not_released")
    assert event["code"] == "no_node" and event["expires"] == run.wait("acquired")["expires"]


def test_grace(pair_runs):
    kept = pair_runs.witness("render", options=("--keep", "--duration", "3600")).begun()
    lease = kept.wait("acquired")
    kept.finish()
    for node in pair_runs.pair.both:
        node.kill()
    begin = time.monotonic()
    run = pair_runs.witness("render", options=("--grace",)).begun()
    assert time.monotonic() - begin < CALL_SECONDS + 2 * SLOWNESS
    acquired = run.wait("acquired")
    assert acquired["unconfirmed"] is True and acquired["lease_ref"] == lease["lease_ref"]
    begin = time.monotonic()
    pair_runs.start("render", "true", options=("--grace",), state="other").join(NO_NODE)
    pair_runs.start("render", "true").join(NO_NODE)
    assert time.monotonic() - begin < 2 * CALL_SECONDS + 4 * SLOWNESS
    for node in pair_runs.pair.both:
        node.start_alive()
    run.wait("renewed")
    run.finish()
    assert run.events("released")


# ---- the lease is lost ---------------------------------------------------------------------------


def revoke(run):
    run.runs.tool.run("revoke", run.wait("acquired")["lease_ref"])


def test_a_revoked_lease_ends_the_program(runs, feature):
    run = runs.witness(feature, "SIGTERM", options=("--duration", "10")).begun()
    revoke(run)
    begin = time.monotonic()
    run.join(LEASE_LOST)
    assert time.monotonic() - begin < REPLACE_SECONDS, "nothing to wait for: it was meant"
    assert run.words() == ["begun", "SIGTERM"]
    assert run.events("failed")[0]["error"]["code"] == "lease_lost"
    assert [one["signal"] for one in run.events("ending")] == ["SIGTERM"]


def test_a_program_that_does_not_listen_is_killed(runs, feature):
    options = ("--duration", "10", "--kill-after", "1", "--failure-code", "55")
    run = runs.witness(feature, "-SIGTERM", options=options).begun()
    revoke(run)
    run.join(55)
    assert run.words() == ["begun", "SIGTERM"]
    assert [one["signal"] for one in run.events("ending")] == ["SIGTERM", "SIGKILL"]
    assert run.events("ended")[0]["signal"] == signal.SIGKILL


def test_what_the_program_started_ends_with_it(runs, feature):
    """The shell goes at once; the process that does not listen would go on without a seat."""
    script = "(trap '' TERM; exec tail -f /dev/null) & echo $!; wait"
    run = runs.start(feature, "sh", "-c", script, options=("--duration", "10", "--kill-after", "2"))
    deaf = int(run.process.stdout.readline())
    wait_until(lambda: ignores(deaf, signal.SIGTERM), SECONDS, "it ignores SIGTERM")
    revoke(run)
    run.join(LEASE_LOST)
    wait_until(lambda: not is_alive(deaf), SECONDS, "it is killed")
    assert [one["signal"] for one in run.events("ending")] == ["SIGTERM", "SIGKILL"]


def test_people_read_what_happens(runs, feature):
    run = runs.witness(feature, "SIGTERM", options=("--duration", "10"), json=False).begun()
    (lease,) = [one for one in runs.nodes[0].leases(state="active") if one["feature"] == feature]
    runs.tool.run("revoke", lease["lease_ref"])
    run.join(LEASE_LOST)
    lines = run.told().splitlines()
    assert len(lines) == 3 and all(line.startswith("twinlease: ") for line in lines), lines
    assert f"ending {sys.executable} with SIGTERM" in lines[0]
    assert f"warning: the licence for {feature} is lost (" in lines[1]
    assert f"the licence for {feature} was lost (" in lines[2]
    quiet = runs.start(feature, "true", json=False, state="other", options=("--wait", "60"))
    quiet.join(OK)
    assert all("Waiting" in line for line in quiet.told().splitlines()), quiet.told()


def test_on_loss_kill(runs, feature):
    run = runs.witness(feature, "SIGTERM", options=("--duration", "10", "--on-loss", "kill"))
    revoke(run.begun())
    run.join(LEASE_LOST)
    assert run.words() == ["begun"]


def test_on_loss_warn_goes_on_and_tells_of_the_next_seat(runs, feature):
    run = runs.witness(feature, "SIGTERM", options=("--duration", "10", "--on-loss", "warn"))
    first = run.begun().wait("acquired")
    revoke(run)
    run.wait("unlicensed")
    again = run.wait("acquired", 2, seconds=SECONDS + 30)
    assert again["lease_ref"] != first["lease_ref"]
    run.finish()
    assert run.words() == ["begun", "over"]
    runs.free(feature)


def test_a_lease_that_nobody_can_renew_ends(nodes, publisher, tmp_path):
    node = nodes.make()
    publisher.trust(node.publishers_dir)
    node.start()
    expect(node.install(publisher.entitlement(node, {"render": 2})), 201)
    runs = Runs([node], tmp_path)
    run = runs.witness("render", "SIGTERM", options=("--duration", "4")).begun()
    node.kill()
    expires = instant(run.wait("trouble")["expires"])
    run.join(LEASE_LOST)
    lost, ending = (instant(run.events(name)[0]["time"]) for name in ("lost", "ending"))
    # Counted from when the lease was asked for, which is a moment before the node granted it.
    assert expires - 1 < lost < expires + SLOWNESS
    assert REPLACE_SECONDS - 0.5 < ending - lost < REPLACE_SECONDS + SLOWNESS
    runs.close()


def test_a_machine_that_was_suspended_goes_on(runs, feature):
    """Stopped for longer than the lease lasts; then there is another one in time."""
    run = runs.witness(feature, "SIGTERM", options=("--duration", "3")).begun()
    first = run.wait("renewed")
    run.signal(signal.SIGSTOP)
    node = runs.nodes[0]
    wait_until(
        lambda: not any(one["feature"] == feature for one in node.leases(state="active")),
        SECONDS,
        "the lease is over",
    )
    run.signal(signal.SIGCONT)
    again = run.wait("acquired", 2)
    assert again["lease_ref"] != first["lease_ref"] and run.events("lost")
    assert not run.events("ending")
    run.finish()
    assert run.words() == ["begun", "over"]


# ---- exit codes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 3, 6, 42, 255])
def test_the_exit_code_is_the_programs(runs, feature, code):
    run = runs.start(feature, "sh", "-c", f"exit {code}", options=("--failure-code", "99"))
    run.finish(code)
    assert run.events("ended")[0]["exit_code"] == code


def test_a_program_that_dies_of_a_signal(runs, feature):
    for name in ("KILL", "TERM", "SEGV", "USR1"):
        number = getattr(signal, f"SIG{name}")
        run = runs.start(feature, "sh", "-c", f"kill -{name} $$")
        run.join(128 + number)
    # So that a shell's loop ends as well: it looks at how its child died.
    runs.start(feature, "sh", "-c", "kill -INT $$").join(-signal.SIGINT)
    shell = f"{TOOL} run {feature} -- sh -c 'kill -INT $$'; echo $?"
    done = subprocess.run(
        ["sh", "-c", f"trap : INT; {shell}"],
        env=runs.tool.environment,
        stdout=subprocess.PIPE,
        timeout=SECONDS,
        check=False,
    )
    assert done.stdout == b"130\n"
    runs.free(feature)


def test_programs_that_cannot_be(runs, feature):
    plain, folder, broken = (runs.folder / name for name in ("plain", "folder", "broken"))
    plain.write_text("no program")
    folder.mkdir()
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    for program, code in (
        ("no-such-program", ABSENT),
        ("./no-such-program", ABSENT),
        ("", ABSENT),
        ("./plain/program", ABSENT),
        ("./plain", UNUSABLE),
        ("./folder", UNUSABLE),
        ("/dev/null", UNUSABLE),
        ("./broken", ABSENT),
    ):
        run = runs.start(feature, program, options=("--failure-code", "99")).join(code)
        error = run.events("failed")[0]["error"]
        name = "no_program" if code == ABSENT else "not_executable"
        assert error["exit_code"] == code and error["code"] == name
        # What can be known before is, and then no node is bothered.
        assert bool(run.events("acquired")) == (program == "./broken")
        assert bool(run.events("released")) == (program == "./broken")
        assert not run.events("started")
    runs.free(feature)


def test_command_lines_that_are_wrong(runs):
    for line, said in (
        ("run", "needs FEATURE"),
        ("run -- true", "needs FEATURE"),
        ("run render", "twinlease run render -- ./program"),
        ("run render --", "twinlease run render -- ./program"),
        ("run render true", "twinlease run render -- true"),
        ("run render --on-loss pray -- true", "warn|term|kill"),
        ("run render --keep --no-state -- true", "--keep"),
        ("run render --grace --no-state -- true", "--grace"),
        ("run render --failure-code 0 -- true", "1 to 255"),
        ("run render --failure-code 256 -- true", "1 to 255"),
        ("run render --kill-after 86401 -- true", "0 to 86400"),
        ("run render --timeout 61 -- true", "1 to 60"),
        ("run render --wait -1 -- true", "--wait"),
        ("run a/b -- true", "no feature name"),
    ):
        done = subprocess.run(
            [TOOL, *line.split()],
            env=runs.tool.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == USAGE and said in done.stderr, (line, done)
        assert done.stdout == ""


def test_a_token_that_is_not_there(runs):
    run = runs.start("render", "true", options=("--tok", "nowhere.tok")).join(BAD_FILE)
    assert "nowhere.tok" in run.events("failed")[0]["error"]["message"]


# ---- a disk that is full -------------------------------------------------------------------------


def nothing_can_be_written():
    """Before exec: files cannot grow. (Standard error, a file as well, gets its lines.)"""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def test_a_full_disk(seats_node, runs, feature):
    folder = runs.folder / "full"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=8", "tmpfs", folder],
        check=False,
        stderr=subprocess.DEVNULL,
    )
    if mounted.returncode:
        pytest.skip("may not mount")
    try:
        (folder / "ballast").write_bytes(bytes(4096))
        run = runs.witness(feature, state="full/state").begun()
        assert run.events("warning"), run.told()
        run.finish()
        assert run.events("released")
        runs.start(feature, "true", state="full/state", options=("--keep",)).join(STATE)
    finally:
        subprocess.run(["umount", folder], check=True)
    runs.free(feature)


def test_a_limit_on_files_is_no_end_of_the_program(runs, feature):
    """SIGXFSZ would be one; the program has the limit, and the signal, as it should."""
    program = "import signal; print(signal.getsignal(signal.SIGXFSZ) == signal.SIG_DFL)"
    environment = {**runs.tool.environment, "TWINLEASE_STATE": str(runs.folder / "state")}
    done = subprocess.run(
        [TOOL, "run", feature, "--", sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        preexec_fn=nothing_can_be_written,
        restore_signals=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == OK, done
    assert b"warning" in done.stderr
    runs.free(feature)


# ---- what the program gets -----------------------------------------------------------------------


def test_standard_streams_are_the_programs(runs, feature):
    data = bytes(range(256)) * 5000
    assert runs.start(feature, "cat").finish(data=data) == data


def test_nobody_else_holds_the_programs_pipes(runs, feature):
    """Who reads from it sees its end as soon as it closes its output, and who writes to it that
    nobody reads any more."""
    script = "exec <&- >&-; while [ ! -e go ]; do sleep 0.05; done"
    run = runs.start(feature, "sh", "-c", script)
    run.wait("started")
    ready, _, _ = select.select([run.process.stdout], [], [], SECONDS)
    assert ready and run.process.stdout.read() == b"", "the end of its output"

    def nobody_reads():
        _, writable, _ = select.select([], [run.process.stdin], [], 0)
        try:
            return writable and not os.write(run.process.stdin.fileno(), b"x")
        except BrokenPipeError:
            return True

    wait_until(nobody_reads, SECONDS, "a broken pipe")
    assert run.process.poll() is None
    (runs.folder / "go").touch()
    run.join(OK)


PICTURE = """
import json, os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")
                  if os.path.exists(f"/proc/self/fd/{fd}")),
    **{name: int(status[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")},
    "environment": {k: v for k, v in os.environ.items() if k.startswith("TWINLEASE_")},
    "folder": os.getcwd(), "group": os.getpgrp() == os.getpid()}))
"""


def test_the_program_has_what_run_was_started_with(runs, feature):
    mine, theirs = os.pipe()
    program = ("perl", "-e", "exec @ARGV", sys.executable, "-c", PICTURE)

    def before():  # Python ignores both, and would give them on
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup

    direct = json.loads(
        subprocess.run(
            program, stdout=subprocess.PIPE, pass_fds=(theirs,), preexec_fn=before, check=True
        ).stdout
    )
    run = runs.start(feature, *program, pass_fds=(theirs,), preexec_fn=before)
    picture = json.loads(run.finish())
    for name in ("fds", "SigBlk", "SigIgn", "SigCgt"):
        assert picture[name] == direct[name], name
    assert theirs in picture["fds"] and picture["SigIgn"] & bit(signal.SIGHUP)
    assert picture["folder"] == str(runs.folder)
    assert picture["group"], "it leads a process group"
    lease = run.events("acquired")[0]
    ours = set(picture["environment"]) - set(run.runs.tool.environment)
    assert ours == {"TWINLEASE_LEASE_REF", "TWINLEASE_FEATURE", "TWINLEASE_COUNT"}
    assert picture["environment"]["TWINLEASE_LEASE_REF"] == lease["lease_ref"]
    assert picture["environment"]["TWINLEASE_FEATURE"] == feature
    assert picture["environment"]["TWINLEASE_COUNT"] == "1"
    os.close(mine)
    os.close(theirs)


def test_closed_streams_stay_closed(runs, feature):
    program = "import os; os._exit(sum(not os.path.exists(f'/proc/self/fd/{n}') for n in range(3)))"
    script = f'exec {TOOL} run {feature} -- {sys.executable} -c "{program}" <&- >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", script], env=runs.tool.environment, timeout=SECONDS, check=False
    )
    assert done.returncode == 3


# ---- signals -------------------------------------------------------------------------------------

HANDED_ON = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGALRM", "SIGCONT",
             "SIGRTMIN")  # fmt: skip


def test_signals_are_handed_on_once(runs, feature):
    run = runs.witness(feature, *(f"-{name}" for name in HANDED_ON)).begun()
    for name in HANDED_ON:
        run.signal(getattr(signal, name))
        run.wait_word(name)
    assert run.words() == ["begun", *HANDED_ON]
    run.finish()


def test_a_signal_for_the_whole_group_reaches_the_program_once(runs, feature):
    run = runs.witness(feature, "-SIGUSR1", "-SIGUSR2").begun()
    run.signal(signal.SIGSTOP)  # so that what comes from it can be told from what comes past it
    os.killpg(run.process.pid, signal.SIGUSR1)
    run.signal(signal.SIGCONT)
    run.wait_word("SIGUSR1")
    run.signal(signal.SIGUSR2)
    run.wait_word("SIGUSR2")
    assert run.words() == ["begun", "SIGUSR1", "SIGUSR2"]
    assert os.getpgid(run.pid) == run.pid
    run.finish()


def test_what_a_shell_started_ends_with_it(runs, feature):
    """Without a terminal a signal is for the whole process group of the program."""
    run = runs.start(feature, "sh", "-c", "tail -f /dev/null & echo $!; wait")
    child = int(run.process.stdout.readline())
    run.signal(signal.SIGTERM)
    run.join(128 + signal.SIGTERM)
    wait_until(lambda: not is_alive(child), SECONDS, "the shell's child has ended too")


def test_stopping_and_going_on(runs, feature):
    run = runs.witness(feature).begun()
    run.signal(signal.SIGTSTP)
    wait_until(lambda: is_stopped(run.pid), SECONDS, "stopped")
    assert not is_stopped(run.process.pid), "it keeps the seat"
    run.signal(signal.SIGCONT)
    wait_until(lambda: not is_stopped(run.pid), SECONDS, "awake")
    run.finish()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"])
def test_a_signal_ends_the_wait(runs, feature, name):
    number = getattr(signal, name)
    first = runs.witness(feature).begun()
    second = runs.witness(feature, state="other", options=("--wait", "600", "--failure-code", "9"))
    second.wait("waiting")
    begin = time.monotonic()
    second.signal(number)
    second.join(-number if name == "SIGINT" else 128 + number)
    assert time.monotonic() - begin < 5 * SLOWNESS
    error = second.events("failed")[0]["error"]
    assert error["code"] == "interrupted" and error["exit_code"] == 128 + number
    assert second.words() == []
    first.finish()
    runs.free(feature)


def test_the_process_that_waits_goes_with_run(runs, feature):
    """kill -9 while it waits: nothing is left that would begin later."""
    first = runs.witness(feature).begun()
    second = runs.witness(feature, state="other", options=("--wait", "600", "--on-loss", "warn"))
    second.wait("waiting")
    with open(f"/proc/{second.process.pid}/task/{second.process.pid}/children") as file:
        (waiting,) = map(int, file.read().split())
    second.signal(signal.SIGKILL)
    second.join(-signal.SIGKILL)
    wait_until(lambda: not is_alive(waiting), SECONDS, "it is gone")
    first.finish()
    assert second.words() == []


# ---- a terminal ----------------------------------------------------------------------------------


class Terminal:
    """A shell with job control would do the same: a session, a terminal, a foreground group."""

    def __init__(self, runs, feature, *signals, options=()):
        self.log = str(runs.folder / "terminal")
        self.master, slave = pty.openpty()
        words = [TOOL, "run", feature, *options, "--", sys.executable, "-c", WITNESS, self.log]
        program = (
            "import os, sys, signal, fcntl, termios\n"
            "os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
            "pid = os.fork()\n"
            "if pid == 0:\n"
            "    os.setpgid(0, 0); signal.signal(signal.SIGTTOU, signal.SIG_IGN)\n"
            "    os.tcsetpgrp(0, os.getpid()); signal.signal(signal.SIGTTOU, signal.SIG_DFL)\n"
            "    os.execv(sys.argv[1], sys.argv[1:])\n"
            "while True:\n"
            "    pid, status = os.waitpid(pid, os.WUNTRACED)\n"
            "    if os.WIFSTOPPED(status):\n"
            "        print('stopped', flush=True)\n"
            "        continue\n"
            "    print('ended', os.waitstatus_to_exitcode(status), flush=True)\n"
            "    break\n"
        )
        self.shell = subprocess.Popen(
            [sys.executable, "-c", program, *words, *signals],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=runs.tool.environment,
            cwd=runs.folder,
        )
        os.close(slave)
        self.screen = b""
        wait_until(lambda: "begun" in self.words(), SECONDS, self.look)

    def words(self):
        if not os.path.exists(self.log):
            return []
        with open(self.log, encoding="ascii") as file:
            return file.read().split()

    def look(self):
        while select.select([self.master], [], [], 0)[0]:
            try:
                self.screen += os.read(self.master, 4096)
            except OSError:
                break
        return self.screen.decode()

    def key(self, key):
        os.write(self.master, key)

    def job(self):
        """The processes of the foreground group."""
        group = os.tcgetpgrp(self.master)
        members = []
        for name in os.listdir("/proc"):
            try:
                if name.isdigit() and os.getpgid(int(name)) == group:
                    members.append(int(name))
            except ProcessLookupError:
                pass
        return group, members

    def wait_end(self):
        wait_until(lambda: "ended " in self.look(), SECONDS, self.look)
        self.shell.wait(SECONDS)
        os.close(self.master)
        return int(self.screen.decode().partition("ended ")[2].split()[0])


def test_a_key_reaches_the_program_once(runs, feature):
    terminal = Terminal(runs, feature, "-SIGINT", "-SIGQUIT", "-SIGUSR1")
    group, members = terminal.job()
    assert len(members) == 2, "run and its program are one job"
    for key, word in ((b"\x03", "SIGINT"), (b"\x1c", "SIGQUIT"), (b"\x03", "SIGINT")):
        count, marks = terminal.words().count(word), terminal.words().count("SIGUSR1")
        os.kill(group, signal.SIGSTOP)  # run itself: what it hands on comes later than the key
        terminal.key(key)
        wait_until(lambda: terminal.words().count(word) > count, SECONDS, terminal.look)
        os.kill(group, signal.SIGCONT)
        os.kill(group, signal.SIGUSR1)  # which is handed on, and after all that came before
        wait_until(lambda: terminal.words().count("SIGUSR1") > marks, SECONDS, terminal.look)
    keys = [word for word in terminal.words() if word != "SIGUSR1"]
    assert keys == ["begun", "SIGINT", "SIGQUIT", "SIGINT"]
    terminal.key(b"line\n")  # it may read from the terminal
    assert terminal.wait_end() == 0
    assert terminal.words()[-1] == "over"
    runs.free(feature)


def test_ctrl_c_ends_the_job(runs, feature):
    terminal = Terminal(runs, feature)
    terminal.key(b"\x03")
    assert terminal.wait_end() == -signal.SIGINT
    runs.free(feature)


def test_ctrl_z_stops_the_job(runs, feature):
    terminal = Terminal(runs, feature)
    group, members = terminal.job()
    terminal.key(b"\x1a")
    wait_until(lambda: all(map(is_stopped, members)), SECONDS, terminal.look)
    wait_until(lambda: "stopped" in terminal.look(), SECONDS, "the shell sees that it stopped")
    os.killpg(group, signal.SIGCONT)
    wait_until(lambda: not any(map(is_stopped, members)), SECONDS, terminal.look)
    terminal.key(b"line\n")
    assert terminal.wait_end() == 0
    runs.free(feature)


# ---- process 1 -----------------------------------------------------------------------------------

# A grandchild whose parent ends first is the wrapper's; it must not stay as a zombie.
ORPHANS = """
import os, signal, sys, threading
def zombies():
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                words = file.read().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += [name] if words[0] == "Z" else []
    return found
assert os.getppid() == 1, os.getppid()
for _ in range(20):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.wait()
for _ in range(600):
    if not zombies():
        break
    threading.Event().wait(0.05)
print("reaped" if not zombies() else "zombies", flush=True)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("ready", flush=True)
signal.sigwait({signal.SIGTERM})
sys.exit(21)
"""


def in_a_container(runs, feature, *program, **more):
    return runs.start(
        feature, *program, wrapper=("unshare", "--pid", "--fork", "--mount-proc"), **more
    )


def first_process(run):
    """Process 1 of the namespace, as we see it."""
    path = f"/proc/{run.process.pid}/task/{run.process.pid}/children"
    with open(path, encoding="ascii") as file:
        return int(file.read().split()[0])


def test_as_process_1_it_reaps_and_hands_on(runs, feature):
    probe = subprocess.run(["unshare", "--pid", "--fork", "true"], check=False)
    if probe.returncode:
        pytest.skip("no PID namespace to be had")
    run = in_a_container(runs, feature, sys.executable, "-c", ORPHANS)
    assert run.process.stdout.readline() == b"reaped\n", run.told()
    assert run.process.stdout.readline() == b"ready\n"
    os.kill(first_process(run), signal.SIGTERM)
    run.join(21)
    assert run.events("released")
    runs.free(feature)


def test_as_process_1_it_ends_by_codes(runs, feature):
    probe = subprocess.run(["unshare", "--pid", "--fork", "true"], check=False)
    if probe.returncode:
        pytest.skip("no PID namespace to be had")
    in_a_container(runs, feature, "sh", "-c", "kill -INT $$").join(130)
    first = runs.witness(feature).begun()
    second = in_a_container(runs, feature, "true", state="other", options=("--wait", "600"))
    second.wait("waiting")
    os.kill(first_process(second), signal.SIGTERM)
    second.join(128 + signal.SIGTERM)
    first.finish()
