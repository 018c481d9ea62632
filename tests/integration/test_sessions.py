"""Operators' sessions end with the token that opened them."""

import os
import uuid

from node import expect, expect_problem
from tls import write_private

COOKIE = "__Host-twinlease"


def sign_in(node, token):
    session = node.new_session()
    expect(node.post("/-/session", token=None, session=session, json={"token": token}), 200)
    return session


def role_of(node, session):
    answer = node.get("/-/session", token=None, session=session)
    return expect(answer, 200)["role"]


def expect_ended(node, session):
    expect_problem(node.get("/-/session", token=None, session=session), 401, "token_expired")
    expect_problem(node.get("/-/leases", token=None, session=session), 401, "token_expired")
    answer = node.delete(
        "/-/leases/expired",
        token=None,
        session=session,
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    expect_problem(answer, 401, "token_expired")


def test_a_session_ends_with_its_token(nodes, tmp_path):
    viewer_file = tmp_path / "viewer"
    write_private(viewer_file, (first := uuid.uuid4().hex).encode())
    node = nodes.make(VIEWER_TOKEN_FILE=viewer_file).start()
    admin, viewer = sign_in(node, node.admin_token()), sign_in(node, first)
    assert (role_of(node, admin), role_of(node, viewer)) == ("admin", "viewer")

    node.restart()  # with the same tokens: nobody has to sign in again
    assert (role_of(node, admin), role_of(node, viewer)) == ("admin", "viewer")

    node.stop()
    write_private(viewer_file, (second := uuid.uuid4().hex).encode())
    node.start()
    assert role_of(node, admin) == "admin"
    expect_ended(node, viewer)
    assert role_of(node, sign_in(node, second)) == "viewer"
    assert node.delete("/-/session", token=None, session=viewer).status_code == 204
    assert COOKIE not in viewer.cookies

    node.stop()  # a new token for the administrator is made when there is none
    os.remove(os.path.join(node.state_dir, "admin.token"))
    node.start()
    expect_ended(node, admin)
    assert role_of(node, sign_in(node, node.admin_token())) == "admin"


def test_a_role_that_is_gone_has_no_sessions(nodes, tmp_path):
    viewer_file = tmp_path / "viewer"
    write_private(viewer_file, (token := uuid.uuid4().hex).encode())
    node = nodes.make(VIEWER_TOKEN_FILE=viewer_file).start()
    viewer = sign_in(node, token)
    node.stop()
    node.settings["VIEWER_TOKEN_FILE"] = "None"
    node.start()
    expect_ended(node, viewer)


def test_two_roles_never_share_a_session(nodes, tmp_path):
    """The same word becomes another role's token: a session of the first one is none of it."""
    file = tmp_path / "token"
    write_private(file, (token := uuid.uuid4().hex).encode())
    node = nodes.make(VIEWER_TOKEN_FILE=file).start()
    session = sign_in(node, token)
    node.stop()
    node.settings["VIEWER_TOKEN_FILE"] = "None"
    node.settings["METRICS_TOKEN_FILE"] = str(file)
    node.start()
    expect_ended(node, session)
    assert role_of(node, sign_in(node, token)) == "metrics"
