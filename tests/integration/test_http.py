"""The HTTP side itself: versions, TLS, headers, CORS, sessions."""

import re
import socket
import ssl
import subprocess
import threading
import uuid

import pytest

from node import expect, expect_problem
from origin import Origin
from publisher import feature
from test_bad_input import raw_exchange, raw_request

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


class TestNoHttp2:
    """libh2o 2.2's HTTP/2 is vulnerable; nothing may reach it."""

    @pytest.mark.parametrize("alpn", [["h2"], ["h2", "http/1.1"], ["h2-14", "h2-16", "http/1.1"]])
    def test_alpn(self, shared_node, alpn):
        context = ssl.create_default_context(cafile=shared_node.ca_file)
        context.set_alpn_protocols(alpn)
        with socket.create_connection(("127.0.0.1", shared_node.port), 20) as plain:
            try:
                with context.wrap_socket(plain, server_hostname="localhost") as connection:
                    assert connection.selected_alpn_protocol() in (None, "http/1.1")
            except ssl.SSLError:
                assert "http/1.1" not in alpn

    @pytest.mark.parametrize("alpn", [None, ["http/1.1"], ["h2"]])
    def test_preface(self, shared_node, alpn):
        try:
            data = raw_exchange(shared_node, PREFACE, timeout=3, alpn=alpn)
        except ssl.SSLError:
            return  # refused already by the handshake
        assert data == b"" or data.startswith(b"HTTP/1.1 4"), data[:100]

    def test_upgrade(self, shared_node):
        request = (
            "GET /-/health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
        )
        data = raw_exchange(shared_node, request.encode(), timeout=3)
        assert data.startswith(b"HTTP/1.1 200"), data[:100]
        assert b"101" not in data.split(b"\r\n")[0]

    def test_curl_http2(self, shared_node):
        done = subprocess.run(
            [
                "curl",
                "--noproxy",
                "*",
                "--http2",
                "-sS",
                "--cacert",
                shared_node.ca_file,
                "-o",
                "/dev/null",
                "-w",
                "%{http_version}",
                f"{shared_node.url}/-/health",
            ],
            text=True,
            capture_output=True,
            timeout=30,
            check=True,
        )
        assert done.stdout == "1.1"


class TestTls:
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_versions_taken(self, shared_node, version):
        context = ssl.create_default_context(cafile=shared_node.ca_file)
        context.minimum_version = context.maximum_version = version
        with socket.create_connection(("127.0.0.1", shared_node.port), 20) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as connection:
                assert (
                    connection.version()
                    == {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[
                        version
                    ]
                )

    @pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
    def test_versions_refused(self, shared_node, version):
        done = subprocess.run(
            [
                "openssl",
                "s_client",
                version,
                "-cipher",
                "ALL@SECLEVEL=0",
                "-connect",
                f"127.0.0.1:{shared_node.port}",
            ],
            stdin=subprocess.DEVNULL,
            text=True,
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert "Cipher is (NONE)" in done.stdout, done.stdout

    def test_plain_text(self, shared_node):
        with socket.create_connection(("127.0.0.1", shared_node.port), 20) as plain:
            plain.sendall(b"GET /-/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            plain.settimeout(20)
            try:
                data = plain.recv(1000)
            except ConnectionResetError:
                data = b""
        assert not data.startswith(b"HTTP/1.1 2"), data


class TestHeaders:
    def test_request_id_is_given(self, shared_node):
        ids = {shared_node.get("/-/health", token=None).headers["X-Request-Id"] for _ in range(20)}
        assert len(ids) == 20

    def test_request_id_of_the_caller_is_kept_only_if_harmless(self, shared_node):
        answer = shared_node.get("/-/health", token=None, headers={"X-Request-Id": "build-7_a.b"})
        assert answer.headers["X-Request-Id"] == "build-7_a.b"
        for hostile in ("x" * 500, 'a"b', "a b", "a/b", "", "ü"):
            answer = shared_node.get("/-/health", token=None, headers={"X-Request-Id": hostile})
            given = answer.headers["X-Request-Id"]
            assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", given), given
            assert given != hostile

    def test_every_answer_has_an_id(self, shared_node):
        for path in (
            "/",
            "/-/readme",
            "/-/ready",
            "/nothing",
            "/v1/leases",
            "/.well-known/jwks.json",
        ):
            assert shared_node.get(path, token=None).headers["X-Request-Id"], path

    def test_nothing_is_cached_or_sniffed(self, shared_node):
        for path in ("/-/leases", "/-/client-token", "/-/config", "/-/manage"):
            answer = shared_node.get(path)
            assert "no-store" in answer.headers["Cache-Control"], path
            assert answer.headers["X-Content-Type-Options"] == "nosniff", path

    def test_the_server_does_not_say_what_it_is_made_of(self, shared_node):
        answer = shared_node.get("/-/health", token=None)
        assert "h2o" not in str(answer.headers).lower()

    def test_head(self, shared_node):
        for path in ("/-/health", "/-/ready", "/.well-known/jwks.json", "/-/readme"):
            answer = shared_node.call("HEAD", path, token=None)
            assert answer.status_code == 200, path
            assert answer.content == b""

    def test_keep_alive_and_pipelining(self, shared_node):
        one = "GET /-/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        last = "GET /-/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        data = raw_exchange(shared_node, (one * 9 + last).encode())
        assert data.count(b"HTTP/1.1 200") == 10

    def test_http_1_0(self, shared_node):
        status, _, _ = raw_request(shared_node, "GET /-/health HTTP/1.0\r\n\r\n")
        assert status == 200


class TestCors:
    def origin_of(self, node):
        return f"https://{node.settings['DLS_URL']}"

    def test_preflight_of_an_allowed_page(self, shared_node):
        answer = shared_node.call(
            "OPTIONS",
            "/v1/leases",
            token=None,
            headers={
                "Origin": self.origin_of(shared_node),
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization, content-type",
            },
        )
        assert answer.status_code in (200, 204), answer.text
        assert answer.headers["Access-Control-Allow-Origin"] == self.origin_of(shared_node)
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert "authorization" in answer.headers["Access-Control-Allow-Headers"].lower()
        assert "Origin" in answer.headers["Vary"]

    def test_answer_to_an_allowed_page(self, shared_node):
        answer = shared_node.get(
            "/.well-known/jwks.json", token=None, headers={"Origin": self.origin_of(shared_node)}
        )
        assert answer.headers["Access-Control-Allow-Origin"] == self.origin_of(shared_node)

    @pytest.mark.parametrize(
        "page",
        [
            "https://evil.example",
            "null",
            "https://localhost.evil.example",
            "http://localhost",
            "https://localhost:1",
        ],
    )
    def test_other_pages(self, shared_node, page):
        for method in ("OPTIONS", "GET"):
            answer = shared_node.call(
                method,
                "/v1/leases",
                headers={"Origin": page, "Access-Control-Request-Method": "GET"},
            )
            assert "Access-Control-Allow-Origin" not in answer.headers

    def test_operator_api_has_no_cors(self, shared_node):
        answer = shared_node.get("/-/leases", headers={"Origin": self.origin_of(shared_node)})
        assert "Access-Control-Allow-Origin" not in answer.headers

    def test_configured_pages(self, nodes, publisher):
        node = nodes.make(CORS_ORIGINS="https://a.example,https://b.example:8443")
        node.start()
        for page in ("https://a.example", "https://b.example:8443"):
            answer = node.get("/.well-known/jwks.json", token=None, headers={"Origin": page})
            assert answer.headers["Access-Control-Allow-Origin"] == page
        answer = node.get(
            "/.well-known/jwks.json", token=None, headers={"Origin": "https://localhost"}
        )
        assert "Access-Control-Allow-Origin" not in answer.headers


class TestSessions:
    """The management page signs in with a token and then uses a cookie."""

    @pytest.fixture
    def signed_in(self, shared_node):
        session = shared_node.new_session()
        answer = shared_node.post(
            "/-/session", token=None, session=session, json={"token": shared_node.admin_token()}
        )
        assert answer.status_code in (200, 201, 204), answer.text
        cookie = answer.headers["Set-Cookie"]
        for attribute in ("Secure", "HttpOnly", "SameSite=Strict", "Path=/"):
            assert attribute.lower() in cookie.lower(), cookie
        assert shared_node.admin_token() not in cookie
        return session

    def test_cookie_opens_the_operator_api(self, shared_node, signed_in):
        assert shared_node.get("/-/leases", token=None, session=signed_in).status_code == 200
        assert shared_node.get("/-/config", token=None, session=signed_in).status_code == 200

    def test_cookie_opens_no_client_api(self, shared_node, signed_in):
        assert shared_node.get("/v1/leases", token=None, session=signed_in).status_code == 401

    def test_cookie_changes_state_only_from_our_own_page(self, shared_node, signed_in):
        origin = Origin.ready(shared_node)
        lease = origin.acquire()
        path = f"/-/lease/{lease['lease_ref']}"
        for headers in (
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
        ):
            answer = shared_node.delete(path, token=None, session=signed_in, headers=headers)
            expect_problem(answer, 403, "cross_site")
        assert len(origin.leases()) == 1
        answer = shared_node.delete(
            path,
            token=None,
            session=signed_in,
            headers={"Sec-Fetch-Site": "same-origin", "Origin": shared_node.url},
        )
        assert answer.status_code == 204, answer.text
        assert origin.leases() == []

    def test_signing_out(self, shared_node, signed_in):
        answer = shared_node.delete(
            "/-/session",
            token=None,
            session=signed_in,
            headers={"Sec-Fetch-Site": "same-origin", "Origin": shared_node.url},
        )
        assert answer.status_code in (200, 204), answer.text
        assert not list(signed_in.cookies)
        assert shared_node.get("/-/leases", token=None, session=signed_in).status_code == 401

    def test_altered_cookie(self, shared_node, signed_in):
        (cookie,) = list(signed_in.cookies)
        for value in (cookie.value[:-4] + "AAAA", "", "x", cookie.value.split(".")[0]):
            answer = shared_node.get(
                "/-/leases", token=None, headers={"Cookie": f"{cookie.name}={value}"}
            )
            assert answer.status_code == 401, value

    @pytest.mark.parametrize("token", ["", "x" * 43, None, 7])
    def test_wrong_token(self, shared_node, token):
        answer = shared_node.post("/-/session", token=None, json={"token": token})
        assert answer.status_code in (400, 401, 403), answer.text
        assert "Set-Cookie" not in answer.headers

    def test_page_allows_no_foreign_content(self, shared_node):
        answer = shared_node.get("/-/manage", token=None)
        assert answer.status_code == 200
        policy = answer.headers["Content-Security-Policy"]
        assert (
            "default-src" in policy
            and "unsafe-inline" not in policy
            and "frame-ancestors" in policy
        )
        assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>\s*\S", answer.text), "an inline script"
        for link in re.findall(r'(?:src|href)="([^"]+)"', answer.text):
            assert not link.startswith(("http:", "https:", "//")), link


def test_root_leads_to_the_readme(shared_node):
    answer = shared_node.get("/", token=None)
    assert answer.status_code in (302, 303, 307, 308)
    assert answer.headers["Location"].endswith("/-/readme")
    answer = shared_node.get("/-/readme", token=None)
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "Twinlease" in answer.text and "<h1" in answer.text and "<table" in answer.text


def test_a_connection_goes_on_at_once_after_a_large_answer(node, publisher):
    """An answer that is signed in slices must not leave its connection waiting for the next
    event."""
    features = [feature(f"feature-{number}", 1) for number in range(64)]
    expect(node.install(publisher.entitlement(node, features)), 201)
    origin = Origin.ready(node)
    answer = origin.post_leases(*({"feature": one["feature"]} for one in features))
    assert len(expect(answer, 201)["lease_result_list"]) == 64
    for _ in range(3):
        assert origin.call("GET", "/v1/leases", timeout=10).status_code == 200


def test_expect_continue(shared_node, shared_origin):
    """curl sends Expect: 100-continue with larger bodies."""
    body = '{"lease_request_list":[{"feature":"render"}]}'
    request = (
        f"POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {shared_origin.token}\r\nExpect: 100-continue\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    )
    data = raw_exchange(shared_node, request.encode())
    assert b"HTTP/1.1 201" in data, data[:300]


def test_a_client_that_leaves_early_disturbs_nobody(shared_node):
    """Connections cut in every phase; then the node still serves, and no seat was lost."""
    origin = Origin.ready(shared_node)
    body = (
        f'{{"lease_request_list":[{{"feature":"render","candidate_lease_ref":"{uuid.uuid4()}"}}]}}'
    )
    request = (
        f"POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {origin.token}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    context = ssl.create_default_context(cafile=shared_node.ca_file)
    for length in list(range(0, len(request), 97)) + [len(request)]:
        plain = socket.create_connection(("127.0.0.1", shared_node.port), 20)
        connection = context.wrap_socket(plain, server_hostname="localhost")
        connection.sendall(request[:length])
        connection.close()
    expect(shared_node.get("/-/ready", token=None), 200)
    assert len(origin.leases()) <= 1


def test_a_deadline_counts_from_the_request_not_from_the_idle_time_before(nodes, publisher):
    """A kept-alive connection is silent for longer than REQUEST_TIMEOUT, then asks."""
    node = nodes.make(WORKERS="1", REQUEST_TIMEOUT="2")
    publisher.trust(node.publishers_dir)
    node.start()
    expect(node.install(publisher.entitlement(node, {"render": 10})), 201)
    origin = Origin.ready(node)
    for _ in range(3):
        threading.Event().wait(2.5)  # nothing to wait for: the silence itself is the case
        expect(origin.post_leases({"feature": "render"}), 201)
