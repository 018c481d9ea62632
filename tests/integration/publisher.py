"""A publisher in Python: an independent implementation of what `twinlease publisher` does."""

import os
import time
import uuid

import jose
from tls import pem_public


class Publisher:
    def __init__(self, name="Example Software", kind="ec"):
        self.name = name
        self.key = jose.make_key(kind)

    def trust(self, folder):
        """Puts the public key where a node looks for trusted publishers."""
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"{self.name}.pem"), "wb") as file:
            file.write(pem_public(self.key.public_key()))

    def claims(self, node, features, ref=None, revision=1, seconds=86400, **more):
        """features: {name: seats} or a list of feature objects."""
        if isinstance(features, dict):
            features = [feature(name, seats) for name, seats in features.items()]
        now = int(time.time())
        return {
            "iss": self.name,
            "sub": ref or str(uuid.uuid4()),
            "revision": revision,
            "instance_ref": node.instance_ref,
            "instance_key": node.instance_thumbprint,
            "iat": now,
            "nbf": now - 60,
            "exp": now + seconds,
            "features": features,
            **more,
        }

    def sign(self, claims, **header):
        return jose.sign(self.key, "entitlement+jwt", claims, **header)

    def entitlement(self, node, features, **more):
        return self.sign(self.claims(node, features, **more))


def feature(
    name,
    seats,
    scope_ref=None,
    max_lease_seconds=86400,
    release="acknowledged",
    revoke="acknowledged",
    **more,
):
    return {
        "scope_ref": scope_ref or str(uuid.uuid4()),
        "feature": name,
        "seats": seats,
        "max_lease_seconds": max_lease_seconds,
        "release": release,
        "revoke": revoke,
        **more,
    }
