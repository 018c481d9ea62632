"""What can go wrong between two nodes, in user space: no rights, no kernel modules.

Wire     carries bytes, and can count, delay, cut, reset or stall them, also in one direction alone
Meddler  ends TLS with a certificate of the tests' CA, and so can show a node another answer than
         its peer gave: cut short, changed, of an earlier time. It can do anything that somebody
         could who holds a valid certificate, but not the instance key."""

import http.client
import http.server
import socket
import socketserver
import ssl
import struct
import threading

CHUNK_BYTES = 65536
FORTH, BACK = "forth", "back"  # from who connects to who listens; and back


class Wire:
    """A TCP port in front of another one. `forth` and `back` count what was carried."""

    def __init__(self, target_port):
        self.target_port = target_port
        self.bytes = {FORTH: 0, BACK: 0}
        self.delay_seconds = 0.0
        self.cut_after = None  # bytes that each new connection carries back before it is cut
        self.refusing = False
        self._stalled = {FORTH: False, BACK: False}
        self._change = threading.Condition()
        self._open = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    # ---- faults ----

    def stall(self, *directions):
        """Nothing is lost and nothing arrives: as when packets of a direction are dropped."""
        with self._change:
            for direction in directions or (FORTH, BACK):
                self._stalled[direction] = True

    def flow(self):
        with self._change:
            self._stalled = {FORTH: False, BACK: False}
            self.refusing = False
            self._change.notify_all()

    def refuse(self):
        """Cuts what is open, and every new connection at once."""
        self.refusing = True
        self.reset()

    def reset(self):
        """Every open connection ends with RST."""
        with self._change:
            open_now, self._open = self._open, []
        for one in open_now:
            abort(one)

    @property
    def carried(self):
        return self.bytes[FORTH] + self.bytes[BACK]

    def close(self):
        self._closed = True
        self._listener.close()
        self.flow()
        self.reset()

    # ---- carrying ----

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                abort(near)
                continue
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near):
        try:
            far = socket.create_connection(("127.0.0.1", self.target_port), timeout=5)
        except OSError:
            abort(near)
            return
        far.settimeout(None)
        with self._change:
            self._open += [near, far]
        for source, sink, direction in ((near, far, FORTH), (far, near, BACK)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(
                target=self._pump, args=(source, sink, direction), daemon=True
            ).start()

    def _pump(self, source, sink, direction):
        carried, limit = 0, self.cut_after if direction == BACK else None
        try:
            while True:
                data = source.recv(CHUNK_BYTES)
                self._hold(direction)
                if limit is not None and carried + len(data) > limit:
                    sink.sendall(data[: limit - carried])
                    break
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
                carried += len(data)
                self.bytes[direction] += len(data)
        except OSError:
            pass
        abort(source)
        abort(sink)

    def _hold(self, direction):
        if self.delay_seconds:
            threading.Event().wait(self.delay_seconds)
        with self._change:
            while self._stalled[direction] and not self._closed:
                self._change.wait()


def abort(connection):
    """Ends it with RST instead of FIN."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    connection.close()


class Answer:
    """Of the node behind a Meddler: to be passed on as it is, or changed first."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def copy(self):
        return Answer(self.status, list(self.headers), self.body)

    def header(self, name):
        return next((v for k, v in self.headers if k.lower() == name.lower()), None)


class Meddler:
    """Between two nodes, as one of them. `meddle(method, target, answer)` may return another
    answer; it sees every exchange."""

    HOP = ("connection", "keep-alive", "transfer-encoding", "content-length", "host")

    def __init__(self, authority, target_port):
        self.target_port = target_port
        self.meddle = lambda method, target, answer: answer
        self.seen = []  # (method, target, Answer), as the node gave them
        certificate, key, _ = authority.issue(f"meddler-{target_port}")
        self._client_tls = ssl.create_default_context(cafile=authority.ca_file)
        self._client_tls.load_cert_chain(certificate, key)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        self._server = Server(("127.0.0.1", 0), self._handler(), tls)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _handler(meddler):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def carry(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                try:
                    answer = meddler.forward(self.command, self.path, self.headers.items(), body)
                    self.show(answer)
                except (OSError, http.client.HTTPException):
                    self.close_connection = True

            def show(self, answer):
                self.send_response_only(answer.status)
                length = str(len(answer.body))
                for name, value in answer.headers:
                    if name.lower() not in Meddler.HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", answer.header("x-claimed-length") or length)
                self.end_headers()
                self.wfile.write(answer.body)
                if answer.header("x-claimed-length"):
                    self.close_connection = True

            do_GET = do_POST = carry

            def log_message(self, *_):
                pass

        return Handler

    def forward(self, method, target, headers, body):
        connection = http.client.HTTPSConnection(
            "localhost", self.target_port, timeout=60, context=self._client_tls
        )
        try:
            kept = {k: v for k, v in headers if k.lower() not in self.HOP}
            connection.request(method, target, body=body or None, headers=kept)
            told = connection.getresponse()
            answer = Answer(told.status, told.getheaders(), told.read())
        finally:
            connection.close()
        self.seen.append((method, target, answer.copy()))
        return self.meddle(method, target, answer.copy())

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """TLS is spoken in each connection's own thread."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address, handler, tls):
        self.tls = tls
        super().__init__(address, handler)

    def finish_request(self, request, client_address):
        try:
            secured = self.tls.wrap_socket(request, server_side=True)
        except OSError:
            return
        super().finish_request(secured, client_address)

    def handle_error(self, request, client_address):
        pass  # a node that goes away is what the tests are about
