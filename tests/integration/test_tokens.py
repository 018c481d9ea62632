"""Done-when 3: what we sign verifies with other people's code, for every key type, and with one
byte changed it does not."""

import hashlib
import json
import subprocess

import jwt
import pytest
from jwcrypto import jwk as other_jwk
from jwcrypto import jws as other_jws

import jose
from node import expect
from origin import Origin
from publisher import Publisher
from tls import pem_private, pem_public, write_private


@pytest.fixture(scope="module", params=jose.KEY_TYPES)
def signed(request, module_nodes, tmp_path_factory):
    """A node whose instance key, and a publisher whose key, are of one type; and one of each
    token."""
    kind = request.param
    folder = tmp_path_factory.mktemp("keys")
    key = jose.make_key(kind)
    write_private(folder / "instance.private.pem", pem_private(key))
    (folder / "instance.public.pem").write_bytes(pem_public(key.public_key()))
    node = module_nodes.make(
        INSTANCE_KEY_RSA=folder / "instance.private.pem",
        INSTANCE_KEY_PUB=folder / "instance.public.pem",
    )
    publisher = Publisher(kind=kind)
    publisher.trust(node.publishers_dir)
    node.start()
    entitlement = publisher.entitlement(node, {"render": 5})
    expect(node.install(entitlement), 201)
    lease = Origin.ready(node).acquire()
    assert (
        lease["entitlement"] == entitlement
    ), "the lease does not carry the chain to the publisher"
    return {
        "kind": kind,
        "node": node,
        "instance": node.jwks()[0],
        "publisher": jose.jwk(publisher.key.public_key()),
        "tokens": {
            "lease": lease["lease_token"],
            "client": node.client_token(),
            "entitlement": lease["entitlement"],
            "instance": node.get("/-/instance-token").text.strip(),
        },
    }


TOKENS = ("lease", "client", "entitlement", "instance")


def key_of(signed, name):
    return signed["publisher"] if name == "entitlement" else signed["instance"]


def jose_command_verifies(token, key, folder):
    """The `jose` command of Debian's package of that name."""
    (folder / "token").write_text(token)
    (folder / "key").write_text(json.dumps(key))
    done = subprocess.run(
        ["jose", "jws", "ver", "-i", folder / "token", "-k", folder / "key", "-O", "-"],
        capture_output=True,
        check=False,
    )
    return json.loads(done.stdout) if done.returncode == 0 else None


def jwcrypto_verifies(token, key):
    parsed = other_jws.JWS()
    try:
        parsed.deserialize(token, other_jwk.JWK.from_json(json.dumps(key)))
    except other_jws.InvalidJWSSignature:
        return None
    return json.loads(parsed.payload)


@pytest.mark.parametrize("name", TOKENS)
def test_algorithm_follows_the_key(signed, name):
    header = jose.header_of(signed["tokens"][name])
    assert header["alg"] == jose.ALGORITHMS[signed["kind"]]
    assert header["kid"] == jose.thumbprint(key_of(signed, name))
    assert (
        header["typ"]
        == {
            "lease": "lease+jwt",
            "client": "client+jwt",
            "entitlement": "entitlement+jwt",
            "instance": "instance+jwt",
        }[name]
    )


@pytest.mark.parametrize("name", TOKENS)
def test_pyjwt_verifies(signed, name):
    token, key = signed["tokens"][name], key_of(signed, name)
    assert jose.pyjwt_verify(token, key) == jose.payload_of(token)


@pytest.mark.parametrize("name", TOKENS)
def test_jwcrypto_verifies(signed, name):
    token, key = signed["tokens"][name], key_of(signed, name)
    assert jwcrypto_verifies(token, key) == jose.payload_of(token)


@pytest.mark.parametrize("name", TOKENS)
def test_jose_command_verifies(signed, name, tmp_path):
    """José 11 knows no EdDSA; there PyJWT and jwcrypto judge alone."""
    token, key = signed["tokens"][name], key_of(signed, name)
    known = subprocess.run(
        ["jose", "alg"], text=True, capture_output=True, check=True
    ).stdout.split()
    if jose.header_of(token)["alg"] not in known:
        assert signed["kind"] == "ed25519"
        return
    assert jose_command_verifies(token, key, tmp_path) == jose.payload_of(token)
    assert jose_command_verifies(jose.changed_byte(token, 60), key, tmp_path) is None


@pytest.mark.parametrize("name", TOKENS)
def test_one_changed_byte_does_not_verify(signed, name):
    """Every position of the signature and a spread of the rest; the last character of a part may
    hold unused bits, so it is left out."""
    token, key = signed["tokens"][name], key_of(signed, name)
    header, payload, signature = token.split(".")
    dots = {len(header), len(header) + 1 + len(payload)}
    last = {dot - 1 for dot in dots} | {len(token) - 1}
    places = set(range(0, len(token), 37)) | set(range(len(token) - len(signature), len(token)))
    for place in sorted(places - dots - last):
        with pytest.raises((jwt.InvalidTokenError, ValueError)):
            jose.pyjwt_verify(jose.changed_byte(token, place), key)


def test_jwks_is_the_instance_key(signed):
    (key,) = signed["node"].jwks()
    assert key["kid"] == jose.thumbprint(key)
    assert key["alg"] == jose.ALGORITHMS[signed["kind"]]
    assert key["use"] == "sig"
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & key.keys(), "a private member is published"


def test_chain_from_publisher_to_lease(signed):
    """publisher key -> entitlement -> instance key -> lease token, as a client verifies it
    offline."""
    tokens = signed["tokens"]
    entitlement = jose.pyjwt_verify(tokens["entitlement"], signed["publisher"])
    assert entitlement["instance_key"] == jose.thumbprint(signed["instance"])
    lease = jose.pyjwt_verify(tokens["lease"], signed["instance"])
    assert lease["iss"] == entitlement["instance_ref"] == signed["node"].instance_ref
    scope = next(f for f in entitlement["features"] if f["scope_ref"] == lease["scope_ref"])
    assert scope["feature"] == lease["feature"] == "render"
    digest = hashlib.sha256(tokens["entitlement"].encode()).digest()
    assert lease["ent"] in (jose.encode(digest), digest.hex())


def test_lease_token_claims(signed):
    claims = jose.payload_of(signed["tokens"]["lease"])
    for name in (
        "iss",
        "sub",
        "jti",
        "scope_ref",
        "feature",
        "count",
        "iat",
        "nbf",
        "exp",
        "home",
        "gen",
        "adopt",
        "node",
        "seq",
        "ent",
    ):
        assert name in claims, f"the lease token lacks {name}"
    assert claims["iat"] <= claims["nbf"] <= claims["exp"] or claims["nbf"] <= claims["iat"]
    assert claims["home"] == claims["node"]
    assert claims["adopt"] is False, "granted out of a peer's sight, a lease is private (R3)"


def test_client_token_claims(signed):
    node = signed["node"]
    claims = jose.payload_of(signed["tokens"]["client"])
    assert claims["iss"] == node.instance_ref
    assert claims["node_url_list"] == [node.url]
    assert len(claims["scope_ref_list"]) == 1
    assert claims["jwks"]["keys"][0]["kid"] == jose.thumbprint(signed["instance"])
    with open(node.ca_file, encoding="ascii") as file:
        assert claims["ca_certificate"].strip() == file.read().strip()


def test_instance_token_claims(signed):
    claims = jose.payload_of(signed["tokens"]["instance"])
    assert claims["instance_ref"] == signed["node"].instance_ref
    assert jose.thumbprint(claims["jwk"]) == jose.thumbprint(signed["instance"])
