"""Waiting for a condition, with a deadline: tests never sleep for a guessed time."""

import time

POLL_SECONDS = 0.02


def wait_until(condition, seconds, what):
    """Polls until condition() is true and returns its value; fails with `what` at the deadline.
    `what` may be a function, to be called for the message."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(POLL_SECONDS)
