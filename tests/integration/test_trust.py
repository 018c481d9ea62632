"""Publishers' keys come and go while the node runs."""

import os
import signal

from node import expect, expect_problem
from origin import Origin
from publisher import Publisher
from waiting import wait_until


def is_trusted(node):
    return [scope["trusted"] for scope in expect(node.get("/-/scopes"), 200)["scope_list"]] == [
        True
    ]


def test_a_publisher_that_is_no_longer_trusted_sells_nothing_new(nodes):
    node, publisher = nodes.make(), Publisher("Acme")
    publisher.trust(node.publishers_dir)
    node.start()
    expect(node.install(publisher.entitlement(node, {"render": 3})), 201)
    origin = Origin.ready(node)
    lease = origin.acquire()

    os.remove(os.path.join(node.publishers_dir, "Acme.pem"))
    node.signal(signal.SIGHUP)
    wait_until(lambda: not is_trusted(node), 20, "the publisher is not trusted any more")
    item = {"feature": "render"}
    expect_problem(origin.post_leases(item), 422, "entitlement_untrusted")
    origin.renew(lease)

    node.restart()
    assert not is_trusted(node)
    expect_problem(origin.post_leases(item), 422, "entitlement_untrusted")
    origin.renew(lease)

    publisher.trust(node.publishers_dir)
    node.signal(signal.SIGHUP)
    wait_until(lambda: is_trusted(node), 20, "the publisher is trusted again")
    origin.acquire()
    origin.release(lease)
