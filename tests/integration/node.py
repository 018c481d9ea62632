"""A running twinlease-node, and the operator who speaks to it."""

import json
import os
import signal
import socket
import subprocess

import requests

import jose
from cluster import ROOT
from waiting import wait_until

NODE = os.environ.get("TWINLEASE_NODE") or os.path.join(ROOT, "build/release/node/twinlease-node")
TOOL = os.environ.get("TWINLEASE_TOOL") or os.path.join(ROOT, "build/release/client/twinlease")
INSTANCE_REF = "10000000-0000-4000-8000-000000000001"

# Sanitized builds are several times slower; deadlines are for hangs, not for speed.
START_SECONDS = 60
STOP_SECONDS = 60
REQUEST_SECONDS = 60

# /proc/net/tcp's word for a socket that listens.
LISTENING = "0A"

SANITIZER_REPORTS = (
    "AddressSanitizer",
    "ThreadSanitizer",
    "LeakSanitizer",
    "runtime error:",
    "must() failed",
)


def sanitizer_environment():
    """Reports stop the process with a code that no test takes for success. Each suppression file
    says why each of its lines is there."""
    folder = os.path.join(ROOT, "tests")
    return {
        "ASAN_OPTIONS": "exitcode=99:abort_on_error=0:detect_stack_use_after_return=1",
        "LSAN_OPTIONS": f"suppressions={folder}/lsan.supp:print_suppressions=0",
        "TSAN_OPTIONS": f"suppressions={folder}/tsan.supp:exitcode=98:halt_on_error=1:"
        "second_deadlock_stack=1",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    }


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def two_ports():
    """A free port whose next one is free, too."""
    while True:
        port = free_port()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port + 1))
                return port
            except (OSError, OverflowError):
                continue


class Node:
    """One node with its own database and folder. The environment holds only what is said here:
    nothing leaks in from the caller's."""

    def __init__(self, folder, database, authority, **settings):
        self.folder = str(folder)
        self.state_dir = os.path.join(self.folder, "state")
        self.publishers_dir = os.path.join(self.folder, "publishers")
        for path in (self.state_dir, self.publishers_dir):
            os.makedirs(path, mode=0o700, exist_ok=True)
        self.port = free_port()
        self.url = f"https://localhost:{self.port}"
        self.ca_file = authority.ca_file
        certificate, key, _ = authority.issue(f"server-{self.port}")
        self.settings = {
            "DATABASE": database,
            "STATE_DIR": self.state_dir,
            "DLS_URL": "localhost",
            "DLS_PORT": str(self.port),
            "LISTEN": f"127.0.0.1:{self.port}",
            "TLS_CERT": certificate,
            "TLS_KEY": key,
            "TLS_CA": authority.ca_file,
            "PUBLISHER_KEYS": self.publishers_dir,
            "LOG_FORMAT": "json",
            "WORKERS": "2",
            **{name: str(value) for name, value in settings.items()},
        }
        self.instance_ref = self.settings.get("INSTANCE_REF", INSTANCE_REF)
        self.log_file = os.path.join(self.folder, "node.log")
        self.process = None
        self.sessions = []
        self.session = self.new_session()
        self._thumbprint = None

    # ---- process ----

    def environment(self):
        settings = {name: value for name, value in self.settings.items() if value != "None"}
        return {"PATH": os.environ["PATH"], **sanitizer_environment(), **settings}

    def spawn(self, arguments=()):
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                [NODE, *arguments],
                env=self.environment(),
                stderr=log,
                stdout=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
            )

    def start(self, ready=True):
        self.spawn()
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self, seconds=START_SECONDS):
        wait_until(self.is_ready, seconds, lambda: f"ready; its log ends:\n{self.log_tail()}")

    def wait_not_ready(self, seconds=START_SECONDS):
        wait_until(lambda: not self.is_ready(), seconds, "no longer ready")

    def is_ready(self):
        code = self.process.poll()
        assert code is None, f"the node stopped with {code}; its log ends:\n{self.log_tail()}"
        try:
            return self.get("/-/ready", token=None).status_code == 200
        except requests.RequestException:
            return False

    def run_to_end(self, seconds=START_SECONDS):
        """For starts that must fail: exit code and standard error, which is also kept as the
        log."""
        done = subprocess.run(
            [NODE],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            text=True,
            capture_output=True,
            timeout=seconds,
            cwd=self.folder,
            check=False,
        )
        with open(self.log_file, "a", encoding="utf-8") as log:
            log.write(done.stderr)
        return done.returncode, done.stderr

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        """An orderly stop must end with exit code 0."""
        if self.process is None:
            return
        self.signal(signal.SIGTERM)
        code = self.process.wait(STOP_SECONDS)
        self.process = None
        assert code == 0, f"exit code {code}; its log ends:\n{self.log_tail()}"

    def kill(self):
        self.process.kill()
        self.process.wait(STOP_SECONDS)
        self.process = None

    def restart(self):
        self.stop()
        self.start()

    def start_alive(self):
        """Until it answers at all: for a node that may not decide anything (yet)."""
        self.start(ready=False)
        wait_until(self.lives, START_SECONDS, lambda: f"alive; its log ends:\n{self.log_tail()}")
        return self

    def restart_alive(self):
        self.stop()
        self.start_alive()

    def lives(self):
        code = self.process.poll()
        assert code is None, f"the node stopped with {code}; its log ends:\n{self.log_tail()}"
        try:
            return self.get("/-/health", token=None).status_code == 200
        except requests.RequestException:
            return False

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def open_connections(self):
        """How many connections it holds: accepted, and not closed by it. From the table of all
        sockets, because a node's /proc/PID/fd is closed to the user it runs as. Sockets that still
        wait to be accepted, or that only the kernel has left, have no inode."""
        found = 0
        for table in ("tcp", "tcp6"):
            with open(f"/proc/net/{table}", encoding="ascii") as file:
                rows = [line.split() for line in file.readlines()[1:]]
            for _, local, _, state, _, _, _, _, _, inode, *_ in rows:
                port = int(local.rpartition(":")[2], 16)
                found += port == self.port and state != LISTENING and inode != "0"
        return found

    # ---- log ----

    def log(self):
        if not os.path.exists(self.log_file):
            return ""
        with open(self.log_file, encoding="utf-8", errors="replace") as file:
            return file.read()

    def log_tail(self, characters=3000):
        return self.log()[-characters:]

    def log_events(self):
        """The structured lines, as objects."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def assert_no_reports(self):
        text = self.log()
        found = [word for word in SANITIZER_REPORTS if word in text]
        assert not found, f"{found} in the node's log:\n{text[-8000:]}"

    # ---- operator ----

    def new_session(self):
        session = requests.Session()
        session.trust_env = False
        session.verify = self.ca_file
        self.sessions.append(session)
        return session

    def close_sessions(self):
        """Open connections hold up the end of a node for as long as a drain may take."""
        for session in self.sessions:
            session.close()

    def admin_token(self):
        with open(os.path.join(self.state_dir, "admin.token"), encoding="ascii") as file:
            return file.read().strip()

    def call(self, method, path, token="admin", session=None, headers=None, **more):
        """One request. token: "admin", None (none at all) or the token's text."""
        headers = dict(headers or {})
        if token is not None:
            headers["Authorization"] = "Bearer " + (
                self.admin_token() if token == "admin" else token
            )
        more.setdefault("timeout", REQUEST_SECONDS)
        more.setdefault("allow_redirects", False)
        return (session or self.session).request(method, self.url + path, headers=headers, **more)

    def get(self, path, **more):
        return self.call("GET", path, **more)

    def post(self, path, **more):
        return self.call("POST", path, **more)

    def put(self, path, **more):
        return self.call("PUT", path, **more)

    def delete(self, path, **more):
        return self.call("DELETE", path, **more)

    def jwks(self):
        return expect(self.get("/.well-known/jwks.json", token=None), 200)["keys"]

    @property
    def instance_thumbprint(self):
        if self._thumbprint is None:
            self._thumbprint = jose.thumbprint(self.jwks()[0])
        return self._thumbprint

    def install(self, text):
        return self.post("/-/entitlements", data=text, headers={"Content-Type": "application/jose"})

    def client_token(self, **parameters):
        answer = self.get("/-/client-token", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.text.strip()

    def all_pages(self, path, **parameters):
        """Follows Link: rel="next" to the end."""
        items, seen = [], 0
        url = path
        while url:
            answer = self.get(url, params=parameters if url == path else None)
            body = expect(answer, 200)
            items += first_list(body)
            seen += 1
            assert seen < 10000, "the pages do not end"
            following = answer.links.get("next", {}).get("url")
            url = (
                following[len(self.url) :]
                if following and following.startswith(self.url)
                else following
            )
        return items

    def leases(self, **parameters):
        return self.all_pages("/-/leases", **parameters)

    def origins(self, **parameters):
        return self.all_pages("/-/origins", **parameters)


def first_list(body):
    if isinstance(body, list):
        return body
    lists = [value for value in body.values() if isinstance(value, list)]
    assert len(lists) == 1, body
    return lists[0]


def expect(answer, status):
    """The answer's JSON, if it has the status."""
    assert answer.status_code == status, f"{answer.status_code} instead of {status}: {answer.text}"
    return answer.json() if answer.content else None


def expect_problem(answer, status, code):
    """A problem document (RFC 9457) with this status and code; returns it."""
    assert answer.status_code == status, f"{answer.status_code} instead of {status}: {answer.text}"
    assert answer.headers["Content-Type"] == "application/problem+json", answer.headers
    problem = answer.json()
    assert problem["code"] == code, problem
    assert problem["status"] == status, problem
    assert problem["title"] and problem["type"], problem
    assert answer.headers["X-Request-Id"]
    return problem
