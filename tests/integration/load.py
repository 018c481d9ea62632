"""Clients that keep asking while something happens to the node, and remember what they were told.

They are the judges of every fault test: an acknowledged lease must be there and renewable whatever
happened; a request whose answer was lost or was a 503 is repeated with the same reference and holds
one seat or none; at no instant do clients hold more seats than there are."""

import random
import threading
import uuid

import requests

from node import expect
from origin import Origin
from waiting import wait_until

CUT_OFF = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
PAUSE_SECONDS = 0.02  # after a refusal that came at once: ask again, but do not spin


class Holdings:
    """How many seats clients rightfully hold: from the answer to the moment before the request to
    give it back. The dumbest possible auditor: it knows nothing of credits or nodes."""

    def __init__(self, seats):
        self.seats, self.now, self.peak = seats, 0, 0
        self.lock = threading.Lock()

    def took(self):
        with self.lock:
            self.now += 1
            self.peak = max(self.peak, self.now)
            assert self.now <= self.seats, f"{self.now} seats are held, there are {self.seats}"

    def gives_back(self):
        with self.lock:
            self.now -= 1


class Client:
    """One origin. Its state is what it was told, and what it has asked without being told."""

    def __init__(self, node, client_token, holdings, seed, keep):
        self.origin = Origin.ready(node, client_token)
        self.holdings, self.keep = holdings, keep
        self.random = random.Random(seed)
        self.held = {}  # lease_ref -> lease: acknowledged
        self.asked = None  # a reference whose grant may or may not have happened
        self.giving = None  # a reference whose release may or may not have happened
        self.acknowledged = 0

    @property
    def unsettled(self):
        return self.asked or self.giving

    def step(self):
        """One request, and its status. Raises CUT_OFF if the node went away in the middle of it;
        what was left unsettled is asked again first."""
        if self.unsettled:
            return self.settle_one()
        choice = self.random.random()
        if self.held and choice < 0.35:
            return self.renew(self.random.choice(list(self.held)))
        if self.held and (choice < 0.55 or len(self.held) >= self.keep):
            return self.release(self.random.choice(list(self.held)))
        return self.acquire(str(uuid.UUID(int=self.random.getrandbits(128), version=4)))

    def settle_one(self):
        return self.acquire(self.asked) if self.asked else self.give_back(self.giving)

    def acquire(self, ref):
        self.asked = ref
        item = {"feature": "render", "duration_seconds": 80000, "candidate_lease_ref": ref}
        answer = self.origin.post_leases(item)
        if answer.status_code in (200, 201):
            (lease,) = answer.json()["lease_result_list"]
            assert lease["lease_ref"] == ref
            self.held[ref] = lease
            self.holdings.took()
            self.acknowledged += 1
        else:
            assert answer.status_code in (409, 503), f"{answer.status_code} {answer.text}"
        if answer.status_code != 503:
            self.asked = None
        return self.judged(answer)

    def renew(self, ref):
        answer = self.origin.put_lease(ref, lease_token=self.held[ref]["lease_token"])
        if answer.status_code != 503:
            self.held[ref] = expect(answer, 200)
            self.acknowledged += 1
        return self.judged(answer)

    def release(self, ref):
        del self.held[ref]
        self.holdings.gives_back()
        return self.give_back(ref)

    def give_back(self, ref):
        self.giving = ref
        answer = self.origin.delete_lease(ref)
        if answer.status_code != 503:
            expect(answer, 204)
            self.giving = None
        return self.judged(answer)

    @staticmethod
    def judged(answer):
        if answer.status_code == 503:
            assert int(answer.headers["Retry-After"]) >= 1, answer.headers
        return answer.status_code

    def settle(self):
        """Against a node that is ready: finds out what became of the request that was cut off."""
        while self.unsettled:
            assert self.settle_one() != 503, "the node says that it is ready, but does not serve"

    def judge(self):
        """What the node lists is what this client was told; every lease of it can be renewed."""
        listed = {lease["lease_ref"] for lease in self.origin.leases()}
        assert listed == set(self.held), f"held {set(self.held)}, the node lists {listed}"
        for ref in list(self.held):
            assert self.renew(ref) == 200


class Load:
    """`clients` that work in threads while the block runs."""

    def __init__(self, node, seats, clients=8, keep=4, seed=None):
        self.node = node
        self.holdings = Holdings(seats)
        self.outcomes = {}
        self.problems = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = []
        chance, token = random.Random(seed), node.client_token()
        self.clients = [
            Client(node, token, self.holdings, chance.random(), keep) for _ in range(clients)
        ]

    def _each(self, work):
        def run(client):
            try:
                work(client)
            except Exception as problem:
                self.problems.append(f"{type(problem).__name__}: {problem}")

        self._threads = [threading.Thread(target=run, args=(one,)) for one in self.clients]
        for thread in self._threads:
            thread.start()

    def _join(self):
        for thread in self._threads:
            thread.join(180)
        assert not self.problems, "\n".join(self.problems)

    def __enter__(self):
        self._stopping.clear()
        self._each(self._work)
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._join()

    def _work(self, client):
        while not self._stopping.is_set():
            try:
                outcome = client.step()
            except CUT_OFF:
                outcome = "cut off"
            with self._lock:
                self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
            if outcome in (409, 503, "cut off"):
                self._stopping.wait(PAUSE_SECONDS)

    def count(self, outcome):
        with self._lock:
            return self.outcomes.get(outcome, 0)

    @property
    def acknowledged(self):
        return sum(client.acknowledged for client in self.clients)

    @property
    def held(self):
        return sum(len(client.held) for client in self.clients)

    def wait_for_more(self, count=20, seconds=60):
        """Until that many more leases have been acknowledged."""
        before = self.acknowledged
        wait_until(
            lambda: self.problems or self.acknowledged >= before + count,
            seconds,
            lambda: f"load flows; {self.outcomes}\n{self.node.log_tail()}",
        )

    def judge(self):
        """After the block, on a node that is ready: nothing that was acknowledged is lost, and no
        seat is held that no client knows of."""
        for work in (Client.settle, Client.judge):
            self._each(work)
            self._join()
        active = self.node.leases(state="active")
        assert len(active) == self.held, f"{len(active)} active leases, clients hold {self.held}"
        broken = self.node.cluster.broken_invariants(self.node.database)
        assert broken == "", broken
