#!/usr/bin/python3
"""ledgers.py ONE TWO

Compares what ledger.sql printed of two databases, row by row (I3). They must be the same, but for
one thing: a lease that had ended, and whose `expires` every clock has passed, may be missing at one
node. It was over before that node heard of it, as in a refill or after a long cut; or it was purged
there.
Prints what differs; exit code 1 if anything does."""

import json
import sys
import time

LEASE_ACTIVE = 0


def parse(lines):
    """{what identifies the row: row}"""
    rows = {}
    for line in lines:
        kind, _, text = line.partition(" ")
        row = json.loads(text)
        key = (row["lease_ref"], row["home"]) if kind == "lease" else text
        rows[(kind, key)] = row
    return rows


def is_over(kind, row, now_ms):
    return kind == "lease" and row["state"] != LEASE_ACTIVE and row["expires_ms"] < now_ms


def differences(one, two, now_ms=None):
    """Of two lists of lines; a list of sentences, empty if the ledgers are equal."""
    now_ms = now_ms or int(time.time() * 1000)
    one, two = parse(one), parse(two)
    found = []
    for key in sorted(one.keys() | two.keys(), key=str):
        mine, other = one.get(key), two.get(key)
        if mine == other:
            continue
        if (mine is None or other is None) and is_over(key[0], mine or other, now_ms):
            continue
        found.append(f"{key[0]}: {json.dumps(mine)} / {json.dumps(other)}")
    return found


def main():
    lines = []
    for path in sys.argv[1:3]:
        with open(path, encoding="utf-8") as file:
            lines.append(file.read().splitlines())
    found = differences(*lines)
    for sentence in found:
        print(sentence)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
