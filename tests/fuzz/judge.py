"""What every answer of a node must be, written from the design and not from the node's tables: who
may call what, and how a refusal looks. Only the codes of refusals are read from err.tbl."""

import json
import os
import re
from urllib.parse import unquote_to_bytes

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", ".."))
COOKIE = "__Host-twinlease"

# 503s that an undisturbed node may give to a flood of requests: not_ready would be a lie
HONEST_503 = {"overloaded", "deadline", "primary_away"}

PUBLIC, CLIENT_TOKEN, ORIGIN, SECRET, CODE, SIGN_IN, PEER = (
    "public",
    "client token",
    "auth token",
    "origin secret",
    "auth code",
    "sign in",
    "peer token",
)
EVERY_ROLE = {"admin", "viewer", "metrics", "enrol"}
READERS = {"admin", "viewer"}

# method, path, who: a word above, or a set of roles. GET stands for HEAD, too.
RIGHTS = [
    ("POST", "/v1/origins", CLIENT_TOKEN),
    ("POST", "/v1/auth/code", SECRET),
    ("POST", "/v1/auth/token", CODE),
    ("POST", "/v1/leases", ORIGIN),
    ("GET", "/v1/leases", ORIGIN),
    ("DELETE", "/v1/leases", ORIGIN),
    ("PUT", "/v1/leases/*", ORIGIN),
    ("DELETE", "/v1/leases/*", ORIGIN),
    ("GET", "/.well-known/jwks.json", PUBLIC),
    ("GET", "/-/health", PUBLIC),
    ("GET", "/-/ready", PUBLIC),
    ("GET", "/", PUBLIC),
    ("GET", "/-/readme", PUBLIC),
    ("GET", "/-/openapi.json", PUBLIC),
    ("GET", "/-/manage", PUBLIC),
    ("GET", "/-/web/*", PUBLIC),
    ("POST", "/-/session", SIGN_IN),
    ("GET", "/-/session", EVERY_ROLE),
    ("DELETE", "/-/session", PUBLIC),  # signing out changes nothing but the browser's cookie
    ("GET", "/-/config", READERS),
    ("GET", "/-/scopes", READERS),
    ("GET", "/-/origins", READERS),
    ("DELETE", "/-/origins", {"admin"}),
    ("DELETE", "/-/origins/*", {"admin"}),
    ("GET", "/-/leases", READERS),
    ("DELETE", "/-/leases/expired", {"admin"}),
    ("DELETE", "/-/lease/*", {"admin"}),
    ("GET", "/-/client-token", {"admin", "enrol"}),
    ("GET", "/-/instance-token", READERS),
    ("GET", "/-/entitlements", READERS),
    ("POST", "/-/entitlements", {"admin"}),
    ("GET", "/-/peer", READERS),
    ("POST", "/-/peer/retire", {"admin"}),
    ("POST", "/-/peer/drain", {"admin"}),
    ("POST", "/-/peer/resume", {"admin"}),
    ("GET", "/-/ha/hello", PEER),
    ("POST", "/-/ha/hello", PEER),
    ("GET", "/-/ha/changes", PEER),
    ("POST", "/-/ha/credits", PEER),
]


def read_codes():
    """code -> HTTP status, from the one table of errors."""
    with open(os.path.join(ROOT, "node", "base", "err.tbl"), encoding="utf-8") as file:
        rows = re.findall(r'X\(\w+,\s*(\d+),\s*\d,\s*"(\w+)"', file.read())
    assert len(rows) > 40
    return {code: int(status) for status, code in rows}


CODES = read_codes()


# ---- what is asked for ------------------------------------------------------------------------


def path_segments(target):
    path = target.split(b"?")[0]
    if whole := re.match(rb"https?://[^/]*", path, re.IGNORECASE):
        path = path[whole.end() :]
    return [unquote_to_bytes(part) for part in path.split(b"/")[1:]] if path[:1] == b"/" else None


def right_needed(method, target):
    """Who may do this; None: nobody, there is no such call."""
    found = path_segments(target)
    method = "GET" if method == "HEAD" else method
    for known, pattern, who in RIGHTS:
        wanted = pattern.encode().split(b"/")[1:]
        if (
            known == method
            and found is not None
            and len(found) == len(wanted)
            and all(w == f or w == b"*" for w, f in zip(wanted, found))
        ):
            return who
    return None


def bearer(request):
    """The token, if there is one Authorization header and it has one."""
    values = request.values("authorization")
    if len(values) != 1:
        return None
    scheme, _, token = values[0].strip(b" \t").partition(b" ")
    return token.strip(b" \t").decode("latin-1") if scheme.lower() == b"bearer" else None


def session_role(request, world):
    """The role of a session, if a browser would be believed: same origin for what changes."""
    if request.values("authorization") or not request.values("cookie"):
        return None
    pairs = [pair.strip(b" \t") for pair in request.values("cookie")[0].split(b";")]
    values = [pair.partition(b"=")[2] for pair in pairs if pair.startswith(COOKIE.encode() + b"=")]
    role = world.sessions.get(values[0].decode("latin-1")) if values else None
    if role is None or request.method in ("GET", "HEAD"):
        return role
    site, page = request.values("sec-fetch-site"), request.values("origin")
    if site:
        return role if site[0].lower() == b"same-origin" else None
    host = request.values("host")[-1:]
    return role if page and host and page[0].lower() == b"https://" + host[0].lower() else None


def body_of(request):
    try:
        value = json.loads(request.body or b"")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def is_entitled(request, world):
    """Does the request bring what its call needs? Only credentials that were issued count."""
    who = right_needed(request.method, request.target)
    token, body = bearer(request), body_of(request)
    if who is None or who == PUBLIC:
        return who == PUBLIC
    if who == CLIENT_TOKEN:
        return token in world.client_tokens
    if who == ORIGIN:
        return token in world.auth_tokens
    if who == SECRET:
        secret = body.get("origin_secret")
        return secret and world.secrets.get(str(body.get("origin_ref")).lower()) == secret
    if who == CODE:
        verifier = body.get("code_verifier")
        return verifier and world.codes.get(str(body.get("auth_code"))) == verifier
    if who == PEER:
        return False  # the other node's alone; nothing of it was given out
    if who == SIGN_IN:
        return body.get("token") in world.role_tokens.values()
    roles = {role for role, known in world.role_tokens.items() if known == token}
    return bool(who & (roles | {session_role(request, world)}))


# ---- what comes back --------------------------------------------------------------------------


def unique_members(pairs):
    assert len({name for name, _ in pairs}) == len(pairs), "the answer has a member twice"
    return dict(pairs)


def no_constant(word):
    raise AssertionError(f"the answer has {word}, which is not JSON")


def strict_json(data):
    return json.loads(
        data.decode("utf-8"), object_pairs_hook=unique_members, parse_constant=no_constant
    )


def check_headers(answer):
    given = answer.header("x-request-id")
    assert given and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", given), f"X-Request-Id is {given!r}"
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("server") is None
    assert answer.header("access-control-allow-credentials") is None
    assert answer.header("location") in (None, "/-/readme"), "a redirect to elsewhere"
    for name, value in answer.headers:
        assert re.fullmatch(r"[a-z0-9-]+", name), f"header {name!r}"
        assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value), f"header {name}: {value!r}"


def check_cors(request, answer, world):
    allowed = answer.header("access-control-allow-origin")
    if allowed is not None:
        first = (path_segments(request.target) or [b""])[0]
        assert first in (b"v1", b".well-known"), "CORS beyond the client API"
        assert allowed.lower() in world.cors_origins, f"CORS for {allowed}"


def check_problem(answer):
    assert answer.header("content-type") == "application/problem+json", "not a problem document"
    problem = strict_json(answer.body)
    for name in ("type", "title", "status", "code", "request_id"):
        assert name in problem, f"the problem document has no {name}"
    code = problem["code"]
    assert code in CODES, f"code {code} is not in err.tbl"
    assert problem["status"] == answer.status
    assert problem["request_id"] == answer.header("x-request-id")
    own = {CODES[code], 417} if code == "bad_request" else {CODES[code]}
    assert answer.status in own, f"status {answer.status} for {code}"
    if answer.status >= 500:
        assert answer.status == 503 and code in HONEST_503, "the node failed"
        assert answer.header("retry-after"), "503 without Retry-After"
    return code


def check_answer(request, answer, world):
    """AssertionError says what is wrong. Returns the problem's code, or None."""
    check_headers(answer)
    check_cors(request, answer, world)
    bodiless = request.method == "HEAD" or answer.status in (204, 304)
    if answer.status >= 400:
        return None if bodiless else check_problem(answer)
    if request.method == "OPTIONS":
        assert answer.status == 204
        return None
    assert is_entitled(request, world), "served without what this call needs"
    if not bodiless and "json" in (answer.header("content-type") or ""):
        strict_json(answer.body)
    check_owner(request, answer, world)
    return None


def check_owner(request, answer, world):
    """One machine does nothing with another one's lease."""
    parts = path_segments(request.target)
    if answer.status >= 300 or len(parts) != 3 or parts[:2] != [b"v1", b"leases"]:
        return
    owner = world.lease_owners.get(parts[2].decode("latin-1").lower())
    asking = world.auth_tokens[bearer(request)]
    assert owner in (None, asking), f"a lease of {owner} was served to {asking}"


def check_wire_error(answer):
    """libh2o's own words where the bytes were no HTTP: not a problem document, but nothing else
    either."""
    assert answer.status == 400 and answer.body in (b"", b"Bad Request"), f"no refusal: {answer}"
