"""HTTP/1.1 by hand, over TLS: sends exactly the bytes it is given, and reads one answer."""

import socket
import ssl

ANSWER_SECONDS = 60


class Closed(Exception):
    """The node closed the connection instead of answering."""


class Answer:
    def __init__(self, status, headers, body, closing):
        self.status, self.headers, self.body, self.closing = status, headers, body, closing

    def header(self, name):
        """The only value of a header; None if it is absent, an error if it stands twice."""
        values = [value for known, value in self.headers if known == name]
        assert len(values) <= 1, f"{name} stands {len(values)} times in the answer"
        return values[0] if values else None

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:600]!r}"


class Connection:
    """One keep-alive line to a node. exchange() opens it if need be."""

    def __init__(self, port, ca_file):
        self.port = port
        self.context = ssl.create_default_context(cafile=ca_file)
        self.line, self.buffer = None, b""

    def open(self):
        if self.line is None:
            plain = socket.create_connection(("127.0.0.1", self.port), ANSWER_SECONDS)
            self.line = self.context.wrap_socket(plain, server_hostname="localhost")
            self.buffer = b""

    def close(self):
        if self.line is not None:
            self.line.close()
            self.line = None

    def exchange(self, data, bodiless=False, seconds=ANSWER_SECONDS):
        """Closed: no whole answer came. TimeoutError: none came in time."""
        self.open()
        self.line.settimeout(seconds)
        try:
            self.line.sendall(data)
        except (BrokenPipeError, ConnectionError, ssl.SSLError):
            pass  # it may have answered, and then closed, before it had read everything
        try:
            answer = self.read_answer(bodiless)
        except (Closed, TimeoutError):
            self.close()
            raise
        if answer.closing:
            self.close()
        return answer

    # ---- reading ----

    def more(self):
        try:
            data = self.line.recv(65536)
        except TimeoutError:
            raise
        except (ConnectionError, ssl.SSLError) as problem:
            raise Closed(str(problem)) from problem
        if not data:
            raise Closed("end of file")
        self.buffer += data

    def read_head(self):
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        version, status, _ = first.split(b" ", 2)
        assert version == b"HTTP/1.1" and len(status) == 3, first
        pairs = [line.decode("latin-1").partition(":")[::2] for line in lines]
        return int(status), [(name.lower(), value.strip()) for name, value in pairs]

    def read_answer(self, bodiless):
        status, headers = self.read_head()
        while status < 200:
            status, headers = self.read_head()
        answer = Answer(status, headers, b"", False)
        answer.closing = answer.header("connection") == "close"
        length = answer.header("content-length")
        if bodiless or status in (204, 304):
            return answer
        if length is None:
            return self.read_to_the_end(answer)
        while len(self.buffer) < int(length):
            self.more()
        answer.body, self.buffer = self.buffer[: int(length)], self.buffer[int(length) :]
        return answer

    def read_to_the_end(self, answer):
        answer.closing = True
        try:
            while True:
                self.more()
        except Closed:
            answer.body, self.buffer = self.buffer, b""
        return answer
