"""Ways to make a right request wrong. All take the random generator first, so that a seed tells the
whole run; none keeps state."""

import base64
import copy
import json
import re
import uuid

WORDS = [
    b"",
    b"0",
    b"-1",
    b"1",
    b"true",
    b"null",
    b"%",
    b"%2e",
    b"%2e%2e",
    b"..",
    b".",
    b"%2f",
    b"%00",
    b"%ff",
    b"%c0%af",
    b"\xff\xfe",
    b"\xc2\x9b31m",
    b"*",
    b"//",
    b"a" * 300,
    b"'; DROP TABLE lease; --",
    b"{{7*7}}",
    b"<script>alert(1)</script>",
    b"%0d%0aSet-Cookie: a=b",
    b"${jndi:x}",
    b"9223372036854775807",
    b"18446744073709551616",
    b"limit=1",
    b"after=x",
    b"?",
    b"&&==&",
]

NUMBERS = [
    0,
    -1,
    1,
    2,
    64,
    65,
    1000,
    10**7,
    10**7 + 1,
    7776000,
    7776001,
    2**31 - 1,
    2**31,
    2**32,
    2**53,
    2**62,
    2**63 - 1,
    2**63,
    -(2**63),
    2**64,
    10**30,
    0.5,
    1e300,
    -0.0,
]

TEXTS = [
    "",
    " ",
    "render",
    "RENDER",
    "x" * 64,
    "x" * 65,
    "x" * 20000,
    "\x00",
    "\u0000render",
    "\x1b[2J",
    "\u009b31m",
    "\u202e",
    "\ud83d\ude00",
    "'\"\\/<>&",
    "%s%n%x",
    "../../etc/passwd",
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "NaN",
    "\n",
    "\u2028",
]

METHODS = [
    b"GET",
    b"POST",
    b"PUT",
    b"DELETE",
    b"HEAD",
    b"OPTIONS",
    b"PATCH",
    b"TRACE",
    b"CONNECT",
    b"get",
    b"G",
    b"PRI",
    b"X" * 40,
]

HEADERS = [
    (b"Content-Type", b"application/json; charset=utf-16"),
    (b"Content-Type", b"text/plain"),
    (b"Content-Type", b"application/jose"),
    (b"Content-Type", b"\xff"),
    (b"Accept", b"*/*"),
    (b"Accept-Encoding", b"gzip, br"),
    (b"Origin", b"https://localhost"),
    (b"Origin", b"https://evil.example"),
    (b"Origin", b"null"),
    (b"Sec-Fetch-Site", b"cross-site"),
    (b"Sec-Fetch-Site", b"same-origin"),
    (b"Access-Control-Request-Method", b"POST"),
    (b"X-Request-Id", b"seen-before_1.2"),
    (b"X-Request-Id", b"a\tb"),
    (b"X-Request-Id", b"z" * 65),
    (b"Cookie", b"__Host-twinlease=; __Host-twinlease=x.y.z"),
    (b"Cookie", b"a=b; " * 200),
    (b"Authorization", b"Basic YTpi"),
    (b"Authorization", b"Bearer"),
    (b"Authorization", b"Bearer  \t "),
    (b"Forwarded", b"for=127.0.0.1;proto=https"),
    (b"X-Forwarded-For", b"127.0.0.1"),
    (b"X-HTTP-Method-Override", b"DELETE"),
    (b"X-Original-URL", b"/-/origins"),
    (b"Upgrade", b"h2c"),
    (b"Connection", b"keep-alive"),
    (b"Range", b"bytes=0-1"),
    (b"If-None-Match", b"*"),
    (b"X-Long", b"y" * 9000),
    (b"X-Bytes", bytes(range(0x80, 0x100))),
]


# ---- texts and tokens --------------------------------------------------------------------------


def edit_bytes(rng, data):
    """One small change anywhere."""
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice((1, 1, 2, 8, 40)))
    kind = rng.randrange(5)
    if kind == 0:
        return data[:at] + bytes([rng.randrange(256)]) + data[end:]
    if kind == 1:
        return data[:at] + data[end:]
    if kind == 2:
        return data[:at] + data[at:end] * 2 + data[end:]
    if kind == 3:
        return data[:at] + rng.choice(WORDS) + data[at:]
    return data[:at]


def recode(part, change):
    """Changes the JSON inside one part of a JWS."""
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        text = json.dumps(change(value), separators=(",", ":"))
    except (ValueError, RecursionError):
        return part
    return base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).rstrip(b"=").decode()


def edit_token(rng, token, others):
    """A token made wrong: never one that was issued, except a whole one of another kind."""
    kind = rng.randrange(9)
    parts = token.split(".")
    if kind == 0 and others:
        return rng.choice(others)
    if kind == 1 and others and len(parts) == 3:
        mixed = rng.choice(others).split(".")
        if len(mixed) == 3:
            at = rng.randrange(3)
            return ".".join(mixed[i] if i == at else parts[i] for i in range(3))
    if kind == 2 and len(parts) == 3:
        alg = rng.choice(["none", "None", "", "HS256", "ES256", "RS256", "EdDSA", 7, None])
        return ".".join([recode(parts[0], lambda h: {**h, "alg": alg}), *parts[1:]])
    if kind == 3 and len(parts) == 3:
        extra = rng.choice(["crit", "b64", "jku", "jwk", "x5u", "kid", "typ", "zip", "cty"])
        value = rng.choice([["exp"], False, "https://evil.example", {}, "../../key", "x" * 400])
        return ".".join([recode(parts[0], lambda h: {**h, extra: value}), *parts[1:]])
    if kind == 4 and len(parts) == 3:
        return ".".join([parts[0], recode(parts[1], lambda p: edit_json(rng, p)), parts[2]])
    if kind == 5:
        return ".".join(parts[:2]) + rng.choice(["", ".", ".AAAA", "." + "A" * 86, ".AA=="])
    if kind == 6:
        return rng.choice(["", ".", "..", "a.b.c", "A" * 70000, token * 2, token + "=", "é"])
    if kind == 7:  # the unused bits of the last digit
        return token[:-1] + rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_")
    data = edit_bytes(rng, token.encode("latin-1", "replace"))
    return re.sub(rb"[\r\n\x00]", b"", data).decode("latin-1")


# ---- JSON --------------------------------------------------------------------------------------


def any_value(rng, depth=0):
    kind = rng.randrange(9)
    if kind < 3:
        return rng.choice(NUMBERS)
    if kind < 6:
        return rng.choice(TEXTS)
    if kind == 6:
        return rng.choice([None, True, False])
    if kind == 7:
        return str(uuid.UUID(int=rng.getrandbits(128)))
    if depth > 2:
        return []
    inner = [any_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return inner if rng.randrange(2) else {rng.choice(TEXTS): value for value in inner}


def places(value, found=None, depth=0):
    """(container, key) of everything inside."""
    found = [] if found is None else found
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        found.append((value, key))
        if isinstance(value[key], (dict, list)) and depth < 12:
            places(value[key], found, depth + 1)
    return found


def edit_json(rng, value):
    """A copy with one thing changed."""
    value = copy.deepcopy(value)
    found = places(value) if isinstance(value, (dict, list)) else []
    if not found:
        return any_value(rng)
    container, key = rng.choice(found)
    kind = rng.randrange(8)
    if kind < 3:
        container[key] = any_value(rng)
    elif kind == 3:
        del container[key]
    elif kind == 4 and isinstance(container, dict):
        container[rng.choice(TEXTS)] = container.pop(key)
    elif kind == 5 and isinstance(container, dict):
        container[rng.choice(TEXTS + ["lease_token", "scope_ref", "revision"])] = any_value(rng)
    elif kind == 5:
        container.extend(
            [container[key]] * rng.choice((1, 2, 64, 300) if len(container) < 9 else (1,))
        )
    elif kind == 6:
        for _ in range(rng.choice((1, 3, 20))):
            container[key] = [container[key]] if rng.randrange(2) else {"a": container[key]}
    else:
        other, place = rng.choice(found)
        container[key] = copy.deepcopy(other[place])
    return value


def json_bytes(rng, value):
    """Written out, sometimes in a way that a strict reader refuses or that no one expects."""
    try:
        text = json.dumps(value, ensure_ascii=bool(rng.randrange(2)))
    except (ValueError, RecursionError):
        text = "[" * 300
    kind = rng.randrange(12)
    if kind == 0:
        text = text.replace("{", '{"a":1,"a":2,', 1)
    elif kind == 1:
        text = text.replace(":", ":NaN" if rng.randrange(2) else ":1e999", 1)
    elif kind == 2:
        text = " \n\t" * 50 + text + "\r\n"
    elif kind == 3:
        text = text + rng.choice(["{}", ",", "\x00", "//", " x"])
    data = text.encode("utf-8", "surrogatepass")
    return edit_bytes(rng, data) if kind == 4 else data


# ---- requests ----------------------------------------------------------------------------------


def edit_target(rng, target):
    path, mark, query = target.partition(b"?")
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice(WORDS) + target
    if kind == 1:
        return target + rng.choice([b"/", b"//", b"?", b"#x", b"/..", b"%00", b";a=b", b"%2f"])
    if kind == 2:
        return path + b"?" + b"&".join(rng.choice(WORDS) for _ in range(rng.randrange(4)))
    if kind == 3:
        parts = path.split(b"/")
        parts[rng.randrange(len(parts))] = rng.choice(WORDS)
        return b"/".join(parts) + mark + query
    if kind == 4:
        return rng.choice([b"https://localhost", b"http://evil.example:1", b"HTTPS://a@b"]) + target
    if kind == 5 and path:  # the same address, spelt otherwise
        at = rng.randrange(len(path))
        return path[:at] + b"%%%02x" % path[at] + path[at + 1 :] + mark + query
    if kind == 6:
        return b"/" + b"x" * rng.choice((900, 1100, 8000)) + target
    return edit_bytes(rng, target)


def edit_headers(rng, headers):
    headers = list(headers)
    kind = rng.randrange(6)
    if kind == 0 and headers:
        del headers[rng.randrange(len(headers))]
    elif kind == 1 and headers:
        headers.append(rng.choice(headers))
    elif kind == 2 and headers:
        at = rng.randrange(len(headers))
        name, value = headers[at]
        headers[at] = (rng.choice([name.upper(), name.swapcase()]), b"\t " + value + b" ")
    elif kind == 3:
        headers += [(b"X-%d" % n, b"v") for n in range(rng.choice((10, 85, 120)))]
    else:
        headers.insert(rng.randrange(len(headers) + 1), rng.choice(HEADERS))
    rng.shuffle(headers)
    return headers


FRAMING = [
    b"Content-Length: 5\r\n",
    b"Content-Length: 5, 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length : 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Expect: magic\r\n",
    b"X: folded\r\n onto two lines\r\n",
    b"Host: a\r\nHost: b\r\n",
    b"no colon\r\n",
    b": no name\r\n",
    b"X: nul\x00\r\n",
    b"X: cr\rlf\r\n",
    b"\r\n",
]


def edit_wire(rng, data):
    """The bytes as they go out: what is no HTTP any more."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, _, rest = head.partition(b"\r\n")
    kind = rng.randrange(6)
    if kind == 0:
        return first + b"\r\n" + rng.choice(FRAMING) + rest + b"\r\n\r\n" + body
    if kind == 1:
        versions = [
            b"HTTP/1.0",
            b"HTTP/0.9",
            b"HTTP/2.0",
            b"HTTP/1.1 ",
            b"",
            b"HTTP/1." + b"1" * 99,
        ]
        return data.replace(b"HTTP/1.1", rng.choice(versions), 1)
    if kind == 2:
        chunks = [
            b"%x\r\n" % len(body),
            b"0\r\n",
            b"fffffffffffffff\r\n",
            b"zz\r\n",
            b"1;" + b"e" * 99,
        ]
        framed = rng.choice(chunks) + body + rng.choice([b"\r\n0\r\n\r\n", b"0\r\n", b"\r\n", b""])
        head = re.sub(rb"\r\nContent-Length: \d+", b"", head)
        return head + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + framed
    if kind == 3:
        return rng.choice([b"\r\n", b"\n", b"\r\n\r\n", b" ", b"\x16\x03\x01\x02"]) + data
    if kind == 4:
        return data.replace(b"\r\n", rng.choice([b"\n", b"\r", b"\r\n ", b"\r\r\n"]), 1)
    return edit_bytes(rng, data)
