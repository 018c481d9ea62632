"""Installing, replacing, refusing and outliving entitlements (R2)."""

import json
import os
import time
import uuid

import pytest

import jose
from node import expect, expect_problem
from origin import Origin
from publisher import Publisher, feature
from tls import pem_public
from waiting import wait_until


def refs(node):
    return [
        entry.get("entitlement_ref") or entry["sub"] for entry in node.all_pages("/-/entitlements")
    ]


def test_install_answers_that_seats_are_usable(node, publisher):
    body = expect(node.install(publisher.entitlement(node, {"render": 3})), 201)
    assert body["usable"] is True


def test_duplicate_install_changes_nothing(node, publisher, origin):
    text = publisher.entitlement(node, {"render": 3})
    expect(node.install(text), 201)
    before = node.get("/-/entitlements").json()
    expect(node.install(text), 200)
    assert node.get("/-/entitlements").json() == before
    assert origin.acquire(count=3)["count"] == 3
    expect_problem(origin.post_leases({"feature": "render"}), 409, "no_free_seat")


def test_a_newer_revision_replaces(node, publisher, origin):
    ref, scope = str(uuid.uuid4()), str(uuid.uuid4())

    def revision(number, seats):
        return publisher.entitlement(
            node, [feature("render", seats, scope)], ref=ref, revision=number
        )

    expect(node.install(revision(1, 1)), 201)
    first = origin.acquire()
    expect_problem(origin.post_leases({"feature": "render"}), 409, "no_free_seat")
    expect(node.install(revision(3, 3)), 201)
    second = origin.acquire(count=2)
    expect_problem(origin.post_leases({"feature": "render"}), 409, "no_free_seat")
    expect_problem(node.install(revision(2, 100)), 409, "entitlement_outdated")
    assert refs(node) == [ref]
    assert {lease["lease_ref"] for lease in origin.leases()} == {
        first["lease_ref"],
        second["lease_ref"],
    }


def test_a_reduction_takes_no_lease_away(node, publisher, origin):
    """R2: leases beyond the new number live on; nothing is granted until enough have ended."""
    ref, scope = str(uuid.uuid4()), str(uuid.uuid4())

    def revision(number, seats):
        return publisher.entitlement(
            node, [feature("render", seats, scope)], ref=ref, revision=number
        )

    expect(node.install(revision(1, 5)), 201)
    held = [origin.acquire() for _ in range(4)]
    expect(node.install(revision(2, 2)), 201)
    assert len(origin.leases()) == 4
    for lease in held:
        origin.renew(lease)
    for lease in held[:2]:
        expect_problem(origin.post_leases({"feature": "render"}), 409, "no_free_seat")
        origin.release(lease)
    expect_problem(origin.post_leases({"feature": "render"}), 409, "no_free_seat")
    node.restart()
    expect_problem(origin.post_leases({"feature": "render"}), 409, "no_free_seat")
    origin.release(held[2])
    assert origin.acquire()
    expect_problem(origin.post_leases({"feature": "render"}), 409, "no_free_seat")


def test_a_dropped_feature_grants_nothing(node, publisher, origin):
    ref, scopes = str(uuid.uuid4()), [str(uuid.uuid4()) for _ in range(2)]
    both = [feature("render", 2, scopes[0]), feature("simulate", 2, scopes[1])]
    expect(node.install(publisher.entitlement(node, both, ref=ref)), 201)
    lease = origin.acquire("simulate")
    expect(node.install(publisher.entitlement(node, both[:1], ref=ref, revision=2)), 201)
    answer = origin.post_leases({"feature": "simulate"})
    assert answer.status_code in (404, 409), answer.text
    assert origin.acquire("render")
    assert lease["lease_ref"] in {one["lease_ref"] for one in origin.leases()}


def test_the_end_of_an_entitlement_ends_grants_and_leases(node, publisher, origin):
    expect(node.install(publisher.entitlement(node, {"render": 3}, seconds=3)), 201)
    lease = origin.acquire()
    assert lease["expires_in"] <= 3

    def ended():
        answer = origin.post_leases({"feature": "render", "count": 3})
        assert answer.status_code in (409, 422), answer.text
        return answer.json()["code"] == "entitlement_expired"

    wait_until(ended, 30, "the entitlement has ended")
    answer = origin.put_lease(lease["lease_ref"], lease_token=lease["lease_token"])
    expect_problem(answer, 410, "lease_ended")
    assert node.get("/-/ready", token=None).status_code == 200


def test_an_entitlement_that_ended_or_has_not_begun(node, publisher):
    now = int(time.time())
    claims = publisher.claims(node, {"render": 1})
    answer = node.install(
        publisher.sign({**claims, "nbf": now - 100, "iat": now - 100, "exp": now - 10})
    )
    expect_problem(answer, 422, "entitlement_expired")
    answer = node.install(publisher.sign({**claims, "nbf": now + 3600}))
    expect_problem(answer, 422, "entitlement_not_yet")
    assert refs(node) == []


def test_another_instance(node, publisher):
    claims = publisher.claims(node, {"render": 1})
    answer = node.install(publisher.sign({**claims, "instance_ref": str(uuid.uuid4())}))
    expect_problem(answer, 422, "entitlement_foreign")
    other = jose.thumbprint(jose.jwk(jose.make_key("ec").public_key()))
    answer = node.install(publisher.sign({**claims, "instance_key": other}))
    expect_problem(answer, 422, "entitlement_foreign")
    assert refs(node) == []


def test_altered(node, publisher):
    text = publisher.entitlement(node, {"render": 1})
    header, payload, signature = text.split(".")
    more = jose.payload_of(text)
    more["features"][0]["seats"] = 1000
    forged = ".".join([header, jose.encode(json.dumps(more).encode()), signature])
    expect_problem(node.install(forged), 422, "entitlement_altered")
    expect_problem(
        node.install(jose.changed_byte(text, len(text) - 20)), 422, "entitlement_altered"
    )
    assert refs(node) == []


def test_untrusted_publishers(node, publisher):
    stranger = Publisher("Stranger")
    expect_problem(
        node.install(stranger.entitlement(node, {"render": 1})), 422, "entitlement_untrusted"
    )
    # the right name with a wrong key, and a trusted publisher signing for another name
    impostor = Publisher(publisher.name)
    answer = node.install(impostor.entitlement(node, {"render": 1}))
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] in ("entitlement_untrusted", "entitlement_altered")
    claims = publisher.claims(node, {"render": 1})
    answer = node.install(publisher.sign({**claims, "iss": "Stranger"}))
    assert answer.status_code == 422, answer.text
    assert refs(node) == []


def test_one_publisher_cannot_sign_for_another(node, publisher):
    other = Publisher("Other Software")
    other.trust(node.publishers_dir)
    node.restart()
    claims = publisher.claims(node, {"render": 1})
    answer = node.install(other.sign({**claims, "iss": publisher.name}))
    assert answer.status_code == 422, answer.text
    expect(node.install(other.entitlement(node, {"theirs": 1})), 201)
    # nor replace the other's entitlement, nor take over its scope
    mine = publisher.claims(node, {"render": 1})
    expect(node.install(publisher.sign(mine)), 201)
    theirs = {**mine, "iss": other.name, "revision": 2}
    answer = node.install(other.sign(theirs))
    assert answer.status_code in (409, 422), answer.text
    answer = node.install(other.sign({**theirs, "sub": str(uuid.uuid4())}))
    expect_problem(answer, 409, "entitlement_conflict")


def test_same_revision_with_other_content(node, publisher):
    claims = publisher.claims(node, {"render": 1})
    expect(node.install(publisher.sign(claims)), 201)
    claims["features"][0]["seats"] = 2
    answer = node.install(publisher.sign(claims))
    assert answer.status_code == 409, answer.text
    assert answer.json()["code"] in ("entitlement_conflict", "entitlement_outdated")


@pytest.mark.parametrize(
    "how",
    [
        "none",
        "hs256",
        "empty signature",
        "embedded jwk",
        "crit",
        "no typ",
        "lease typ",
        "unknown kid",
    ],
)
def test_tricks_of_jose(node, publisher, how):
    """RFC 8725, and the fields that let a token choose its own judge."""
    claims = publisher.claims(node, {"render": 1})
    good = publisher.sign(claims)
    header = jose.header_of(good)
    if how == "none":
        text = jose.assemble({**header, "alg": "none"}, claims, None)
    elif how == "hs256":
        text = jose.assemble(
            {**header, "alg": "HS256"}, claims, pem_public(publisher.key.public_key())
        )
    elif how == "empty signature":
        text = good.rsplit(".", 1)[0] + "."
    elif how == "embedded jwk":
        key = jose.make_key("ec")
        text = jose.sign(key, "entitlement+jwt", claims, jwk=jose.jwk(key.public_key()))
    elif how == "crit":
        text = publisher.sign(claims, crit=["exp"])
    elif how == "no typ":
        text = jose.assemble({k: v for k, v in header.items() if k != "typ"}, claims, publisher.key)
    elif how == "lease typ":
        text = jose.sign(publisher.key, "lease+jwt", claims)
    else:
        text = publisher.sign(claims, kid="A" * 43)
    answer = node.install(text)
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["code"].startswith("entitlement_"), answer.text
    assert refs(node) == []


def damaged(**changes):
    return lambda claims: {**claims, **changes}


def damaged_feature(**changes):
    return lambda claims: {**claims, "features": [{**claims["features"][0], **changes}]}


MALFORMED = {
    "no features": damaged(features=[]),
    "features no list": damaged(features={}),
    "no sub": lambda claims: {k: v for k, v in claims.items() if k != "sub"},
    "sub no uuid": damaged(sub="one"),
    "revision 0": damaged(revision=0),
    "revision text": damaged(revision="1"),
    "revision fraction": damaged(revision=1.5),
    "revision negative": damaged(revision=-1),
    "exp text": damaged(exp="2099-01-01"),
    "exp before nbf": lambda claims: {
        **claims,
        "exp": claims["nbf"] - 1,
        "iat": claims["nbf"] - 10,
    },
    "exp overflow": damaged(exp=2**64),
    "iss with a slash": damaged(iss="../publisher"),
    "iss number": damaged(iss=7),
    "seats negative": damaged_feature(seats=-1),
    "seats text": damaged_feature(seats="3"),
    "seats huge": damaged_feature(seats=2**63),
    "scope no uuid": damaged_feature(scope_ref="x"),
    "feature empty": damaged_feature(feature=""),
    "feature with a space": damaged_feature(feature="a b"),
    "feature too long": damaged_feature(feature="x" * 65),
    "lease seconds 0": damaged_feature(max_lease_seconds=0),
    "release unknown": damaged_feature(release="sometimes"),
    "scope twice": lambda claims: {**claims, "features": [claims["features"][0]] * 2},
    "too many features": lambda claims: {
        **claims,
        "features": [feature(f"f{n}", 1) for n in range(257)],
    },
}


@pytest.fixture(scope="module")
def empty_node(module_nodes, publisher):
    node = module_nodes.make()
    publisher.trust(node.publishers_dir)
    return node.start()


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_claims(empty_node, publisher, name):
    claims = MALFORMED[name](publisher.claims(empty_node, {"render": 1}))
    answer = empty_node.install(publisher.sign(claims))
    assert answer.status_code in (400, 409, 422), answer.text
    problem = answer.json()
    assert problem["code"].startswith("entitlement_"), problem
    assert problem["detail"], "the refusal does not say why"
    assert refs(empty_node) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"..",
        b"a.b.c",
        b"{}",
        b"\xff\xfe",
        b"e30.e30.e30",
        b"a" * 50000,
        b"\x00.\x00.\x00",
    ],
)
def test_bodies_that_are_no_jws(empty_node, body):
    answer = empty_node.install(body)
    assert answer.status_code in (400, 413, 422), answer.text
    assert answer.json()["detail"]
    assert refs(empty_node) == []


def test_a_publisher_no_longer_trusted(node, publisher, origin):
    """Leases of a publisher that was removed can end, but nothing new is granted."""
    expect(node.install(publisher.entitlement(node, {"render": 3})), 201)
    lease = origin.acquire()
    os.unlink(os.path.join(node.publishers_dir, f"{publisher.name}.pem"))
    node.restart()
    answer = origin.post_leases({"feature": "render"})
    assert answer.status_code in (404, 409, 422), answer.text
    assert origin.delete_lease(lease["lease_ref"]).status_code == 204


def test_many_features_at_once(node, publisher, origin):
    features = [feature(f"feature-{n}", 2) for n in range(120)]
    expect(node.install(publisher.entitlement(node, features)), 201)
    assert origin.acquire("feature-119")
    items = [{"feature": f"feature-{n}"} for n in range(64)]
    assert len(expect(origin.post_leases(*items), 201)["lease_result_list"]) == 64
    items = [{"feature": f"feature-{n}"} for n in range(65)]
    expect_problem(origin.post_leases(*items), 400, "too_many_items")
    other = Origin.ready(node)
    assert other.acquire("feature-0")
