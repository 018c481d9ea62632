"""Clients that keep asking while something happens to the node, and remember what they were
told."""

import threading
import time
import uuid

import requests

from origin import Origin


class Load:
    """`threads` origins that acquire and release, each with its own journal, until stopped.

    outcomes counts answers by status; `held` are the leases that were acknowledged and that nobody
    tried to release since: each must still be there and renewable, whatever happened."""

    def __init__(self, node, threads=8, feature="render", keep=2):
        self.node, self.feature, self.keep = node, feature, keep
        token = node.client_token()
        self.origins = [Origin.ready(node, token) for _ in range(threads)]
        self.held = {origin.ref: {} for origin in self.origins}
        self.outcomes = {}
        self.problems = []
        self.last_success = 0.0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(origin,)) for origin in self.origins
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        for thread in self._threads:
            thread.join(120)
        assert not self.problems, self.problems

    def count(self, status):
        with self._lock:
            return self.outcomes.get(status, 0)

    def _note(self, status):
        with self._lock:
            self.outcomes[status] = self.outcomes.get(status, 0) + 1
            if status in (200, 201, 204):
                self.last_success = time.monotonic()

    def _run(self, origin):
        try:
            while not self._stopping.is_set():
                self._once(origin)
        except Exception as problem:
            self.problems.append(f"{type(problem).__name__}: {problem}")

    def _once(self, origin):
        mine = self.held[origin.ref]
        try:
            if len(mine) >= self.keep:
                ref = next(iter(mine))
                del mine[ref]
                status = origin.delete_lease(ref).status_code
                assert status in (204, 503), f"release answered {status}"
            else:
                answer = origin.post_leases(
                    {
                        "feature": self.feature,
                        "duration_seconds": 3000,
                        "candidate_lease_ref": str(uuid.uuid4()),
                    }
                )
                status = answer.status_code
                if status == 201:
                    lease = answer.json()["lease_result_list"][0]
                    mine[lease["lease_ref"]] = lease
                elif status == 503:
                    assert "Retry-After" in answer.headers
                else:
                    assert status == 409, f"a grant answered {status}: {answer.text}"
            self._note(status)
            if status == 503:
                self._stopping.wait(0.02)  # a refusal is answered at once; do not spin
        except (requests.ConnectionError, requests.Timeout):
            self._note("gone")
            self._stopping.wait(0.02)

    def assert_nothing_lost(self):
        """After the load ended: every acknowledged lease is listed and renewable."""
        for origin in self.origins:
            listed = {lease["lease_ref"] for lease in origin.leases()}
            for ref, lease in self.held[origin.ref].items():
                assert ref in listed, f"an acknowledged lease is gone: {ref}"
                assert origin.renew(lease)["lease_ref"] == ref
