"""A program that uses the Python binding, as a test tells it (binding.py): each line of its input
is a JSON string of Python, each line of its output what that gave. Nothing but the binding and the
standard library is imported, so this is what a user's program is."""

import json
import os
import signal
import sys
import threading
import time

import twinlease

REPLIES = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)  # what anything else prints is no reply


def carry_out(code, names):
    try:
        compiled = compile(code, "<test>", "eval")
    except SyntaxError:
        exec(code, names)
        return None
    return eval(compiled, names)


def reply(code, names):
    try:
        return {"value": carry_out(code, names)}
    except twinlease.TwinleaseError as error:
        return {"error": type(error).__name__, **vars(error)}
    except Exception as problem:  # the test judges it
        return {"error": type(problem).__name__, "message": str(problem)}


def main():
    # Tests that run in the background have Control-C ignored, and so would this program.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    names = {"twinlease": twinlease, "threading": threading, "time": time, "os": os, "changes": []}
    for line in sys.stdin:
        print(json.dumps(reply(json.loads(line), names), default=str), file=REPLIES, flush=True)


main()
