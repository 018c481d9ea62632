"""Programs that use client/python/twinlease.py, each in a process of its own: it can be stopped,
killed and started again, and the library of a sanitized build can be loaded into it."""

import json
import os
import select
import signal
import subprocess
import sys
import time

from cluster import ROOT
from node import SANITIZER_REPORTS, TOOL, sanitizer_environment

LIBRARY = os.path.join(os.path.dirname(TOOL), "libtwinlease.so.0")
PROGRAM = os.path.join(os.path.dirname(os.path.realpath(__file__)), "python_program.py")
SECONDS = 120  # for a reply: for hangs


def sanitizer_runtimes():
    """Of the library's build: to be loaded before anything else into a program without."""
    done = subprocess.run(["ldd", LIBRARY], capture_output=True, text=True, check=True)
    return [
        line.split()[2]
        for line in done.stdout.splitlines()
        if line.split()[0].startswith(("libasan", "libtsan"))
    ]


class Failure(Exception):
    """An exception of the program: `kind` is its type, the rest its attributes."""

    def __init__(self, reply):
        self.kind = reply.pop("error")
        self.message = reply.pop("message")
        self.more = reply
        super().__init__(f"{self.kind}: {self.message}")


class Program:
    """program("1 + 1") gives 2; what is no expression is executed and gives None. There are
    `twinlease`, `threading`, `time`, `os`, and an empty list `changes`."""

    def __init__(self, folder, **environment):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.log_file = folder / "program.log"
        sanitizers = sanitizer_environment()
        sanitizers["ASAN_OPTIONS"] += ":detect_leaks=0"  # the interpreter's own
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(folder),
                    "PYTHONPATH": os.path.join(ROOT, "client", "python"),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "PYTHONFAULTHANDLER": "1",
                    "TWINLEASE_LIBRARY": LIBRARY,
                    "LD_PRELOAD": " ".join(sanitizer_runtimes()),
                    **sanitizers,
                    **environment,
                },
            )

    def send(self, code):
        self.process.stdin.write(json.dumps(code).encode() + b"\n")
        self.process.stdin.flush()

    def receive(self):
        deadline = time.monotonic() + SECONDS
        if not select.select([self.process.stdout], [], [], deadline - time.monotonic())[0]:
            raise AssertionError(f"no reply within {SECONDS} s\n{self.log_tail()}")
        line = self.process.stdout.readline()
        assert line, f"the program ended with {self.process.wait(SECONDS)}\n{self.log_tail()}"
        reply = json.loads(line)
        if "error" in reply:
            raise Failure(reply)
        return reply["value"]

    def __call__(self, code):
        self.send(code)
        return self.receive()

    def fails(self, kind, code):
        """The Failure that this code ends with, which must be of this kind."""
        try:
            value = self(code)
        except Failure as failure:
            assert failure.kind == kind, failure
            return failure
        raise AssertionError(f"{code} gives {value} instead of {kind}")

    def log_tail(self):
        return self.log_file.read_text(errors="replace")[-3000:]

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait(SECONDS)
        self.process.stdin.close()
        self.process.stdout.close()

    def end(self):
        """In order: its input ends. Anything sanitizers or the interpreter have to say is wrong."""
        if self.process.stdin.closed:
            return
        self.process.stdin.close()
        self.signal(signal.SIGCONT)  # a test may have failed in between
        code = self.process.wait(SECONDS)
        self.process.stdout.close()
        log = self.log_file.read_text(errors="replace")
        assert code == 0, f"the program ended with {code}\n{self.log_tail()}"
        wrong = (*SANITIZER_REPORTS, "Traceback", "Exception ignored")
        assert not any(mark in log for mark in wrong), log
