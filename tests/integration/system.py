"""A container with a systemd of its own, in which twinlease is installed."""

import os
import subprocess

from cluster import ROOT
from node import TOOL

SCRIPT = os.path.join(ROOT, "tests", "lib", "systemd-container")
BUILD = os.path.dirname(os.path.dirname(TOOL))
COMMAND_SECONDS = 90  # deadlines are for hangs
END_SECONDS = 90


class System:
    """Starts it; it ends with close(), and by itself if this process ends."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.log_file = os.path.join(self.folder, "system.log")
        with open(self.log_file, "wb") as log:
            self.process = subprocess.Popen(
                [SCRIPT, self.folder, BUILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.docker_host = self.process.stdout.readline().strip()
        self.container = self.process.stdout.readline().strip()
        if not self.container:
            self.close()
            raise AssertionError(f"no system:\n{self.log()}")

    def close(self):
        self.process.stdin.close()
        code = self.process.wait(END_SECONDS)
        self.process.stdout.close()
        assert code == 0 or not self.container, f"it ended with {code}:\n{self.log()}"

    def log(self):
        with open(self.log_file, encoding="utf-8", errors="replace") as file:
            return file.read()

    # ---- commands ----

    def docker(self, *arguments, text=None):
        return subprocess.run(
            ["docker", "--host", self.docker_host, *arguments],
            env={"PATH": os.environ["PATH"], "DOCKER_CONFIG": self.folder},
            input=text or "",
            text=True,
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def run(self, *command, text=None):
        """Exit code, and what it said."""
        done = self.docker("exec", "--interactive", self.container, *command, text=text)
        return done.returncode, done.stdout + done.stderr

    def must(self, *command, text=None):
        code, said = self.run(*command, text=text)
        assert code == 0, f"{' '.join(command)}: exit code {code}\n{said}"
        return said

    def write(self, path, text, mode="644", group="root"):
        """A file, replaced at once."""
        self.must(
            "sh",
            "-ec",
            'mkdir -p "${1%/*}"; cat >"$1.new"; chgrp "$3" "$1.new"; chmod "$2" "$1.new"; '
            'mv "$1.new" "$1"',
            "sh",
            path,
            mode,
            group,
            text=text,
        )

    def copy_in(self, file, path):
        done = self.docker("cp", str(file), f"{self.container}:{path}")
        assert done.returncode == 0, done.stderr

    def remove(self, path):
        self.must("rm", "-f", path)
