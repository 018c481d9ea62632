"""Done-when 4: `twinlease verify` accepts a good chain from the files alone, without a network, and
names the link of a bad one that is broken. Every document is signed here in Python; no node has
ever seen them."""

import calendar
import hashlib
import json
import os
import subprocess
import time
import uuid

import pytest

import jose
from node import TOOL, sanitizer_environment
from publisher import Publisher, feature
from tls import pem_public

OK, USAGE, VERIFICATION, BAD_FILE = 0, 2, 7, 8
VERIFY_SECONDS = 60

# An instant of the tests' own, far from today; the clock that the tool sees is set to it.
NOW = calendar.timegm((2031, 3, 1, 12, 0, 0))
HOUR, DAY = 3600, 86400


def can_leave_the_network():
    done = subprocess.run(
        ["unshare", "--net", "--map-root-user", "true"], check=False, capture_output=True
    )
    return done.returncode == 0


OFFLINE = ["unshare", "--net", "--map-root-user"] if can_leave_the_network() else []


def clock_of(now):
    """faketime's word for a clock that stands still at this second."""
    return ["faketime", "-f", time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now))]


class Chain:
    """All that a lease needs to be proved, to be spoilt before it is written. Claims are signed by
    write(), unless their token was set by hand."""

    def __init__(self, folder):
        self.folder = folder
        self.publisher, self.stranger = Publisher(), Publisher("Stranger")
        self.instance_ref = str(uuid.uuid4())
        self.instance_key = jose.make_key("ec")
        self.scope_ref = str(uuid.uuid4())
        self.terms = self.publisher.claims(
            self, [feature("render", 5, self.scope_ref, max_lease_seconds=DAY)]
        )
        self.terms.update(iat=NOW - 30 * DAY, nbf=NOW - 30 * DAY, exp=NOW + 30 * DAY)
        self.lease = {
            "iss": self.instance_ref,
            "sub": str(uuid.uuid4()),
            "jti": str(uuid.uuid4()),
            "scope_ref": self.scope_ref,
            "feature": "render",
            "count": 2,
            "gen": 0,
            "home": str(uuid.uuid4()),
            "adopt": False,
            "node": str(uuid.uuid4()),
            "seq": 1,
        }
        self.from_to(NOW, NOW + HOUR)
        self.jwks = {"keys": [jose.jwk(self.instance_key.public_key())]}
        self.pinned = self.publisher.key
        self.entitlement = self.token = None

    @property
    def instance_thumbprint(self):
        return jose.thumbprint(jose.jwk(self.instance_key.public_key()))

    def from_to(self, begins, ends):
        self.lease.update(iat=begins, nbf=begins, exp=ends)
        self.lease.update(
            created_ms=begins * 1000, expires_ms=ends * 1000, duration_ms=(ends - begins) * 1000
        )

    def sign_entitlement(self, key=None):
        self.entitlement = jose.sign(key or self.publisher.key, "entitlement+jwt", self.terms)

    def sign_lease(self, key=None, typ="lease+jwt"):
        if not self.entitlement:
            self.sign_entitlement()
        digest = hashlib.sha256(self.entitlement.encode()).digest()
        self.lease.setdefault("ent", jose.encode(digest))
        self.token = jose.sign(key or self.instance_key, typ, self.lease)

    def write(self):
        if not self.token:
            self.sign_lease()
        document = {
            "lease_ref": self.lease["jti"],
            "lease_token": self.token,
            "entitlement": self.entitlement,
            "jwks": self.jwks,
        }
        (self.folder / "lease.json").write_text(json.dumps(document))
        (self.folder / "publisher.pem").write_bytes(pem_public(self.pinned.public_key()))

    def verify(self, *arguments, now=NOW):
        """Nothing in the environment, and no network: the answer comes from the two files."""
        self.write()
        return subprocess.run(
            [
                *OFFLINE, *clock_of(now), TOOL, "verify", "--lease", "lease.json",
                "--publisher-key", "publisher.pem", "--json", *map(str, arguments),
            ],
            cwd=self.folder,
            text=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=VERIFY_SECONDS,
            check=False,
            env={
                "PATH": os.environ["PATH"],
                "TZ": "UTC",
                **sanitizer_environment(),
                "ASAN_OPTIONS": sanitizer_environment()["ASAN_OPTIONS"]
                + ":verify_asan_link_order=0",
            },
        )  # fmt: skip

    def holds(self, *arguments, **more):
        done = self.verify(*arguments, **more)
        assert done.returncode == OK, done.stderr
        assert [one["lease_ref"] for one in json.loads(done.stdout)["verified_list"]] == [
            self.lease["jti"]
        ]

    def breaks(self, link, *arguments, **more):
        """Returns the sentence."""
        done = self.verify(*arguments, **more)
        assert done.returncode == VERIFICATION, f"{done.returncode}: {done.stderr}"
        (failed,) = json.loads(done.stdout)["failed_list"]
        assert (failed["code"], failed["link"]) == ("verification", link), failed
        assert failed["message"] in done.stderr
        return failed["message"]


@pytest.fixture
def chain(tmp_path):
    return Chain(tmp_path)


def test_a_good_chain_without_a_network(chain):
    if not OFFLINE:
        pytest.skip("no network namespaces here")
    left = subprocess.run(
        [*OFFLINE, "cat", "/proc/net/dev"], text=True, capture_output=True, check=True
    )
    assert [line.split(":")[0].strip() for line in left.stdout.splitlines()[2:]] == ["lo"]
    chain.holds()


@pytest.mark.parametrize("publisher_kind", jose.KEY_TYPES)
@pytest.mark.parametrize("instance_kind", jose.KEY_TYPES)
def test_every_kind_of_key(tmp_path, publisher_kind, instance_kind):
    chain = Chain(tmp_path)
    chain.publisher = Publisher(kind=publisher_kind)
    chain.pinned = chain.publisher.key
    chain.instance_key = jose.make_key(instance_kind)
    chain.terms["instance_key"] = chain.instance_thumbprint
    chain.jwks = {"keys": [jose.jwk(chain.instance_key.public_key())]}
    chain.holds()
    chain.pinned = chain.stranger.key
    chain.breaks("publisher")


# ---- the links ----------------------------------------------------------------------------------


def spoil_payload(token):
    """One character of the claims, so that they are still JSON as likely as not."""
    header, payload, signature = token.split(".")
    claims = json.loads(jose.decode(payload))
    claims["iat"] += 1
    return ".".join([header, jose.encode(json.dumps(claims).encode()), signature])


def spoil_signature(token):
    return jose.changed_byte(token, len(token) - 20)


def other_publisher_signs(chain):
    chain.sign_entitlement(chain.stranger.key)


def other_publisher_under_this_ones_key_id(chain):
    kid = jose.thumbprint(jose.jwk(chain.publisher.key.public_key()))
    chain.entitlement = jose.sign(chain.stranger.key, "entitlement+jwt", chain.terms, kid=kid)


def other_publisher_is_pinned(chain):
    chain.pinned = chain.stranger.key


def nobody_signs(chain):
    chain.entitlement = jose.assemble(
        {"alg": "none", "typ": "entitlement+jwt"}, chain.terms, None
    )


def entitlement_payload_altered(chain):
    chain.sign_entitlement()
    chain.sign_lease()
    chain.entitlement = spoil_payload(chain.entitlement)


def entitlement_signature_altered(chain):
    chain.sign_lease()
    chain.entitlement = spoil_signature(chain.entitlement)


def entitlement_is_no_entitlement(chain):
    chain.sign_lease()
    chain.entitlement = chain.token


def entitlement_of_another_revision(chain):
    chain.sign_lease()
    chain.terms["revision"] += 1
    chain.sign_entitlement()


def entitlement_without_features(chain):
    chain.terms["features"] = []


def entitlement_names_another_instance_key(chain):
    chain.terms["instance_key"] = jose.thumbprint(jose.jwk(jose.make_key("ec").public_key()))


def keys_of_another_instance(chain):
    chain.jwks = {"keys": [jose.jwk(jose.make_key("ec").public_key())]}


def no_keys(chain):
    chain.jwks = {"keys": []}


def keys_that_are_none(chain):
    chain.jwks = {"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}


def lease_payload_altered(chain):
    chain.sign_lease()
    chain.token = spoil_payload(chain.token)


def lease_signature_altered(chain):
    chain.sign_lease()
    chain.token = spoil_signature(chain.token)


def lease_signed_by_another_key(chain):
    chain.sign_lease(jose.make_key("ec"))


def lease_signed_by_the_publisher(chain):
    chain.sign_lease(chain.publisher.key)


def lease_is_another_kind_of_token(chain):
    chain.sign_lease(typ="client+jwt")


def lease_unsigned(chain):
    chain.sign_lease()
    chain.token = jose.assemble({"alg": "none", "typ": "lease+jwt"}, chain.lease, None)


def lease_of_another_instance(chain):
    chain.lease["iss"] = str(uuid.uuid4())


def lease_of_another_scope(chain):
    chain.lease["scope_ref"] = str(uuid.uuid4())


def lease_of_another_feature(chain):
    chain.lease["feature"] = "simulate"


def lease_of_more_seats_than_there_are(chain):
    chain.lease["count"] = 6


def lease_longer_than_allowed(chain):
    chain.from_to(NOW, NOW + DAY + 301)


def lease_under_another_entitlement(chain):
    chain.lease["ent"] = jose.encode(bytes(32))


def lease_over(chain):
    chain.from_to(NOW - 2 * HOUR, NOW - HOUR)


def lease_not_begun(chain):
    chain.from_to(NOW + HOUR, NOW + 2 * HOUR)


def entitlement_over(chain):
    chain.terms["exp"] = NOW - HOUR


def entitlement_not_begun(chain):
    chain.terms["nbf"] = NOW + HOUR


BROKEN = {
    "publisher": [
        other_publisher_signs, other_publisher_is_pinned,
    ],
    "entitlement": [
        other_publisher_under_this_ones_key_id, nobody_signs, entitlement_payload_altered,
        entitlement_signature_altered, entitlement_is_no_entitlement,
        entitlement_of_another_revision, entitlement_without_features,
        lease_under_another_entitlement,
    ],
    "instance": [
        entitlement_names_another_instance_key, keys_of_another_instance, no_keys,
        keys_that_are_none,
    ],
    "lease": [
        lease_payload_altered, lease_signature_altered, lease_signed_by_another_key,
        lease_signed_by_the_publisher, lease_is_another_kind_of_token, lease_unsigned,
        lease_of_another_instance, lease_of_another_scope, lease_of_another_feature,
        lease_of_more_seats_than_there_are, lease_longer_than_allowed,
    ],
    "time": [lease_over, lease_not_begun, entitlement_over, entitlement_not_begun],
}  # fmt: skip
CASES = [(link, spoil) for link, spoils in BROKEN.items() for spoil in spoils]


@pytest.mark.parametrize("link, spoil", CASES, ids=[spoil.__name__ for _, spoil in CASES])
def test_the_broken_link_is_named(chain, link, spoil):
    spoil(chain)
    assert len(chain.breaks(link)) > 20


def test_what_is_asked_of_the_lease(chain):
    chain.holds("--feature", "render", "--count", 2)
    assert "simulate" in chain.breaks("lease", "--feature", "simulate")
    assert "3" in chain.breaks("lease", "--count", 3)


# ---- the clock ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tolerance", [None, 0, 60, 86400])
def test_the_edges_of_the_time(chain, tolerance):
    """The lease begins at NOW and ends at NOW + HOUR: its end is not part of it."""
    arguments = () if tolerance is None else ("--tolerance", tolerance)
    slack = 300 if tolerance is None else tolerance
    chain.holds(*arguments, now=NOW - slack)
    chain.holds(*arguments, now=NOW + HOUR - 1 + slack)
    early = chain.breaks("time", *arguments, now=NOW - slack - 1)
    assert "begins at 2031-03-01T12:00:00" in early and "clock" in early
    late = chain.breaks("time", *arguments, now=NOW + HOUR + slack)
    assert "ended at 2031-03-01T13:00:00" in late and "clock" in late


def test_a_tolerance_has_its_limit(chain):
    assert chain.verify("--tolerance", 86401).returncode == USAGE


def test_an_entitlement_s_edges(chain):
    """A lease cannot outlive what it rests on."""
    chain.terms["exp"] = NOW + HOUR // 2
    chain.holds("--tolerance", 0, now=NOW + HOUR // 2 - 1)
    late = chain.breaks("time", "--tolerance", 0, now=NOW + HOUR // 2)
    assert "the entitlement ended" in late


@pytest.mark.parametrize("days", [-1, 1])
def test_a_clock_that_is_off_by_a_day(chain, days):
    assert "clock" in chain.breaks("time", now=NOW + days * DAY)


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "no key\n", "-----BEGIN PUBLIC KEY-----\nAAAA\n"])
def test_a_publisher_key_that_is_none(chain, content):
    chain.write()
    (chain.folder / "publisher.pem").write_text(content)
    chain.write = lambda: None
    done = chain.verify()
    assert done.returncode in (VERIFICATION, BAD_FILE), done.stderr
    assert "publisher" in done.stderr
    assert not done.stderr.rstrip().endswith(":"), "why it cannot be used is told"


@pytest.mark.parametrize("name", ["lease.json", "publisher.pem"])
def test_a_file_that_is_not_there(chain, name):
    chain.write()
    os.unlink(chain.folder / name)
    chain.write = lambda: None
    done = chain.verify()
    assert done.returncode == BAD_FILE and name in done.stderr, done.stderr


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"lease_token": 7}'])
def test_a_file_that_is_no_lease(chain, content):
    chain.write()
    (chain.folder / "lease.json").write_text(content)
    chain.write = lambda: None
    done = chain.verify()
    assert done.returncode == BAD_FILE and "lease.json" in done.stderr, done.stderr
