"""Machines that lease seats from a pair, and a log of everything they asked and were told.

Each machine is an origin of its own. It draws the reference of a lease itself, asks either node,
and when a node goes away in the middle of a request, or answers 503, it repeats the request with
the same reference at the other node. It needs nothing but Python's standard library.

The log is the only thing that `seat_judge.py` knows. One record an exchange, as a JSON line:

    client     number of the machine
    what       acquire, renew, release, release all or list
    node       primary or secondary
    ref        the lease's reference (acquire, renew, release)
    count      seats of the lease (acquire)
    at, till   seconds of CLOCK_MONOTONIC: just before the request, just after the answer
    status     of the answer; 0 if there was none
    code       of a problem document
    expires_in seconds, from a lease that was granted or renewed
    refs       of the leases in a list

From the first request to release a lease on, its machine does not use it.

Then there are {"mark": …, "at": …} for what the script did to the nodes in between."""

import base64
import hashlib
import http.client
import json
import random
import secrets
import socket
import ssl
import threading
import time
import urllib.parse
import uuid

REQUEST_SECONDS = 5  # a node that has not answered by then has lost this request
NODES = ("primary", "secondary")
RENEW_SHARE = 0.6  # of what a machine does while it holds leases: it renews …
RELEASE_SHARE = 0.04  # … it releases; while a node is away, seats given back wait
ABANDON_SHARE = 0.06  # … it forgets a lease, as a machine does that is switched off
PAUSE_SECONDS = 0.02  # between refusals: ask again, but do not spin
NEVER = threading.Event()
CUT_OFF = (OSError, http.client.HTTPException, ssl.SSLError)


class Log:
    """Records in memory, and, if a file is named, there too. Safe from any thread."""

    def __init__(self, path=None):
        self.records = []
        self._lock = threading.Lock()
        self._file = open(path, "w", encoding="utf-8") if path else None

    def add(self, **record):
        with self._lock:
            self.records.append(record)
            if self._file:
                self._file.write(json.dumps(record) + "\n")

    def mark(self, text):
        """What happened to the nodes, as of now."""
        self.add(mark=text, at=time.monotonic())

    def flush(self):
        with self._lock:
            if self._file:
                self._file.flush()

    def count(self, wanted):
        """How many records are as wanted(record) says."""
        with self._lock:
            records = list(self.records)
        return sum(1 for record in records if wanted(record))


def answered(record):
    """The exchange was decided, one way or the other."""
    return record.get("status", 0) not in (0, 503)


def acknowledged(record):
    """A lease was granted or renewed."""
    return record.get("status") in (200, 201) and record["what"] in ("acquire", "renew")


class Pair:
    """What a machine needs to know of a pair: addresses, whom to trust, and the client token."""

    def __init__(self, urls, ca_file, client_token, feature="render"):
        self.urls = dict(zip(NODES, urls))
        self.client_token, self.feature = client_token, feature
        self.tls = ssl.create_default_context(cafile=ca_file)


class Channel:
    """One connection to one node, kept open. An answer is (status, document)."""

    def __init__(self, pair, node):
        parts = urllib.parse.urlsplit(pair.urls[node])
        self.host, self.port, self.tls = parts.hostname, parts.port, pair.tls
        self.connection = None

    def connect(self):
        self.connection = http.client.HTTPSConnection(
            self.host, self.port, timeout=REQUEST_SECONDS, context=self.tls
        )
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, method, path, token=None, body=None):
        """Raises one of CUT_OFF if there was no whole answer."""
        try:
            if self.connection is None:
                self.connect()
            headers = {"Content-Type": "application/json"} if body is not None else {}
            if token:
                headers["Authorization"] = f"Bearer {token}"
            data = None if body is None else json.dumps(body)
            self.connection.request(method, path, body=data, headers=headers)
            answer = self.connection.getresponse()
            text = answer.read()
            if answer.will_close:
                self.close()
            return answer.status, json.loads(text) if text else None
        except (*CUT_OFF, ValueError):
            self.close()
            raise

    def close(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None


class Refused(Exception):
    """A node said something that a machine cannot do anything with."""


class Held:
    """A lease as its machine knows it: when it ends, on the machine's own clock."""

    def __init__(self, lease, ends):
        self.ref, self.token, self.count = lease["lease_ref"], lease["lease_token"], lease["count"]
        self.ends = ends


class Machine:
    """One origin. Not safe for more than one thread at a time."""

    def __init__(self, pair, log, number, seed=0, keep=4, abandons=True):
        self.pair, self.log, self.number = pair, log, number
        self.keep, self.abandons = keep, abandons
        self.random = random.Random(f"{seed} {number}")
        self.channels = {node: Channel(pair, node) for node in NODES}
        self.held, self.abandoned = {}, []
        self.expired = 0  # leases that it let run out
        self.given_up = 0  # requests that no node answered in time
        self.stopping = threading.Event()
        self.token = self.enrol()

    # ---- enrolling -------------------------------------------------------------------------------

    def enrol(self, node="primary"):
        environment = {"hostname": f"machine-{self.number}", "os_platform": "linux"}
        body = {"candidate_origin_ref": self.draw(), "environment": environment}
        enrolled = self.want(node, "/v1/origins", body, self.pair.client_token)
        verifier = secrets.token_urlsafe(48)
        digest = hashlib.sha256(verifier.encode()).digest()
        body = {
            "origin_ref": enrolled["origin_ref"],
            "origin_secret": enrolled["origin_secret"],
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        }
        code = self.want(node, "/v1/auth/code", body)["auth_code"]
        body = {"auth_code": code, "code_verifier": verifier}
        self.ref = enrolled["origin_ref"]
        return self.want(node, "/v1/auth/token", body)["auth_token"]

    def want(self, node, path, body, token=None):
        status, document = self.channels[node].call("POST", path, token, body)
        if status not in (200, 201):
            raise Refused(f"{path}: {status} {document}")
        return document

    def draw(self):
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    # ---- one exchange ----------------------------------------------------------------------------

    def ask(self, node, what, method, path, body=None, **more):
        """One exchange, and its record. Returns (status, document, at); status 0: cut off."""
        at = time.monotonic()
        try:
            status, document = self.channels[node].call(method, path, self.token, body)
        except (*CUT_OFF, ValueError):
            status, document = 0, None
        record = {"client": self.number, "what": what, "node": node, "at": at, **more}
        record.update(till=time.monotonic(), status=status)
        if isinstance(document, dict):
            lease = document.get("lease_result_list", [document])[:1]
            record.update({k: v for k, v in document.items() if k == "code"})
            record.update({k: v for one in lease for k, v in one.items() if k == "expires_in"})
            if what == "list" and status == 200:
                record["refs"] = [one["lease_ref"] for one in document["active_lease_list"]]
        self.log.add(**record)
        return status, document, at

    def anywhere(self, until, *call, first=None, **more):
        """Asks one node, then the other, and so on, until one has decided. None: none did."""
        node = first or self.random.choice(NODES)
        while True:
            status, document, at = self.ask(node, *call, **more)
            if status not in (0, 503):
                return status, document, at
            if time.monotonic() > until:
                self.given_up += 1
                return None
            node = NODES[1 - NODES.index(node)]
            if node == NODES[0]:
                NEVER.wait(PAUSE_SECONDS)  # both have refused by now

    # ---- what a machine does ---------------------------------------------------------------------

    def acquire(self, node=None, count=1, ref=None):
        """Returns the lease, or None if it was denied."""
        ref = ref or self.draw()
        item = {"feature": self.pair.feature, "count": count, "candidate_lease_ref": ref}
        call = ("acquire", "POST", "/v1/leases", {"lease_request_list": [item]})
        told = self.anywhere(time.monotonic() + 30, *call, first=node, ref=ref, count=count)
        if told is None or told[0] not in (200, 201):
            return None
        return self.hold(told[1]["lease_result_list"][0], told[2])

    def hold(self, lease, at):
        """From the moment of asking: the machine cannot know when the node decided."""
        held = self.held.setdefault(lease["lease_ref"], Held(lease, at))
        held.token = lease["lease_token"]
        held.ends = max(held.ends, at + lease["expires_in"])
        return held

    def renew(self, held, node=None):
        body = {"lease_token": held.token}
        call = ("renew", "PUT", f"/v1/leases/{held.ref}", body)
        told = self.anywhere(held.ends, *call, first=node, ref=held.ref)
        if told and told[0] == 200:
            self.hold(told[1], told[2])
        elif told:
            self.held.pop(held.ref, None)  # seat_judge.py says whether that was right
        return told and told[0]

    def release(self, held, node=None):
        self.held.pop(held.ref, None)
        body = {"lease_token": held.token}
        call = ("release", "DELETE", f"/v1/leases/{held.ref}", body)
        return self.anywhere(held.ends, *call, first=node, ref=held.ref)

    def abandon(self, held):
        """It runs out by itself; until then it is the machine's."""
        self.abandoned.append(self.held.pop(held.ref))
        return True

    def forget_expired(self):
        now = time.monotonic()
        over = [held for held in (*self.held.values(), *self.abandoned) if held.ends <= now]
        for held in over:
            self.held.pop(held.ref, None)
        self.abandoned = [held for held in self.abandoned if held.ends > now]
        self.expired += len(over)

    def step(self):
        """One thing that a machine does, by chance."""
        self.forget_expired()
        choice = self.random.random()
        if self.held and (choice < RENEW_SHARE or len(self.held) >= self.keep):
            held = self.random.choice(list(self.held.values()))
            if choice < RELEASE_SHARE:
                return self.release(held)
            if self.abandons and choice < RELEASE_SHARE + ABANDON_SHARE:
                return self.abandon(held)
            return self.renew(held)
        return self.acquire()

    def work(self, pause):
        """Patiently after a denial."""
        while not self.stopping.is_set():
            pauses = 2 if self.step() else 8
            self.stopping.wait(self.random.uniform(0, pauses * pause))

    # ---- at the end ------------------------------------------------------------------------------

    def confirm(self):
        """Both nodes must know every lease: each must renew it, and list it."""
        for node in NODES:
            self.forget_expired()
            for held in list(self.held.values()):
                self.confirm_one(held, node)
            status, document, _ = self.ask_there(node, "list", "GET", "/v1/leases")
            if status != 200:
                raise Refused(f"the {node} does not list leases: {status} {document}")

    def ask_there(self, node, *call, **more):
        """At that node; once more if the connection was one to the node's former process."""
        told = self.ask(node, *call, **more)
        return told if told[0] else self.ask(node, *call, **more)

    def confirm_one(self, held, node):
        call = ("renew", "PUT", f"/v1/leases/{held.ref}", {"lease_token": held.token})
        status, document, at = self.ask_there(node, *call, ref=held.ref)
        if status == 200:
            self.hold(document, at)
        elif time.monotonic() < held.ends:
            raise Refused(f"the {node} does not renew lease {held.ref}: {status} {document}")

    def release_all(self):
        """Also what it was granted without ever hearing of it."""
        for held in list(self.held.values()):
            self.release(held)
        self.abandoned = []
        self.anywhere(time.monotonic() + 30, "release all", "DELETE", "/v1/leases")

    def close(self):
        for channel in self.channels.values():
            channel.close()


class Load:
    """Many machines, each in a thread of its own."""

    def __init__(self, pair, log, count=6, seed=0, keep=4, pause=0.03, abandons=True):
        self.pair, self.log, self.pause = pair, log, pause
        self.machines = [Machine(pair, log, n, seed, keep, abandons) for n in range(count)]
        self.problems = []
        self._threads = []

    def each(self, work):
        """work(machine) for all at once; returns when all are done."""
        self._launch(work)
        self._join()

    def _launch(self, work):
        def run(machine):
            try:
                work(machine)
            except Exception as problem:  # told by whoever started the load
                self.problems.append(f"{type(problem).__name__}: {problem}")

        self._threads = [threading.Thread(target=run, args=(one,)) for one in self.machines]
        for thread in self._threads:
            thread.start()

    def _join(self):
        for thread in self._threads:
            thread.join()
        self._threads = []
        if self.problems:
            raise Refused("; ".join(self.problems))

    def start(self):
        for machine in self.machines:
            machine.stopping.clear()
        self._launch(lambda machine: machine.work(self.pause))

    def stop(self):
        for machine in self.machines:
            machine.stopping.set()
        self._join()

    @property
    def running(self):
        return bool(self._threads)

    def held(self):
        return sum(len(machine.held) for machine in self.machines)

    def expired(self):
        return sum(machine.expired for machine in self.machines)

    def given_up(self):
        return sum(machine.given_up for machine in self.machines)

    def fill(self, node, seats, seconds):
        """Acquires all seats as one lease at one node, and gives them back; returns how many
        seconds that took. None: it could not be had in that time."""
        begun, machine = time.monotonic(), self.machines[0]
        while time.monotonic() < begun + seconds:
            held = machine.acquire(node, seats)
            if held:
                taken = time.monotonic() - begun
                machine.release(held, node)
                return taken
            NEVER.wait(PAUSE_SECONDS)  # denied: seats come back by themselves
        return None

    def close(self):
        for machine in self.machines:
            machine.close()
