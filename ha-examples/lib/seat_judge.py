#!/usr/bin/python3
"""seat_judge.py --log FILE --seats N [--survivor] [--no-refusal]

An auditor who knows only what clients were told (`clients.py` describes the log). It knows nothing
of nodes, credits or watermarks, and asks nobody. It finds out

  - whether machines ever held more seats than there are. A machine holds a lease from the answer
    that granted it until it asks to give it back, or until `expires_in` has passed since it *sent*
    the last request that was answered with it: it cannot know when in between the node decided;
  - whether an acknowledged lease was lost: refused or not listed while its machine held it;
  - with --survivor: whether, between the marks `down NODE` and `up NODE`, the other node answered
    each request that it was sent, from the very next one on;
  - with --no-refusal: whether each request was answered by one node or the other.

The last line of its output has the figures. Exit code 1 if anything is wrong, and what."""

import argparse
import json
import sys

# A private lease needs its home (I2), and its token said so: no other answer is possible.
EXCUSES = ("ask_other_node",)


class Verdict:
    """Figures, and what is wrong."""

    def __init__(self):
        self.problems = []
        self.acknowledged = self.exchanges = self.cut_off = self.refused = 0
        self.peak = self.leases = self.expired = 0
        self.turned_away = self.windows = self.survived = self.stall_ms = 0

    def summary(self, seats):
        text = (
            f"{self.exchanges} requests, {self.cut_off} cut off, {self.refused} refused; "
            f"{self.acknowledged} leases and renewals acknowledged, none lost; "
            f"at most {self.peak} of {seats} seats held at once"
        )
        if self.windows:
            text += (
                f"; {self.survived} answers of a survivor in {self.windows} outages, "
                f"the slowest after {self.stall_ms:.0f} ms"
            )
        if self.turned_away:
            text += f"; {self.turned_away} requests turned away by a retired node"
        return text


class Holding:
    """One lease, as its machine knows it."""

    def __init__(self, client, count, begins):
        self.client, self.count, self.begins = client, count, begins
        self.ends = begins
        self.released = None

    def until(self):
        return self.ends if self.released is None else min(self.ends, self.released)

    def covers(self, record):
        """Held during all of this exchange, so that any decision within it had to honour it."""
        return self.begins <= record["at"] and record["till"] < self.until()


def by_time(records):
    """In the order in which machines learned of it."""
    return sorted(records, key=lambda record: record.get("till", record["at"]))


def note_release(holdings, record):
    holding = holdings.get(record["ref"])
    if holding and holding.released is None:
        holding.released = record["at"]


def note_release_all(holdings, record):
    for holding in holdings.values():
        if holding.client == record["client"] and holding.released is None:
            holding.released = record["at"]


def note_lease(holdings, record):
    ref, end = record["ref"], record["at"] + record["expires_in"]
    if ref not in holdings:
        holdings[ref] = Holding(record["client"], record["count"], record["till"])
    holdings[ref].ends = max(holdings[ref].ends, end)


def judge_refusal(verdict, holdings, record):
    """A lease that its machine rightfully holds may not be denied to it."""
    holding = holdings.get(record["ref"])
    if record["status"] in (0, 200, 201, 503) or not holding or not holding.covers(record):
        return
    if record["what"] == "release" and record["status"] == 204:
        return
    verdict.problems.append(f"a lease was lost, it had {holding.until() - record['till']:.3f} s"
                            f" left: {json.dumps(record)}")


def judge_list(verdict, holdings, record):
    for ref, holding in holdings.items():
        if holding.client == record["client"] and holding.covers(record):
            if ref not in record["refs"]:
                verdict.problems.append(
                    f"the {record['node']} does not list lease {ref} of client {holding.client}, "
                    f"which has {holding.until() - record['till']:.3f} s left"
                )


def judge_leases(verdict, records):
    """Follows every lease; returns the holdings."""
    holdings = {}
    for record in by_time(records):
        if "what" not in record:
            continue
        verdict.exchanges += 1
        verdict.cut_off += record["status"] == 0
        verdict.refused += record["status"] == 503
        if record["what"] == "list":
            if record["status"] == 200:
                judge_list(verdict, holdings, record)
            continue
        if record["what"] == "release all":
            note_release_all(holdings, record)
            continue
        judge_refusal(verdict, holdings, record)
        if record["what"] == "release":
            note_release(holdings, record)
        elif record["status"] in (200, 201):
            verdict.acknowledged += 1
            note_lease(holdings, record)
    verdict.leases = len(holdings)
    verdict.expired = sum(1 for one in holdings.values() if one.until() == one.ends)
    return holdings


def judge_seats(verdict, holdings, seats):
    """At no instant more than there are. Of equal instants, ends come first."""
    events = []
    for ref, one in holdings.items():
        if one.until() > one.begins:
            events += [(one.begins, 1, one.count, ref), (one.until(), 0, -one.count, ref)]
    held, told = 0, False
    for at, _, change, ref in sorted(events):
        held += change
        verdict.peak = max(verdict.peak, held)
        if held > seats and not told:
            told = True
            verdict.problems.append(f"oversold: {held} seats held at {at:.3f}, there are {seats};"
                                    f" the last one is lease {ref}")


def spans(records, first, last):
    """(node, from, to) of each time between the marks `first NODE` and `last NODE`."""
    since, found = {}, []
    for record in records:
        verb, _, node = record.get("mark", "").partition(" ")
        if verb == first:
            since[node] = record["at"]
        elif verb == last and node in since:
            found.append((node, since.pop(node), record["at"]))
    return found


def judge_survivor(verdict, records):
    for node, begin, end in spans(records, "down", "up"):
        other = [
            record
            for record in records
            if record.get("node") not in (None, node) and begin <= record["at"] < end
        ]
        if not other:
            verdict.problems.append(f"nobody asked the survivor while the {node} was down")
            continue
        verdict.windows += 1
        for number, record in enumerate(sorted(other, key=lambda one: one["at"]), 1):
            verdict.stall_ms = max(verdict.stall_ms, 1000 * (record["till"] - record["at"]))
            if record["status"] in (0, 503) and record.get("code") not in EXCUSES:
                verdict.problems.append(
                    f"the {node} was down, and request {number} to the survivor "
                    f"was not answered: {json.dumps(record)}"
                )
                break
            verdict.survived += 1


def judge_retired(verdict, records):
    """Between the marks `retired NODE` and `up NODE` that node decides nothing."""
    for node, begin, end in spans(records, "retired", "up"):
        for record in records:
            if record.get("node") != node or record["at"] < begin or record["at"] >= end:
                continue
            verdict.turned_away += 1
            if record["status"] not in (0, 503):
                verdict.problems.append(
                    f"the {node} is retired, and decided: {json.dumps(record)}"
                )
                break


def judge_answers(verdict, records):
    """Requests that are repeated are the same request: the last one must have been answered."""
    last = {}
    for record in by_time(records):
        if "ref" in record:
            last[(record["client"], record["what"], record["ref"])] = record
    for record in last.values():
        if record["status"] in (0, 503) and record.get("code") not in EXCUSES:
            verdict.problems.append(f"no node answered a request: {json.dumps(record)}")


def judge(records, seats, survivor=False, no_refusal=False):
    verdict = Verdict()
    judge_seats(verdict, judge_leases(verdict, records), seats)
    judge_retired(verdict, records)
    if survivor:
        judge_survivor(verdict, records)
    if no_refusal:
        judge_answers(verdict, records)
    if not verdict.acknowledged:
        verdict.problems.append("no lease was acknowledged: nothing has been proven")
    return verdict


def main():
    parser = argparse.ArgumentParser(description="Judges a log of what clients were told.")
    parser.add_argument("--log", required=True)
    parser.add_argument("--seats", type=int, required=True)
    parser.add_argument("--survivor", action="store_true")
    parser.add_argument("--no-refusal", action="store_true")
    options = parser.parse_args()
    with open(options.log, encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    verdict = judge(records, options.seats, options.survivor, options.no_refusal)
    for problem in verdict.problems[:20]:
        print(f"judge: {problem}", file=sys.stderr)
    if not verdict.problems:
        print(verdict.summary(options.seats))
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
