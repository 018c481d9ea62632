"""An enrolled client machine, speaking the client API as its documentation says."""

import copy
import hashlib
import secrets
import uuid

import jose
from node import expect

ENVIRONMENT = {
    "hostname": "render-17",
    "os_platform": "linux",
    "os_version": "12",
    "ip_address_list": ["192.0.2.17"],
    "fingerprint": {"mac_address_list": ["02:00:00:00:00:11"]},
}


def pkce():
    """A code verifier and its S256 challenge (RFC 7636)."""
    verifier = secrets.token_urlsafe(48)
    return verifier, jose.encode(hashlib.sha256(verifier.encode()).digest())


class Origin:
    def __init__(self, node, ref=None):
        self.node = node
        self.ref = ref or str(uuid.uuid4())
        self.secret = None
        self.token = None
        self.session = node.new_session()

    def at(self, node):
        """The same machine, speaking to another node with what it has: it enrols nowhere again."""
        same = copy.copy(self)
        same.node, same.session = node, node.new_session()
        return same

    def call(self, method, path, token="own", **more):
        return self.node.call(
            method,
            path,
            token=self.token if token == "own" else token,
            session=self.session,
            **more,
        )

    # ---- enrolling ----

    def post_origin(self, client_token, **more):
        body = {"candidate_origin_ref": self.ref, "environment": ENVIRONMENT, **more}
        return self.call("POST", "/v1/origins", token=client_token, json=body)

    def enrol(self, client_token=None):
        body = expect(self.post_origin(client_token or self.node.client_token()), 201)
        self.ref, self.secret = body["origin_ref"], body["origin_secret"]
        return self

    def post_code(self, challenge, **more):
        body = {
            "origin_ref": self.ref,
            "origin_secret": self.secret,
            "code_challenge": challenge,
            **more,
        }
        return self.call("POST", "/v1/auth/code", token=None, json=body)

    def post_token(self, code, verifier):
        return self.call(
            "POST",
            "/v1/auth/token",
            token=None,
            json={"auth_code": code, "code_verifier": verifier},
        )

    def authenticate(self):
        verifier, challenge = pkce()
        code = expect(self.post_code(challenge), 200)["auth_code"]
        self.token = expect(self.post_token(code, verifier), 200)["auth_token"]
        return self

    @classmethod
    def ready(cls, node, client_token=None):
        return cls(node).enrol(client_token).authenticate()

    # ---- leases ----

    def post_leases(self, *items):
        return self.call("POST", "/v1/leases", json={"lease_request_list": list(items)})

    def acquire(self, feature="render", status=201, **item):
        """One lease."""
        body = expect(self.post_leases({"feature": feature, **item}), status)
        assert len(body["lease_result_list"]) == 1, body
        return body["lease_result_list"][0]

    def put_lease(self, ref, **body):
        return self.call("PUT", f"/v1/leases/{ref}", json=body)

    def renew(self, lease):
        return expect(self.put_lease(lease["lease_ref"], lease_token=lease["lease_token"]), 200)

    def delete_lease(self, ref, **body):
        return self.call("DELETE", f"/v1/leases/{ref}", **({"json": body} if body else {}))

    def release(self, lease):
        expect(self.delete_lease(lease["lease_ref"]), 204)

    def leases(self):
        return expect(self.call("GET", "/v1/leases"), 200)["active_lease_list"]
