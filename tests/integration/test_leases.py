"""One lease from grant to end, and what each step refuses (R3 to R7)."""

import time
import uuid

import jose
from node import expect, expect_problem
from origin import Origin
from publisher import Publisher, feature
from test_contention import instant
from waiting import wait_until


def test_lease_has_every_member(node, with_seats, origin):
    installed = with_seats(2)
    lease = origin.acquire(duration_seconds=600)
    assert set(lease) >= {
        "lease_ref",
        "origin_ref",
        "scope_ref",
        "feature",
        "count",
        "created",
        "expires",
        "expires_in",
        "renew_after",
        "home",
        "lease_token",
        "entitlement",
    }
    assert lease["origin_ref"] == origin.ref
    assert lease["count"] == 1
    assert 595 <= lease["expires_in"] <= 600
    assert abs(instant(lease["expires"]) - instant(lease["created"]) - 600) < 0.01
    assert lease["home"] == expect(node.get("/-/health", token=None), 200)["node_ref"]
    assert installed is not None


def test_renewal_comes_at_the_configured_share(nodes, publisher):
    node = nodes.make(LEASE_RENEWAL_PERIOD="0.5")
    publisher.trust(node.publishers_dir)
    node.start()
    expect(node.install(publisher.entitlement(node, {"render": 1})), 201)
    lease = Origin.ready(node).acquire(duration_seconds=1000)
    after = lease["renew_after"]
    seconds = (
        after if isinstance(after, (int, float)) else instant(after) - instant(lease["created"])
    )
    assert 495 <= seconds <= 505


def test_grant_by_scope_and_by_list(node, publisher, origin):
    scopes = [str(uuid.uuid4()) for _ in range(2)]
    features = [feature("render", 2, scopes[0]), feature("simulate", 2, scopes[1])]
    expect(node.install(publisher.entitlement(node, features)), 201)
    body = expect(origin.post_leases({"scope_ref": scopes[0]}), 201)
    assert body["lease_result_list"][0]["feature"] == "render"
    body = expect(origin.call("POST", "/v1/leases", json={"scope_ref_list": scopes}), 201)
    assert [lease["scope_ref"] for lease in body["lease_result_list"]] == scopes


def test_all_or_nothing(node, publisher, origin):
    expect(node.install(publisher.entitlement(node, {"render": 2, "simulate": 1})), 201)
    origin.acquire("simulate")
    answer = origin.post_leases({"feature": "render"}, {"feature": "simulate"})
    problem = expect_problem(answer, 409, "no_free_seat")
    assert "simulate" in problem["detail"]
    assert [lease["feature"] for lease in origin.leases()] == ["simulate"]


def test_renew_extends_and_keeps_the_home(node, with_seats, origin):
    with_seats(1)
    lease = origin.acquire(duration_seconds=600)
    wait_until(lambda: time.time() > instant(lease["created"]) + 0.05, 5, "the clock goes on")
    renewed = origin.renew(lease)
    assert renewed["lease_ref"] == lease["lease_ref"]
    assert renewed["home"] == lease["home"]
    assert instant(renewed["expires"]) > instant(lease["expires"])
    assert (
        jose.payload_of(renewed["lease_token"])["seq"]
        > jose.payload_of(lease["lease_token"])["seq"]
    )
    # an older token, and none at all, renew the same lease
    assert origin.renew(lease)["lease_ref"] == lease["lease_ref"]
    assert expect(origin.put_lease(lease["lease_ref"]), 200)["lease_ref"] == lease["lease_ref"]


def test_release_gives_the_seat_back_at_once(node, with_seats, origin):
    with_seats(1)
    lease = origin.acquire()
    expect_problem(origin.post_leases({"feature": "render"}), 409, "no_free_seat")
    origin.release(lease)
    origin.release(lease)  # 204 also when repeated
    assert origin.leases() == []
    assert origin.acquire()["lease_ref"] != lease["lease_ref"]


def test_release_at_expiry_keeps_the_seat(node, publisher, origin):
    """Where the entitlement says at_expiry, a seat given back early stays taken until then."""
    features = [feature("render", 1, release="at_expiry")]
    expect(node.install(publisher.entitlement(node, features)), 201)
    lease = origin.acquire(duration_seconds=2)
    origin.release(lease)
    problem = expect_problem(origin.post_leases({"feature": "render"}), 409, "no_free_seat")
    assert abs(instant(problem["next_expected"]) - instant(lease["expires"])) < 1
    wait_until(
        lambda: origin.post_leases({"feature": "render"}).status_code == 201,
        30,
        "the seat came back at the end of the lease",
    )
    assert time.time() >= instant(lease["expires"]) - 0.1


def test_revoke_at_expiry_keeps_the_seat(node, publisher, origin):
    features = [feature("render", 1, revoke="at_expiry")]
    expect(node.install(publisher.entitlement(node, features)), 201)
    lease = origin.acquire(duration_seconds=600)
    expect(node.delete(f"/-/lease/{lease['lease_ref']}"), 204)
    expect_problem(origin.post_leases({"feature": "render"}), 409, "no_free_seat")
    expect_problem(origin.put_lease(lease["lease_ref"]), 410, "lease_ended")


def test_expiry_gives_the_seat_back(node, with_seats, origin):
    with_seats(1)
    lease = origin.acquire(duration_seconds=1)
    expect_problem(origin.post_leases({"feature": "render"}), 409, "no_free_seat")
    wait_until(
        lambda: origin.post_leases({"feature": "render"}).status_code == 201,
        30,
        "the seat of an expired lease came back",
    )
    assert time.time() >= instant(lease["expires"]) - 0.1, "the seat came back too early"


def test_renewal_after_expiry_is_refused(node, with_seats, origin):
    """R4: no grace at all, whether or not the expiry has been noted yet."""
    with_seats(1)
    lease = origin.acquire(duration_seconds=1)
    wait_until(lambda: time.time() > instant(lease["expires"]) + 0.2, 30, "the lease has expired")
    expect_problem(
        origin.put_lease(lease["lease_ref"], lease_token=lease["lease_token"]), 410, "lease_ended"
    )
    expect_problem(origin.put_lease(lease["lease_ref"]), 410, "lease_ended")


def test_a_released_lease_stays_ended(node, with_seats, origin):
    with_seats(2)
    lease = origin.acquire(candidate_lease_ref=str(uuid.uuid4()))
    origin.release(lease)
    answer = origin.put_lease(lease["lease_ref"], lease_token=lease["lease_token"])
    expect_problem(answer, 410, "lease_ended")
    answer = origin.post_leases({"feature": "render", "candidate_lease_ref": lease["lease_ref"]})
    expect_problem(answer, 410, "lease_ended")


def test_a_reference_of_another_origin_is_refused(node, with_seats, origin):
    with_seats(2)
    lease = origin.acquire(candidate_lease_ref=str(uuid.uuid4()))
    other = Origin.ready(node)
    answer = other.post_leases({"feature": "render", "candidate_lease_ref": lease["lease_ref"]})
    assert answer.status_code in (404, 409), answer.text
    expect_problem(other.put_lease(lease["lease_ref"]), 404, "lease_unknown")
    expect_problem(other.delete_lease(lease["lease_ref"]), 404, "lease_unknown")
    assert [one["lease_ref"] for one in origin.leases()] == [lease["lease_ref"]]


def test_a_lease_token_of_another_origin_is_refused(node, with_seats, origin):
    with_seats(2)
    lease = origin.acquire()
    other = Origin.ready(node)
    answer = other.put_lease(lease["lease_ref"], lease_token=lease["lease_token"])
    assert answer.status_code in (403, 404, 409), answer.text
    answer = other.delete_lease(lease["lease_ref"], lease_token=lease["lease_token"])
    assert answer.status_code in (403, 404, 409), answer.text
    assert len(origin.leases()) == 1


def test_the_same_reference_for_something_else_is_refused(node, publisher, origin):
    expect(node.install(publisher.entitlement(node, {"render": 5, "simulate": 5})), 201)
    ref = origin.acquire(candidate_lease_ref=str(uuid.uuid4()))["lease_ref"]
    answer = origin.post_leases({"feature": "simulate", "candidate_lease_ref": ref})
    expect_problem(answer, 409, "lease_mismatch")
    answer = origin.post_leases({"feature": "render", "count": 2, "candidate_lease_ref": ref})
    expect_problem(answer, 409, "lease_mismatch")


def test_the_same_reference_twice_in_one_request(shared_origin):
    ref = str(uuid.uuid4())
    item = {"feature": "render", "candidate_lease_ref": ref}
    expect_problem(shared_origin.post_leases(item, item), 400, "duplicate_reference")


def test_unknown_lease(shared_origin):
    ref = str(uuid.uuid4())
    expect_problem(shared_origin.put_lease(ref), 404, "lease_unknown")
    expect_problem(shared_origin.delete_lease(ref), 404, "lease_unknown")


def test_release_all(node, with_seats, origin):
    with_seats(5)
    refs = {origin.acquire()["lease_ref"] for _ in range(3)}
    other = Origin.ready(node)
    kept = other.acquire()
    body = expect(origin.call("DELETE", "/v1/leases"), 200)
    released = {
        item["lease_ref"] if isinstance(item, dict) else item
        for item in body["released_lease_list"]
    }
    assert released == refs
    assert origin.leases() == []
    assert [lease["lease_ref"] for lease in other.leases()] == [kept["lease_ref"]]
    assert expect(origin.call("DELETE", "/v1/leases"), 200)["released_lease_list"] == []


def test_duration_is_capped_by_site_entitlement_and_its_end(nodes, publisher):
    node = nodes.make(LEASE_EXPIRE_SECONDS=500)
    publisher.trust(node.publishers_dir)
    node.start()
    short = feature("short", 5, max_lease_seconds=300)
    expect(node.install(publisher.entitlement(node, [feature("render", 5), short])), 201)
    expect(node.install(publisher.entitlement(node, {"ending": 5}, seconds=100)), 201)
    origin = Origin.ready(node)
    for name, seconds in (("render", 500), ("short", 300), ("ending", 100)):
        lease = origin.acquire(name)
        assert seconds - 5 <= lease["expires_in"] <= seconds, (name, lease["expires_in"])
    assert origin.acquire("render", duration_seconds=60)["expires_in"] <= 60


def test_durations_and_counts_out_of_range(node, with_seats, origin):
    with_seats(3)
    for seconds in (0, -1, 10**9, 2**63):
        answer = origin.post_leases({"feature": "render", "duration_seconds": seconds})
        assert answer.status_code == 400, (seconds, answer.text)
        assert answer.json()["code"] in ("duration_out_of_range", "bad_field"), answer.text
    for count in (0, -1):
        expect_problem(
            origin.post_leases({"feature": "render", "count": count}), 400, "count_out_of_range"
        )
    expect_problem(origin.post_leases({"feature": "render", "count": 4}), 409, "count_over_seats")
    assert origin.leases() == []


def test_unknown_scope_and_feature(shared_origin):
    expect_problem(
        shared_origin.post_leases({"scope_ref": str(uuid.uuid4())}), 404, "scope_unknown"
    )
    expect_problem(shared_origin.post_leases({"feature": "no-such"}), 404, "scope_unknown")


def test_feature_of_two_publishers_is_ambiguous(node, publisher, with_seats, origin):
    other = Publisher("Other Software", "ed25519")
    other.trust(node.publishers_dir)
    node.restart()
    scopes = [str(uuid.uuid4()) for _ in range(2)]
    for who, scope in zip((publisher, other), scopes):
        expect(node.install(who.entitlement(node, [feature("render", 3, scope)])), 201)
    expect_problem(origin.post_leases({"feature": "render"}), 409, "feature_ambiguous")
    for scope in scopes:
        assert expect(origin.post_leases({"scope_ref": scope}), 201)


def test_everything_is_there_after_a_restart(node, with_seats, origin):
    with_seats(5)
    kept = [origin.acquire(duration_seconds=600) for _ in range(3)]
    released = origin.acquire()
    origin.release(released)
    origin_list, lease_list = node.origins(), node.leases()
    node.restart()
    assert {one["lease_ref"]: one["expires"] for one in origin.leases()} == {
        one["lease_ref"]: one["expires"] for one in kept
    }
    assert node.origins() == origin_list
    assert node.leases() == lease_list
    for lease in kept:
        assert origin.renew(lease)["lease_ref"] == lease["lease_ref"]
    expect_problem(origin.put_lease(released["lease_ref"]), 410, "lease_ended")
