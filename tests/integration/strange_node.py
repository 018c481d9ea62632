"""What may stand where a node should: servers that accept and are silent, or speak nonsense, and
client tokens that name them, signed by an instance that exists nowhere else."""

import socket
import ssl
import threading
import time
import uuid

import jose

DRIP_SECONDS = 0.1


class StrangeNode:
    """A port at which `speak(connection)` is called for each connection, in a thread of its own.
    Without `tls`, it gets the bare socket."""

    def __init__(self, speak, tls=None, host="localhost"):
        self.speak, self.tls = speak, tls
        self.connections = 0
        self.closed = threading.Event()
        self._listener = socket.create_server((host, 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self.url = f"https://{host}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            self.speak(self, connection)
        except OSError:
            pass  # the client has gone, as it should
        finally:
            connection.close()

    def wait(self):
        """For who is silent: until the test is over."""
        self.closed.wait()

    def drip(self, connection, data):
        for byte in data:
            connection.sendall(bytes([byte]))
            if self.closed.wait(DRIP_SECONDS):
                return

    def close(self):
        self.closed.set()
        self._listener.close()


def server_tls(authority, name="strange"):
    certificate, key, _ = authority.issue(name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


# ---- ways to speak ------------------------------------------------------------------------------


def silent(node, _):
    node.wait()


def hang_up(_, connection):
    connection.close()


def noise(node, connection):
    """Bytes that are no HTTP."""
    connection.recv(65536)
    connection.sendall(bytes(byte for byte in range(256) if byte != 10) * 16)
    node.wait()


def answer(body, content_type="application/json", status="200 OK", *headers):
    """A complete answer to whatever is asked."""
    data = body if isinstance(body, bytes) else body.encode()
    head = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(data)}",
        "Connection: close",
        *headers,
    ]

    def speak(_, connection):
        connection.recv(65536)
        connection.sendall("\r\n".join([*head, "", ""]).encode() + data)

    return speak


def endless(head, more):
    """`more` again and again, until the client has had enough."""

    def speak(node, connection):
        connection.recv(65536)
        connection.sendall(head)
        while not node.closed.is_set():
            connection.sendall(more)

    return speak


def dripping(data):
    """One byte at a time: never silent, and never done."""

    def speak(node, connection):
        connection.recv(65536)
        node.drip(connection, data)

    return speak


# ---- an instance that is no node's --------------------------------------------------------------


class LooseInstance:
    """Signs client tokens that name whatever nodes a test likes."""

    def __init__(self, authority):
        self.key = jose.make_key("ec")
        self.ref = str(uuid.uuid4())
        with open(authority.ca_file, encoding="ascii") as file:
            self.ca = file.read()

    def claims(self, *urls, **changes):
        members = jose.jwk(self.key.public_key())
        jwk = {**members, "kid": jose.thumbprint(members), "alg": "ES256", "use": "sig"}
        now = int(time.time())
        return {
            "iss": self.ref,
            "jti": str(uuid.uuid4()),
            "iat": now,
            "nbf": now - 60,
            "exp": now + 86400,
            "node_url_list": list(urls),
            "scope_ref_list": [],
            "jwks": {"keys": [jwk]},
            "ca_certificate": self.ca,
            **changes,
        }

    def token(self, *urls, **changes):
        return jose.sign(self.key, "client+jwt", self.claims(*urls, **changes))
