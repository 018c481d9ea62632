"""JWS made and taken apart by hand, so that tests can also make the wrong ones."""

import base64
import hashlib
import hmac
import json

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

KEY_TYPES = ("ec", "rsa", "ed25519")
ALGORITHMS = {"ec": "ES256", "rsa": "RS256", "ed25519": "EdDSA"}


def make_key(kind):
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert kind == "ed25519"
    return ed25519.Ed25519PrivateKey.generate()


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def integer(value, size=None):
    return encode(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def jwk(public_key):
    """RFC 7517, with the members that RFC 7638 needs and no others."""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        numbers = public_key.public_numbers()
        return {
            "crv": "P-256",
            "kty": "EC",
            "x": integer(numbers.x, 32),
            "y": integer(numbers.y, 32),
        }
    if isinstance(public_key, rsa.RSAPublicKey):
        numbers = public_key.public_numbers()
        return {"e": integer(numbers.e), "kty": "RSA", "n": integer(numbers.n)}
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    raw = public_key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {"crv": "Ed25519", "kty": "OKP", "x": encode(raw)}


def thumbprint(members):
    """RFC 7638 with SHA-256, of a JWK that may have further members."""
    needed = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n"), "OKP": ("crv", "kty", "x")}
    chosen = {name: members[name] for name in needed[members["kty"]]}
    text = json.dumps(chosen, sort_keys=True, separators=(",", ":"))
    return encode(hashlib.sha256(text.encode()).digest())


def algorithm(key):
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return "ES256"
    return "RS256" if isinstance(key, rsa.RSAPrivateKey) else "EdDSA"


def signature(key, data):
    if isinstance(key, bytes):
        return hmac.new(key, data, hashlib.sha256).digest()
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, PKCS1v15(), SHA256())
    return key.sign(data)


def assemble(header, payload, key):
    """Signs exactly these parts; header and payload are dicts, or bytes to go in as they are. key
    None: empty signature; bytes: HMAC."""
    parts = [
        part if isinstance(part, bytes) else json.dumps(part, separators=(",", ":")).encode()
        for part in (header, payload)
    ]
    data = ".".join(map(encode, parts)).encode()
    return data.decode() + "." + ("" if key is None else encode(signature(key, data)))


def sign(key, typ, payload, **header):
    head = {"alg": algorithm(key), "typ": typ, "kid": thumbprint(jwk(key.public_key()))}
    return assemble({**head, **header}, payload, key)


def header_of(token):
    return json.loads(decode(token.split(".")[0]))


def payload_of(token):
    return json.loads(decode(token.split(".")[1]))


def pyjwt_verify(token, key, **options):
    """The payload, if PyJWT accepts the token under this public key (a cryptography object or
    JWK)."""
    name = header_of(token)["alg"]
    if isinstance(key, dict):
        key = jwt.PyJWK(key, algorithm=name).key
    return jwt.decode(token, key, algorithms=[name], options={"verify_aud": False, **options})


def changed_byte(token, index):
    """The token with one base64url character replaced by another."""
    replacement = "A" if token[index] != "A" else "B"
    return token[:index] + replacement + token[index + 1 :]
