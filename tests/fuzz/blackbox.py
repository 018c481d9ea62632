#!/usr/bin/python3
"""Throws mutated traffic at a running node for a bounded time, and judges every answer.

    tests/lib/with-postgres tests/fuzz/blackbox.py [--seconds N] [--requests N] [--seed N]

starts a node of its own (TWINLEASE_NODE names the binary), drives it, and stops it again; the
last line tells the seed. tests/integration/test_blackbox.py does the same with the node of a test.

Right requests are drawn from the whole API and sent as they are or after some mutations: of
method, address, headers, body, JSON, tokens, entitlements, and of the bytes on the wire. What every
answer must be is in judge.py. In a run without authority, only requests go out that lack what
their call needs; then the database must be the same as before."""

import argparse
import collections
import json
import os
import random
import sys
import tempfile
import threading
import time
import traceback
import uuid

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "integration"))

# pylint: disable=wrong-import-position
import jose
import judge
import mutate
from cluster import Cluster
from node import Node, expect
from origin import ENVIRONMENT, Origin, pkce
from publisher import Publisher, feature
from tls import Authority, write_private
from waiting import wait_until
from wire import Closed, Connection

ORIGINS_MAX = 40
LEASES_MAX = 400
ENTITLEMENTS_MAX = 60
ROLES = ("viewer", "metrics", "enrol")


class Finding(AssertionError):
    """A request and what was wrong with its answer."""


class Request:
    """A request in parts; `wire` replaces its bytes."""

    def __init__(self, method, target, headers=(), body=None, token=None):
        self.method, self.target, self.body = method, target.encode(), body
        self.headers = [(b"Host", b"localhost"), *headers]
        if token is not None:
            self.headers.append((b"Authorization", b"Bearer " + token.encode()))
        self.wire = None

    @classmethod
    def of_json(cls, method, target, value, token=None, rng=None):
        body = mutate.json_bytes(rng, value) if rng else json.dumps(value).encode()
        return cls(method, target, [(b"Content-Type", b"application/json")], body, token)

    def values(self, name):
        return [
            value.strip(b" \t") for known, value in self.headers if known.lower() == name.encode()
        ]

    def data(self):
        if self.wire is not None:
            return self.wire
        lines = [self.method.encode() + b" " + self.target + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in self.headers]
        if self.body is not None:
            lines.append(b"Content-Length: %d" % len(self.body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + (self.body or b"")

    def is_http(self):
        """True if nothing but an HTTP answer will do."""
        line = self.method.encode() + self.target
        fields = b"".join(name + value for name, value in self.headers)
        return (
            self.wire is None
            and self.method.isascii()
            and not any(byte <= 0x20 or byte == 0x7F for byte in line)
            and not any(byte < 0x20 and byte != 9 or byte == 0x7F for byte in fields)
            and len(self.headers) < 95
            and len(line) + len(fields) < 100000
            and len(self.values("host")) == 1
            and self.target != b""
        )


class World:
    """What the node has given out, and to whom. Shared by all threads of a run."""

    def __init__(self, node, publisher, role_tokens):
        self.node, self.publisher, self.role_tokens = node, publisher, role_tokens
        self.cors_origins = {"https://localhost"}
        self.secrets, self.auth_tokens, self.codes, self.sessions = {}, {}, {}, {}
        self.client_tokens, self.lease_owners, self.leases = [], {}, {}
        self.entitlements = {}  # ref -> revision
        self.verifiers = {}  # challenge -> verifier

    def tokens(self):
        return [
            *self.role_tokens.values(),
            *list(self.auth_tokens)[-20:],
            *self.client_tokens[-3:],
            *list(self.sessions)[-3:],
            *list(self.codes)[-5:],
            *[lease["lease_token"] for lease in list(self.leases.values())[-5:]],
        ]

    def learn(self, request, answer):
        """From answers to requests that went well."""
        path = request.target.split(b"?")[0].decode("latin-1")
        text = answer.body.decode("utf-8", "replace")
        cookie = answer.header("set-cookie")
        if cookie and answer.status == 200:
            value = cookie.split(";")[0].partition("=")[2]
            self.sessions[value] = json.loads(text)["role"]
        if path == "/-/client-token":
            self.client_tokens.append(text.strip())
        if "application/json" != answer.header("content-type") or not path.startswith("/v1/"):
            return
        self.learn_client(json.loads(text), judge.body_of(request))

    def learn_client(self, body, asked):
        if "origin_secret" in body and len(self.secrets) < ORIGINS_MAX:
            self.secrets[body["origin_ref"]] = body["origin_secret"]
        if "auth_code" in body:
            self.codes[body["auth_code"]] = self.verifiers.get(asked["code_challenge"])
        if "auth_token" in body:
            self.auth_tokens[body["auth_token"]] = jose.payload_of(body["auth_token"])["sub"]
        for lease in body.get("lease_result_list", [body] if "lease_token" in body else []):
            self.lease_owners[lease["lease_ref"]] = lease["origin_ref"]
            self.leases[lease["lease_ref"]] = lease
            if len(self.leases) > LEASES_MAX:
                del self.leases[next(iter(self.leases))]

    def forget(self, request, code):
        """An operator deleted the origin."""
        if code == "origin_deleted":
            token = judge.bearer(request)
            origin = self.auth_tokens.pop(token, judge.body_of(request).get("origin_ref"))
            self.secrets.pop(origin, None)


# ---- right requests ----------------------------------------------------------------------------


class Traffic:
    """Draws requests that are right, as far as the world is known."""

    def __init__(self, world, rng):
        self.world, self.rng = world, rng
        self.kinds = [
            (self.enrol, 6),
            (self.code, 8),
            (self.token, 8),
            (self.grant, 16),
            (self.list, 4),
            (self.renew, 10),
            (self.release, 8),
            (self.release_all, 1),
            (self.public, 8),
            (self.read, 10),
            (self.sign_in, 3),
            (self.sign_out, 1),
            (self.revoke, 3),
            (self.delete_origin, 2),
            (self.delete_many, 1),
            (self.client_token, 2),
            (self.install, 4),
        ]

    def draw(self):
        kinds, weights = zip(*self.kinds)
        return self.rng.choices(kinds, weights)[0]()

    def pick(self, values, otherwise):
        values = list(values)
        return self.rng.choice(values) if values else otherwise

    def ref(self):
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def auth_token(self):
        return self.pick(self.world.auth_tokens, "none.yet.known")

    def json(self, method, target, value, token=None):
        """Half of the bodies are changed where they hurt most: inside."""
        for _ in range(self.rng.choice((0, 0, 0, 1, 1, 2))):
            value = mutate.edit_json(self.rng, value)
        wild = self.rng if self.rng.randrange(3) == 0 else None
        return Request.of_json(method, target, value, token, wild)

    # client API

    def enrol(self):
        known = self.pick(self.world.secrets, None) if self.rng.randrange(3) == 0 else None
        body = {"candidate_origin_ref": known or self.ref(), "environment": ENVIRONMENT}
        if known:
            body["origin_secret"] = self.world.secrets.get(known, "0.x")
        return self.json(
            "POST", "/v1/origins", body, self.pick(self.world.client_tokens, "none.yet.known")
        )

    def code(self):
        origin = self.pick(self.world.secrets, self.ref())
        verifier, challenge = pkce()
        self.world.verifiers[challenge] = verifier
        body = {
            "origin_ref": origin,
            "origin_secret": self.world.secrets.get(origin, "0.x"),
            "code_challenge": challenge,
        }
        return self.json("POST", "/v1/auth/code", body)

    def token(self):
        code = self.pick(list(self.world.codes)[-8:], "none.yet.known")
        body = {"auth_code": code, "code_verifier": self.world.codes.get(code) or "x" * 43}
        return self.json("POST", "/v1/auth/token", body)

    def grant(self):
        items = [{"feature": "render"}]
        if self.rng.randrange(2):
            items[0]["candidate_lease_ref"] = self.pick(self.world.lease_owners, self.ref())
        if self.rng.randrange(2):
            items[0].update(count=self.rng.choice((1, 1, 3)), duration_seconds=3600)
        body = {"lease_request_list": items * self.rng.choice((1, 1, 1, 5))}
        return self.json("POST", "/v1/leases", body, self.auth_token())

    def list(self):
        return Request("GET", "/v1/leases", token=self.auth_token())

    def lease_call(self, method):
        ref = self.pick(self.world.leases, self.ref())
        lease = self.world.leases.get(ref, {"lease_token": "a.b.c", "origin_ref": ""})
        owners = [
            token
            for token, origin in list(self.world.auth_tokens.items())
            if origin == lease["origin_ref"] or self.rng.randrange(30) == 0
        ]
        token = self.pick(owners, self.auth_token())
        if self.rng.randrange(3) == 0:
            return Request(method, f"/v1/leases/{ref}", token=token)
        proof = lease["lease_token"]
        if self.rng.randrange(3) == 0:
            proof = mutate.edit_token(self.rng, proof, self.world.tokens())
        return self.json(method, f"/v1/leases/{ref}", {"lease_token": proof}, token)

    def renew(self):
        return self.lease_call("PUT")

    def release(self):
        return self.lease_call("DELETE")

    def release_all(self):
        return Request("DELETE", "/v1/leases", token=self.auth_token())

    # operator API

    def operator(self, method, target, role=None, headers=(), body=None):
        """With a role's token, or with the cookie of a page that signed in."""
        role = role or self.rng.choice(("admin", "admin", "viewer", "metrics", "enrol"))
        if self.world.sessions and self.rng.randrange(4) == 0:
            cookie = self.pick(self.world.sessions, "")
            site = self.rng.choice((b"same-origin", b"same-origin", b"cross-site", b"none"))
            headers = [
                *headers,
                (b"Cookie", f"{judge.COOKIE}={cookie}".encode("latin-1", "replace")),
                (b"Sec-Fetch-Site", site),
            ]
            return Request(method, target, headers, body)
        return Request(method, target, headers, body, self.world.role_tokens[role])

    def public(self):
        paths = [
            path for method, path, who in judge.RIGHTS if who == judge.PUBLIC and method == "GET"
        ]
        target = self.rng.choice(paths).replace("*", self.rng.choice(("manage.js", "icon.svg")))
        return Request(self.rng.choice(("GET", "GET", "HEAD", "OPTIONS")), target)

    def read(self):
        paths = [path for _, path, who in judge.RIGHTS if who in (judge.READERS, judge.EVERY_ROLE)]
        target = self.rng.choice(paths)
        if target in ("/-/leases", "/-/origins"):
            more = ["origin=true"] if target == "/-/leases" else ["leases=true"]
            more += [
                "limit=2",
                f"after={self.ref()}",
                "state=active",
                f"after={self.ref()}.{self.ref()}",
            ]
            target += "?" + "&".join(self.rng.sample(more, self.rng.randrange(3)))
        return self.operator("GET", target.rstrip("?"))

    def sign_in(self):
        token = self.rng.choice(list(self.world.role_tokens.values()))
        return self.json("POST", "/-/session", {"token": token})

    def sign_out(self):
        return self.operator("DELETE", "/-/session")

    def revoke(self):
        return self.operator("DELETE", f"/-/lease/{self.pick(self.world.leases, self.ref())}")

    def delete_origin(self):
        return self.operator("DELETE", f"/-/origins/{self.pick(self.world.secrets, self.ref())}")

    def delete_many(self):
        role = None if self.rng.randrange(10) == 0 else "viewer"
        target = self.rng.choice(("/-/origins", "/-/leases/expired"))
        return self.operator("DELETE", target, role)

    def client_token(self):
        query = self.rng.choice(("", "?expire_days=3", "?scope=render", f"?scope={self.ref()}"))
        return self.operator("GET", "/-/client-token" + query)

    def install(self):
        """Signed by who is trusted, but half of them saying strange things."""
        world, rng = self.world, self.rng
        new = len(world.entitlements) < ENTITLEMENTS_MAX and rng.randrange(3) == 0
        ref = self.ref() if new else self.pick(world.entitlements, self.ref())
        revision = world.entitlements.get(ref, 0) + rng.choice((0, 1, 1))
        world.entitlements[ref] = revision
        names = ["render", "simulate", f"feature-{len(world.entitlements)}"]
        features = [
            feature(name, rng.choice((0, 1, 10, 100)), str(uuid.uuid5(uuid.UUID(ref), name)))
            for name in rng.sample(names, rng.randrange(1, 4))
        ]
        claims = world.publisher.claims(world.node, features, ref=ref, revision=max(1, revision))
        if rng.randrange(2):
            claims = mutate.edit_json(rng, claims)
        text = world.publisher.sign(claims if isinstance(claims, dict) else {"a": 1})
        if rng.randrange(3) == 0:
            text = mutate.edit_token(rng, text, world.tokens())
        return self.operator(
            "POST",
            "/-/entitlements",
            rng.choice(("admin", "admin", "admin", "viewer")),
            [(b"Content-Type", b"application/jose")],
            text.encode("utf-8", "surrogatepass"),
        )


# ---- wrong requests ----------------------------------------------------------------------------


def edit_credentials(rng, request, world):
    headers = []
    for name, value in request.headers:
        if name == b"Authorization" and value.startswith(b"Bearer "):
            token = mutate.edit_token(rng, value[7:].decode("latin-1"), world.tokens())
            value = b"Bearer " + token.encode("utf-8", "surrogatepass")
        elif name == b"Cookie":
            key, _, cookie = value.decode("latin-1").partition("=")
            others = [token for token in world.tokens() if "." in token]
            value = f"{key}={mutate.edit_token(rng, cookie, others)}".encode("utf-8", "replace")
        headers.append((name, value))
    request.headers = headers


def mutated(rng, request, world):
    """The request itself, changed in place."""
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        kind = rng.randrange(8)
        if kind == 0:
            request.method = rng.choice(mutate.METHODS).decode()
        elif kind <= 2:
            request.target = mutate.edit_target(rng, request.target)
        elif kind == 3:
            request.headers = mutate.edit_headers(rng, request.headers)
        elif kind <= 5:
            edit_credentials(rng, request, world)
        elif kind == 6 and request.body is not None:
            request.body = mutate.edit_bytes(rng, request.body)
        elif kind == 7 and rng.randrange(20) == 0:
            request.body = b"x" * rng.choice((65535, 65536, 65537, 300000))
        elif kind == 7 and rng.randrange(3) == 0:
            request.wire = mutate.edit_wire(rng, request.data())
            break
    return request


# What a body proves who asks with.
PROOFS = {
    judge.SECRET: ("origin_ref", "origin_secret"),
    judge.CODE: ("auth_code", "code_verifier"),
    judge.SIGN_IN: ("token",),
}


def without_authority(rng, request, world):
    """Takes away what the call needs, if it has it."""
    who = judge.right_needed(request.method, request.target)
    while who != judge.PUBLIC and judge.is_entitled(request, world):
        if not isinstance(who, set) and who in PROOFS:
            body, name = judge.body_of(request), rng.choice(PROOFS[who])
            wrong = mutate.edit_token(rng, body[name], world.tokens())
            request.body = json.dumps({**body, name: wrong}).encode()
        elif rng.randrange(3):
            edit_credentials(rng, request, world)
        else:
            bare = (b"authorization", b"cookie")
            request.headers = [pair for pair in request.headers if pair[0].lower() not in bare]
    return request


# ---- the run -----------------------------------------------------------------------------------


class Limits:
    """When a run ends: at the time, at the count, or at the first finding."""

    def __init__(self, seconds, requests):
        self.until, self.left = time.monotonic() + seconds, requests
        self.lock, self.stopped = threading.Lock(), False

    def go_on(self):
        with self.lock:
            self.left -= 1
            return self.left >= 0 and not self.stopped and time.monotonic() < self.until


class Driver(threading.Thread):
    """One connection's worth of traffic."""

    def __init__(self, world, seed, limits, authority):
        super().__init__(daemon=True)
        self.world, self.rng, self.limits, self.authority = (
            world,
            random.Random(seed),
            limits,
            authority,
        )
        self.traffic = Traffic(world, self.rng)
        self.connection = Connection(world.node.port, world.node.ca_file)
        self.counts, self.problem = collections.Counter(), None

    def run(self):
        try:
            while self.limits.go_on():
                self.step()
        except Finding as problem:  # told by the thread that waits for this one
            self.problem = str(problem)
            self.limits.stopped = True
        except Exception:
            self.problem = traceback.format_exc()
            self.limits.stopped = True
        finally:
            self.connection.close()

    def next_request(self):
        request = mutated(self.rng, self.traffic.draw(), self.world)
        if not self.authority:
            bytes_too = request.wire is not None
            request.wire = None
            without_authority(self.rng, request, self.world)
            if bytes_too:
                request.wire = mutate.edit_wire(self.rng, request.data())
        return request

    def step(self):
        request = self.next_request()
        try:
            answer = self.exchange(request)
            if answer:
                self.judge(request, answer)
        except (AssertionError, Closed, TimeoutError, ValueError) as problem:
            raise Finding(
                f"{type(problem).__name__}: {problem}\nrequest: {request.data()[:3000]!r}"
            ) from problem

    def exchange(self, request):
        """None: the bytes were no HTTP, and the node has dropped them."""
        bodiless = request.method == "HEAD"
        if request.is_http():
            return self.connection.exchange(request.data(), bodiless)
        try:
            return self.connection.exchange(request.data(), bodiless, seconds=0.5)
        except (Closed, TimeoutError):
            self.counts["dropped"] += 1
            return None
        finally:
            self.connection.close()  # what is left of it must not mix with the next one

    def judge(self, request, answer):
        if answer.header("x-request-id") is None:
            assert not request.is_http(), f"an answer that is none of ours: {answer}"
            judge.check_wire_error(answer)
            self.counts["no HTTP"] += 1
            return
        if request.wire is not None:  # who knows what these bytes ask for
            judge.check_headers(answer)
            code = judge.check_problem(answer) if answer.status >= 400 and answer.body else None
            self.counts[f"{answer.status} {code or ''} (bytes)"] += 1
            return
        try:
            code = judge.check_answer(request, answer, self.world)
        except (AssertionError, ValueError) as problem:
            raise AssertionError(f"{problem}\nanswer: {answer}") from problem
        self.counts[f"{answer.status} {code or ''}"] += 1
        if answer.status < 300 and answer.body:
            self.world.learn(request, answer)
        self.world.forget(request, code)


def drive(world, seconds, requests=10**9, seed=0, threads=4, authority=True):
    """Runs to the limits; returns the counts of answers. Finding: something was wrong."""
    limits = Limits(seconds, requests)
    drivers = [Driver(world, seed * 1000 + n, limits, authority) for n in range(threads)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    problems = [driver.problem for driver in drivers if driver.problem]
    node = world.node
    if not node.alive():
        problems.append(f"the node has stopped; its log ends:\n{node.log_tail(6000)}")
    if problems:
        raise Finding("\n\n".join(problems) + f"\n(seed {seed})")
    return sum((driver.counts for driver in drivers), collections.Counter())


def new_world(node, publisher, role_tokens):
    """A node with something to attack: seats, machines with leases, codes, sessions."""
    world = World(node, publisher, {"admin": node.admin_token(), **role_tokens})
    text = publisher.entitlement(node, [feature("render", 200)])
    expect(node.install(text), 201)
    world.client_tokens.append(node.client_token())
    for _ in range(3):
        origin = Origin.ready(node, world.client_tokens[0])
        world.secrets[origin.ref] = origin.secret
        world.auth_tokens[origin.token] = origin.ref
        lease = origin.acquire()
        world.leases[lease["lease_ref"]], world.lease_owners[lease["lease_ref"]] = lease, origin.ref
        verifier, challenge = pkce()
        world.codes[expect(origin.post_code(challenge), 200)["auth_code"]] = verifier
    for role, token in world.role_tokens.items():
        session = node.new_session()
        expect(node.post("/-/session", token=None, session=session, json={"token": token}), 200)
        world.sessions[session.cookies[judge.COOKIE]] = role
    node.close_sessions()
    return world


def dump(node):
    """All rows of all tables but the one that every batch and the clock move."""
    tables = node.cluster.sql(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'node_state'",
        node.database,
    )
    return {
        table: node.cluster.sql(f"SELECT t::text FROM {table} t ORDER BY 1", node.database)
        for (table,) in tables
    }


def secrets_in_log(world):
    """Which of what must stay secret stands in the node's log."""
    log = world.node.log()
    secrets = {
        "a role's token": world.role_tokens.values(),
        "an origin's secret": world.secrets.values(),
        "an auth token": world.auth_tokens,
        "an auth code": world.codes,
        "a session": world.sessions,
        "a client token": world.client_tokens,
        "a lease token": [lease["lease_token"] for lease in world.leases.values()],
    }
    return [
        f"{kind}: {value}" for kind, values in secrets.items() for value in values if value in log
    ]


def check_log(node):
    """Every line is one whole object, whatever the requests had in them."""
    with open(node.log_file, "rb") as file:
        for line in file:
            entry = json.loads(line.decode("utf-8"))
            assert {"time", "level", "event", "message"} <= set(entry), line


def check_afterwards(world, connections_before):
    """The node goes on as if nothing had happened."""
    node = world.node
    assert node.is_ready()
    Origin.ready(node, world.client_tokens[0])
    node.close_sessions()
    wait_until(lambda: node.open_connections() <= connections_before, 60, "connections are closed")
    assert not secrets_in_log(world), secrets_in_log(world)
    check_log(node)


# ---- on its own --------------------------------------------------------------------------------


def write_role_tokens(folder):
    """A token for each role but the administrator's: settings, and the tokens."""
    tokens = {role: uuid.uuid4().hex * 2 for role in ROLES}
    settings = {}
    for role, token in tokens.items():
        path = os.path.join(folder, f"{role}.token")
        write_private(path, token.encode())
        settings[f"{role.upper()}_TOKEN_FILE"] = path
    return settings, tokens


def run_alone(options, folder):
    cluster = Cluster(os.environ["TWINLEASE_TEST_CLUSTER"])
    database = cluster.create_database()
    settings, tokens = write_role_tokens(folder)
    node = Node(folder, cluster.conninfo(database), Authority(folder), DEBUG="true", **settings)
    node.cluster, node.database = cluster, database
    publisher = Publisher()
    publisher.trust(node.publishers_dir)
    node.start()
    try:
        world = new_world(node, publisher, tokens)
        connections = node.open_connections()
        before = dump(node)
        drive(world, options.seconds / 5, seed=options.seed, authority=False)
        assert dump(node) == before, "the database is not the same as before"
        counts = drive(world, options.seconds, options.requests, options.seed, options.threads)
        check_afterwards(world, connections)
        node.stop()
        node.assert_no_reports()
        assert cluster.broken_invariants(database) == ""
    finally:
        if node.process is not None:
            node.process.kill()
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--requests", type=int, default=10**9)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = run_alone(options, folder)
    for answer, count in counts.most_common():
        print(f"{count:8d} {answer}")
    print(f"{sum(counts.values())} answers, seed {options.seed}")


if __name__ == "__main__":
    main()
