"""The operator's side: roles, lists and their pages, revoking, purging, tokens to hand out."""

import os
import stat
import uuid

import pytest

import jose
from node import expect, expect_problem
from origin import Origin
from publisher import feature
from test_contention import instant
from tls import write_private
from waiting import wait_until


@pytest.fixture(scope="module")
def role_node(module_nodes, publisher, tmp_path_factory):
    """A node with a token for every role."""
    folder = tmp_path_factory.mktemp("roles")
    tokens = {role: uuid.uuid4().hex for role in ("viewer", "metrics", "enrol")}
    settings = {}
    for role, token in tokens.items():
        write_private(folder / role, token.encode() + b"\n")
        settings[f"{role.upper()}_TOKEN_FILE"] = folder / role
    node = module_nodes.make(**settings)
    publisher.trust(node.publishers_dir)
    node.start()
    expect(node.install(publisher.entitlement(node, {"render": 100})), 201)
    node.tokens = {**tokens, "admin": node.admin_token()}
    return node


READS = [
    "/-/config",
    "/-/scopes",
    "/-/origins",
    "/-/leases",
    "/-/entitlements",
    "/-/instance-token",
]


@pytest.mark.parametrize("path", READS)
def test_who_may_read(role_node, path):
    for role, status in (("admin", 200), ("viewer", 200), ("metrics", 403), ("enrol", 403)):
        assert role_node.get(path, token=role_node.tokens[role]).status_code == status, role


def test_who_may_draw_client_tokens(role_node):
    for role, status in (("admin", 200), ("enrol", 200), ("viewer", 403), ("metrics", 403)):
        answer = role_node.get("/-/client-token", token=role_node.tokens[role])
        assert answer.status_code == status, role


REF = "0192f3a4-0000-4000-8000-000000000001"

CHANGES = [
    ("DELETE", "/-/origins"),
    ("DELETE", f"/-/origins/{REF}"),
    ("DELETE", f"/-/lease/{REF}"),
    ("DELETE", "/-/leases/expired"),
    ("POST", "/-/entitlements"),
]


@pytest.mark.parametrize("method,path", CHANGES)
def test_only_the_administrator_changes_anything(role_node, method, path):
    origin = Origin.ready(role_node, role_node.client_token())
    for role in ("viewer", "metrics", "enrol"):
        answer = role_node.call(
            method,
            path,
            token=role_node.tokens[role],
            **(
                {"data": "x", "headers": {"Content-Type": "application/jose"}}
                if method == "POST"
                else {}
            ),
        )
        expect_problem(answer, 403, "forbidden")
    assert origin.leases() == []


def test_secrets_are_not_shown(role_node):
    answer = role_node.get("/-/config")
    text = answer.text
    assert role_node.settings["DATABASE"] not in text
    assert "postgres.sock" not in text and "host='" not in text
    for token in role_node.tokens.values():
        assert token not in text
    assert role_node.settings["STATE_DIR"] in text


def test_config_shows_every_setting(role_node):
    text = role_node.get("/-/config").text
    for name in ("DLS_URL", "LEASE_EXPIRE_DAYS", "MAX_CLOCK_SKEW", "WORKERS", "DATABASE"):
        assert name in text


def test_health_and_ready(role_node):
    health = expect(role_node.get("/-/health", token=None), 200)
    assert health["status"] == "up"
    assert uuid.UUID(health["node_ref"])
    expect(role_node.get("/-/ready", token=None), 200)


def test_lists_page_by_page(node, with_seats):
    with_seats(50)
    origins = [Origin.ready(node) for _ in range(7)]
    refs = {o.acquire()["lease_ref"] for o in origins for _ in range(3)}
    for limit in (1, 2, 5, 20, 21, 1000):
        listed = [lease["lease_ref"] for lease in node.leases(limit=limit)]
        assert len(listed) == len(set(listed)) == 21, limit
        assert set(listed) == refs
        listed = [o["origin_ref"] for o in node.origins(limit=limit)]
        assert sorted(listed) == sorted(o.ref for o in origins), limit
    answer = node.get("/-/leases?limit=20")
    assert 'rel="next"' in answer.headers["Link"]
    assert "Link" not in node.get("/-/leases?limit=21").headers


def test_lists_with_more_about_each(node, with_seats, origin):
    with_seats(5)
    lease = origin.acquire(count=2)
    (listed,) = node.leases(origin="true")
    assert listed["lease_ref"] == lease["lease_ref"] and listed["count"] == 2
    assert "render-17" in str(listed)
    assert "render-17" not in str(node.leases(origin="false"))
    (listed,) = node.origins(leases="true")
    assert lease["lease_ref"] in str(listed)
    assert lease["lease_ref"] not in str(node.origins(leases="false"))


def test_scopes_add_up(node, with_seats, origin):
    with_seats(5)
    origin.acquire(count=2)
    (scope,) = node.all_pages("/-/scopes")
    assert scope["feature"] == "render"
    assert scope["seats"] == 5 and scope["used"] == 2 and scope["free_here"] == 3


def test_revoke(node, with_seats, origin):
    with_seats(1)
    lease = origin.acquire()
    expect(node.delete(f"/-/lease/{lease['lease_ref']}"), 204)
    expect_problem(
        origin.put_lease(lease["lease_ref"], lease_token=lease["lease_token"]), 410, "lease_ended"
    )
    assert origin.leases() == []
    assert origin.acquire()
    expect_problem(node.delete(f"/-/lease/{uuid.uuid4()}"), 404, "lease_unknown")


def test_purge(nodes, publisher):
    """R5: an ended record goes when every node knows it and every clock has passed its
    `expires`."""
    node = nodes.make(ENDED_KEEP_HOURS=0)
    publisher.trust(node.publishers_dir)
    node.start()
    expect(node.install(publisher.entitlement(node, {"render": 9})), 201)
    origin = Origin.ready(node)
    short, kept = origin.acquire(duration_seconds=1), origin.acquire(duration_seconds=600)
    long = origin.acquire(duration_seconds=600)
    origin.release(long)

    def purged():
        assert node.delete("/-/leases/expired").status_code in (200, 204)
        known = {lease["lease_ref"] for lease in node.leases()}
        assert {kept["lease_ref"]} <= known
        return short["lease_ref"] not in known

    wait_until(purged, 30, "the expired lease was purged")
    # released, but its time has not passed: an old token could still revive it
    expect_problem(
        origin.put_lease(long["lease_ref"], lease_token=long["lease_token"]), 410, "lease_ended"
    )
    assert [lease["lease_ref"] for lease in origin.leases()] == [kept["lease_ref"]]


def test_client_token_of_chosen_scopes(node, publisher):
    scopes = {}
    for name in ("render", "simulate"):
        scopes[name] = str(uuid.uuid4())
        expect(node.install(publisher.entitlement(node, [feature(name, 1, scopes[name])])), 201)
    claims = jose.payload_of(node.client_token())
    assert sorted(claims["scope_ref_list"]) == sorted(scopes.values())
    claims = jose.payload_of(node.client_token(scope=scopes["render"], expire_days=3))
    assert claims["scope_ref_list"] == [scopes["render"]]
    assert claims["exp"] - claims["iat"] == 3 * 86400
    expect_problem(node.get(f"/-/client-token?scope={uuid.uuid4()}"), 404, "scope_unknown")


def test_client_token_is_a_file_to_hand_out(node, with_seats):
    with_seats(1)
    answer = node.get("/-/client-token")
    assert "attachment" in answer.headers["Content-Disposition"]
    assert ".tok" in answer.headers["Content-Disposition"]


def test_entitlements_are_listed_with_their_text(node, publisher):
    text = publisher.entitlement(node, {"render": 3})
    expect(node.install(text), 201)
    (listed,) = node.all_pages("/-/entitlements")
    assert text in str(listed)
    assert publisher.name in str(listed)


def test_generated_secrets_are_private(node):
    for name in ("admin.token", "instance.private.pem"):
        mode = stat.S_IMODE(os.stat(os.path.join(node.state_dir, name)).st_mode)
        assert mode == 0o600, (name, oct(mode))


def test_admin_token_stays_over_a_restart(node):
    before = node.admin_token()
    node.restart()
    assert node.admin_token() == before
    expect(node.get("/-/config"), 200)


def test_denials_name_the_request(node, with_seats, origin):
    with_seats(1)
    first = origin.acquire(duration_seconds=60)
    problem = expect_problem(origin.post_leases({"feature": "render"}), 409, "no_free_seat")
    assert problem["feature"] == "render"
    assert abs(instant(problem["next_expected"]) - instant(first["expires"])) < 1
