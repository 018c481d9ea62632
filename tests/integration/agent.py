"""A running `twinlease agent`, as an operator starts it by hand, and what it shows of itself."""

import json
import os
import re
import signal
import socket
import subprocess

from node import SANITIZER_REPORTS, TOOL, sanitizer_environment
from waiting import wait_until

AGENT_SECONDS = 60  # deadlines are for hangs
OK, USAGE, NO_SEAT, NO_NODE, LEASE_LOST, VERIFICATION, BAD_FILE, STATE = 0, 2, 3, 4, 6, 7, 8, 12


class NotifySocket:
    """What systemd would hear: the messages in the order of their arrival."""

    def __init__(self, path):
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.setblocking(False)
        self.heard = []

    def close(self):
        self.socket.close()

    def listen(self):
        while True:
            try:
                text = self.socket.recv(65536).decode()
            except BlockingIOError:
                return self.heard
            self.heard += text.splitlines()

    def count(self, start):
        return sum(one.startswith(start) for one in self.listen())

    def wait(self, start, times=1, seconds=AGENT_SECONDS):
        wait_until(
            lambda: self.count(start) >= times,
            seconds,
            lambda: f"{times} x {start}; heard: {self.heard}",
        )


class Agent:
    """Settings as keyword arguments without their prefix: FEATURES="render"."""

    def __init__(self, folder, **settings):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.status_file = folder / "agent.json"
        self.proofs = folder / "proofs"
        self.settings = {
            "FEATURES": "render",
            "TOK": str(folder / "client.tok"),
            "STATE": str(folder / "state"),
            "STATUS_FILE": str(self.status_file),
            "PROOF_DIR": str(self.proofs),
        }
        self.settings.update({name: str(value) for name, value in settings.items()})
        self.more_environment = {}
        self.prefix = []  # of the command line
        self.log_file = folder / "agent.log"
        self.process = None

    # ---- process ----

    def environment(self):
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            **sanitizer_environment(),
            **{f"TWINLEASE_{name}": value for name, value in self.settings.items()},
            **self.more_environment,
        }

    def token(self, node, **parameters):
        with open(self.settings["TOK"], "w", encoding="ascii") as file:
            file.write(node.client_token(**parameters))

    def spawn(self, *arguments):
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, TOOL, "agent", *arguments],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        return self

    def start(self, *arguments):
        """Until its features are licensed."""
        self.spawn(*arguments)
        self.wait_licensed()
        return self

    def run_to_end(self, *arguments, command="agent"):
        done = subprocess.run(
            [*self.prefix, TOOL, *command.split(), *arguments],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=AGENT_SECONDS,
            cwd=self.folder,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        if self.process is None:
            return self
        self.signal(signal.SIGTERM)
        return self.wait_end()

    def wait_end(self, code=0):
        found = self.process.wait(AGENT_SECONDS)
        self.process = None
        assert found == code, f"exit code {found}; its log:\n{self.log()}"
        return self

    def kill(self):
        self.process.kill()
        self.process.wait(AGENT_SECONDS)
        self.process = None
        return self

    def finish(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait(AGENT_SECONDS)
        found = [word for word in SANITIZER_REPORTS if word in self.log()]
        assert not found, f"{found} in the agent's log:\n{self.log()[-8000:]}"

    # ---- what it shows ----

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def wait_log(self, pattern, times=1, seconds=AGENT_SECONDS):
        wait_until(
            lambda: len(re.findall(pattern, self.log())) >= times,
            seconds,
            lambda: f"{times} x {pattern} in the log:\n{self.log()}",
        )

    def status(self, *arguments):
        """Exit code and document of `twinlease agent status`."""
        code, out, err = self.run_to_end("--json", *arguments, command="agent status")
        return code, json.loads(out) if out else {}, err

    def status_code(self, *arguments):
        return self.status(*arguments)[0]

    def wait_status(self, code, *arguments, seconds=AGENT_SECONDS):
        wait_until(
            lambda: self.alive() and self.status_code(*arguments) == code,
            seconds,
            lambda: f"status {code}: {self.status(*arguments)}\n{self.log()}",
        )

    def alive(self):
        code = self.process.poll() if self.process else None
        assert code is None, f"the agent ended with {code}; its log:\n{self.log()}"
        return True

    def wait_licensed(self, seconds=AGENT_SECONDS):
        self.wait_status(OK, seconds=seconds)

    def wait_lease(self, feature, lease_ref):
        wait_until(
            lambda: self.alive() and self.lease_ref(feature) == lease_ref,
            AGENT_SECONDS,
            lambda: f"{feature} by {lease_ref}: {self.features()}",
        )

    def features(self):
        """The status file's list, by name."""
        body = json.loads(self.status_file.read_text())
        return {one["feature"]: one for one in body["feature_list"]}

    def lease_ref(self, feature="render"):
        return self.features()[feature].get("lease_ref")


def held(node, feature="render"):
    """The active leases that the node knows of a feature."""
    return [one for one in node.leases(state="active") if one["feature"] == feature]
