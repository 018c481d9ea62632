"""Two nodes that replicate, each with its own database."""

import os
import sys

from cluster import ROOT
from node import NODE, expect
from proxy import Wire
from publisher import feature
from tls import pem_private, pem_public, write_private
from waiting import wait_until
import jose

sys.path.insert(0, os.path.join(ROOT, "ha-examples", "lib"))

import ledgers  # noqa: E402

# Sanitizers make a node several times slower: what is promised in seconds is promised without them.
SLOWNESS = 10 if any(f"/{name}/" in NODE for name in ("asan", "tsan")) else 1
PAIR_SECONDS = 30 if SLOWNESS == 1 else 120  # deadlines are for hangs
ADMIN_TOKEN = b"one-token-for-the-operator-of-both-nodes"

LEDGER_SQL = os.path.join(ROOT, "ha-examples", "lib", "ledger.sql")


def instance_key(folder, kind="ec"):
    """Settings that name an instance key pair in this folder."""
    os.makedirs(folder, exist_ok=True)
    key = jose.make_key(kind)
    private, public = (
        os.path.join(folder, f"instance.{part}.pem") for part in ("private", "public")
    )
    write_private(private, pem_private(key))
    with open(public, "wb") as file:
        file.write(pem_public(key.public_key()))
    return {"INSTANCE_KEY_RSA": private, "INSTANCE_KEY_PUB": public}


class Pair:
    """`primary` and `secondary`. With wires=True each reaches the other through a Wire:
    `wires[node]` is the one through which that node asks."""

    def __init__(self, nodes, publisher, folder, wires=False, **settings):
        self.nodes, self.publisher = nodes, publisher
        settings = {**instance_key(folder), **settings}
        self.primary = nodes.make(HA_ROLE="PRIMARY", **settings)
        self.secondary = nodes.make(HA_ROLE="SECONDARY", **settings)
        self.wires = {}
        for node in self.both:
            publisher.trust(node.publishers_dir)
            self.give_admin_token(node)
            port = self.other(node).port
            if wires:
                self.wires[node] = Wire(port)
                port = self.wires[node].port
            self.point(node, port)

    @property
    def both(self):
        return (self.primary, self.secondary)

    def other(self, node):
        return self.secondary if node is self.primary else self.primary

    @staticmethod
    def point(node, port):
        node.settings["HA_REPLICATE"] = f"localhost:{port}"

    @staticmethod
    def give_admin_token(node):
        """One operator, one token: what is handed on to the other node is believed there."""
        write_private(os.path.join(node.state_dir, "admin.token"), ADMIN_TOKEN)

    def start(self):
        for node in self.both:
            node.start_alive()
        self.wait_connected()
        return self

    def close(self):
        for wire in self.wires.values():
            wire.close()

    # ---- state ----

    def wait_connected(self, seconds=PAIR_SECONDS):
        for node in self.both:
            node.wait_ready(seconds)
            wait_peer(node, "connected", seconds)

    @staticmethod
    def ledger(node):
        """The rows that both must have in common."""
        with open(LEDGER_SQL, encoding="utf-8") as file:
            return [row for (row,) in node.cluster.sql(file.read(), node.database)]

    def wait_equal(self, seconds=PAIR_SECONDS):
        """I3. Returns the rows."""
        told, found = [], []

        def equal():
            told[:] = [self.ledger(node) for node in self.both]
            found[:] = ledgers.differences(*told)
            return not found

        wait_until(equal, seconds, lambda: f"equal ledgers; {found}")
        return told[0]

    # ---- seats ----

    def install(self, seats, name="render", **more):
        """An entitlement, until its seats can be leased (R2)."""
        text = self.publisher.entitlement(self.primary, [feature(name, seats, **more)])
        body = expect(self.primary.install(text), 201)
        for node in self.both:
            wait_until(
                lambda node=node: any(
                    one["feature"] == name and one["pending"] == 0 for one in scopes(node)
                ),
                PAIR_SECONDS,
                lambda: f"usable seats of {name}: {scopes(self.primary)}",
            )
        return body


def health(node):
    return expect(node.get("/-/health", token=None), 200)


def peer(node):
    return expect(node.get("/-/peer"), 200)


def wait_peer(node, state, seconds=PAIR_SECONDS):
    """Until the node says this of its peer; returns what /-/health says."""
    return wait_until(
        lambda: (said := health(node))["peer"]["state"] == state and said,
        seconds,
        lambda: f"{state}: {health(node)}\n{node.log_tail()}",
    )


def wait_health(node, condition, seconds=PAIR_SECONDS):
    return wait_until(
        lambda: condition(said := health(node)) and said,
        seconds,
        lambda: f"not so: {health(node)}\n{node.log_tail()}",
    )


def scopes(node):
    return expect(node.get("/-/scopes"), 200)["scope_list"]


def scope(node, name="render"):
    (found,) = [one for one in scopes(node) if one["feature"] == name]
    return found


def wait_scope(node, condition, seconds=PAIR_SECONDS, name="render"):
    return wait_until(
        lambda: condition(found := scope(node, name)) and found,
        seconds,
        lambda: f"not so: {scope(node, name)}\n{node.log_tail()}",
    )


def events(node, name):
    """The log's lines of this event."""
    return [one for one in node.log_events() if one["event"] == name]
