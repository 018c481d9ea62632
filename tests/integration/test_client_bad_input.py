"""Done-when "bad input": whatever is wrong with files, nodes, disk and clock, a client ends in
bounded time, with the exit code of that kind of trouble and one sentence that names the culprit and
says what to do. Each case is tried with the tool and with a small program on the shared library."""

import json
import os
import socket
import subprocess
import time

import pytest

import jose
import strange_node
from cluster import ROOT
from conftest import started
from node import TOOL, expect, free_port, sanitizer_environment
from strange_node import LooseInstance, StrangeNode, answer, dripping, endless, server_tls
from test_install import BUILD, STRICT, run, setting
from tls import Authority

OK, NO_NODE, NOT_AUTHORISED, VERIFICATION, BAD_FILE = 0, 4, 5, 7, 8
BAD_ANSWER, UNTRUSTED, STATE = 10, 11, 12

DEADLINE_SECONDS = 3  # told to both; what follows is for a machine that has other work
SLACK_SECONDS = 5
DEFAULT_DEADLINE_SECONDS = 10  # twinlease.h: deadline_ms

# Takes a seat as any program would, and says how that ended.
PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <twinlease.h>

static void warn(void *context, const char *sentence)
{
    fprintf(context, "warning: %s\\n", sentence);
}

int main(int argc, char **argv)
{
    struct twinlease_options options = TWINLEASE_OPTIONS_INIT;
    struct twinlease_lease *lease = NULL;
    struct twinlease *handle = NULL;
    struct twinlease_error error;

    options.deadline_ms = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
    options.flags = TWINLEASE_STATE_REQUIRED;
    options.warning = warn;
    options.warning_context = stderr;
    enum twinlease_code code = twinlease_open(&options, &handle, &error);
    if (code == TWINLEASE_OK)
        code = twinlease_acquire(handle, "render", NULL, &lease, &error);
    if (code != TWINLEASE_OK)
        fprintf(stderr, "twinlease: %s\\n", error.message);
    twinlease_lease_free(lease);
    twinlease_close(handle);
    return (int)code;
}
"""


class Outcome:
    def __init__(self, done, seconds):
        self.code, self.seconds = done.returncode, seconds
        lines = done.stderr.splitlines()
        self.warnings = [line for line in lines if "warning: " in line]
        told = [line for line in lines if line not in self.warnings]
        assert len(told) <= 1, f"more than one sentence: {done.stderr}"
        self.sentence = told[0].removeprefix("twinlease: ") if told else ""


class Client:
    """Takes one seat in a folder of its own: command() is what is started for that."""

    def __init__(self, folder, command):
        self.folder, self.command = folder, command
        self.tok, self.state = folder / "client.tok", folder / "state"

    def acquire(self, tok=None, deadline=DEADLINE_SECONDS, wrapper=(), **environment):
        """deadline None: that which nobody has to name."""
        begun = time.monotonic()
        done = subprocess.run(
            [*wrapper, *self.command(deadline)],
            cwd=self.folder,
            text=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "LD_LIBRARY_PATH": os.path.join(BUILD, "client"),
                "TWINLEASE_TOK": str(tok or self.tok),
                "TWINLEASE_STATE": str(self.state),
                **sanitizer_environment(),
                **environment,
            },
        )
        return Outcome(done, time.monotonic() - begun)

    def fails(self, code, *words, deadline=DEADLINE_SECONDS, **more):
        outcome = self.acquire(deadline=deadline, **more)
        assert outcome.code == code, f"{outcome.code}: {outcome.sentence}"
        assert outcome.seconds < (deadline or DEFAULT_DEADLINE_SECONDS) + SLACK_SECONDS
        for word in words:
            assert str(word) in outcome.sentence, outcome.sentence
        return outcome


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """On the shared library as it was built, installed or not."""
    folder = tmp_path_factory.mktemp("program")
    sanitize = setting("TWINLEASE_SANITIZE")
    (folder / "program.c").write_text(PROGRAM)
    run(
        "gcc", *STRICT, *([f"-fsanitize={sanitize}"] if sanitize else []),
        f"-I{ROOT}/client/include", "program.c", f"-L{BUILD}/client", "-ltwinlease",
        "-o", "program", cwd=folder,
    )  # fmt: skip
    return folder / "program"


@pytest.fixture(params=["tool", "library"])
def client(request, program, tmp_path):
    def tool(deadline):
        return [TOOL, "acquire", "render", *(["--timeout", str(deadline)] if deadline else [])]

    def library(deadline):
        return [program, *([str(deadline * 1000)] if deadline else [])]

    return Client(tmp_path, tool if request.param == "tool" else library)


@pytest.fixture(scope="module")
def instance(authority):
    return LooseInstance(authority)


@pytest.fixture
def strange():
    """strange(speak, tls) makes a strange node of this test."""
    made = []

    def make(*arguments):
        made.append(StrangeNode(*arguments))
        return made[-1]

    yield make
    for node in made:
        node.close()


@pytest.fixture(scope="module")
def tls(authority):
    return server_tls(authority)


# ---- .tok files ---------------------------------------------------------------------------------


def test_no_token_file(client):
    client.fails(BAD_FILE, client.tok, "No such file", "from the operator")


def test_a_token_file_that_may_not_be_read(client, instance):
    """Also root is refused, once it has no right to pass over modes."""
    client.tok.write_text(instance.token("https://localhost:1"))
    client.tok.chmod(0)
    wrapper = ()
    if os.geteuid() == 0:
        wrapper = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    client.fails(BAD_FILE, client.tok, "Permission denied", wrapper=wrapper)


@pytest.mark.parametrize(
    "content, word",
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (b"hello\n", "no signed token"),
        (b"a.b.c\n", "no signed token"),
        (b"\x00\xff" * 50, "not a text file"),
        (b"x" * (1 << 20), "larger than"),
    ],
    ids=["empty", "blank", "prose", "dots", "binary", "huge"],
)
def test_a_file_that_is_no_token(client, content, word):
    client.tok.write_bytes(content)
    client.fails(BAD_FILE, client.tok, word, "from the operator")


def test_a_pipe_in_place_of_the_file(client):
    os.mkfifo(client.tok)
    client.fails(BAD_FILE, client.tok, "not a regular file")


def test_a_token_that_is_over(client, instance):
    client.tok.write_text(instance.token("https://localhost:1", exp=int(time.time()) - 5))
    client.fails(BAD_FILE, client.tok, "ended at", "from the operator", "clock")


def test_an_altered_token(client, instance):
    token = instance.token("https://localhost:1")
    header, payload, signature = (len(part) for part in token.split("."))
    for place in (header + 1 + payload // 2, header + 1 + payload + 1 + signature // 2):
        client.tok.write_text(jose.changed_byte(token, place))
        outcome = client.acquire()
        assert outcome.code in (VERIFICATION, BAD_FILE)
        assert str(client.tok) in outcome.sentence and "operator" in outcome.sentence
    claims = {**jose.payload_of(token), "node_url_list": ["https://elsewhere"]}
    parts = token.split(".")
    client.tok.write_text(".".join([parts[0], jose.encode(json.dumps(claims).encode()), parts[2]]))
    client.fails(VERIFICATION, client.tok, "altered", "operator")


def test_a_token_that_names_no_usable_node(client, instance):
    for urls in ([], ["http://localhost:80"], ["https://localhost:99999"], [7]):
        client.tok.write_text(instance.token(*urls))
        client.fails(BAD_FILE, client.tok, "node_url_list")


def test_another_kind_of_token(client, instance):
    client.tok.write_text(jose.sign(instance.key, "lease+jwt", instance.claims("https://x")))
    client.fails(BAD_FILE, client.tok, "lease+jwt")


def fill_folder(folder, instance):
    """A .tok file of every bad kind."""
    folder.mkdir()
    good = instance.token("https://localhost:1")
    (folder / "altered.tok").write_text(jose.changed_byte(good, len(good) - 20))
    (folder / "empty.tok").write_text("")
    (folder / "prose.tok").write_text("hello\n")
    (folder / "over.tok").write_text(
        instance.token("https://localhost:1", exp=int(time.time()) - 5, iat=int(time.time()) + 60)
    )
    (folder / "folder.tok").mkdir()
    (folder / "dangling.tok").symlink_to("nowhere")
    (folder / "client.tok.bak").write_text(good)
    (folder / ".hidden.tok").write_text(good)


def test_a_folder_with_only_one_good_token(client, instance, shared_node):
    folder = client.folder / "toks"
    fill_folder(folder, instance)
    (folder / "this.tok").write_text(shared_node.client_token())
    outcome = client.acquire(tok=folder)
    assert outcome.code == OK, outcome.sentence


def test_a_folder_without_a_good_token(client, instance):
    folder = client.folder / "toks"
    fill_folder(folder, instance)
    (folder / "over.tok").unlink()
    outcome = client.acquire(tok=folder)
    assert outcome.code in (BAD_FILE, VERIFICATION), outcome.sentence
    assert str(folder) in outcome.sentence and "operator" in outcome.sentence


def test_an_empty_folder(client):
    folder = client.folder / "toks"
    folder.mkdir()
    client.fails(BAD_FILE, folder, "no *.tok file", "operator", tok=folder)


# ---- nodes --------------------------------------------------------------------------------------

JSON_LINE = b'{"a": "' + b"x" * 65536 + b'",'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

# name: (speaks TLS, what it says, exit code, words of the sentence)
SPEAKERS = {
    "silent": (False, strange_node.silent, NO_NODE, ["does not answer in time", "is it running"]),
    "silent after TLS": (True, strange_node.silent, NO_NODE, ["does not answer in time"]),
    "hangs up": (False, strange_node.hang_up, NO_NODE, []),
    "hangs up after TLS": (True, strange_node.hang_up, NO_NODE, ["is it running"]),
    "noise": (True, strange_node.noise, BAD_ANSWER, ["not a Twinlease node", "address"]),
    "no TLS": (False, answer("{}"), BAD_ANSWER, ["not a Twinlease node", "address"]),
    "noise without TLS": (False, strange_node.noise, BAD_ANSWER, ["not a Twinlease node"]),
    "a web page": (
        True, answer("<html>", "text/html"), BAD_ANSWER, ["text/html", "address"],
    ),
    "no page": (
        True, answer("<html>", "text/html", "404 Not Found"), BAD_ANSWER, ["404", "address"],
    ),
    "redirects": (
        True, answer("", "text/html", "302 Found", "Location: https://localhost:1/"), BAD_ANSWER,
        ["302", "address"],
    ),
    "a proxy whose node is away": (
        True, answer("<html>", "text/html", "503 Away"), NO_NODE, ["503"],
    ),
    "no JSON": (True, answer("{'no': JSON}"), BAD_ANSWER, ["not JSON"]),
    "another API": (True, answer('{"hello": "world"}'), BAD_ANSWER, ["origin_ref"]),
    "a list": (True, answer("[]"), BAD_ANSWER, ["no object"]),
    "deep": (True, answer("[" * 100000), BAD_ANSWER, ["not JSON"]),
    "a problem of its own": (
        True, answer('{"title": 7}', "application/problem+json", "400 Bad"), BAD_ANSWER,
        ["cannot be read"],
    ),
    "endless body": (True, endless(HEAD + b"\r\n", JSON_LINE), BAD_ANSWER, ["more than"]),
    "endless headers": (True, endless(HEAD, b"X-More: " + b"x" * 60000 + b"\r\n"), BAD_ANSWER, []),
    "a body that drips": (
        True, dripping(HEAD + b"Content-Length: 9999\r\n\r\n" + b" " * 9999), NO_NODE,
        ["does not answer in time"],
    ),
    "a head that drips": (True, dripping(HEAD * 99), NO_NODE, ["does not answer in time"]),
}  # fmt: skip


@pytest.mark.parametrize("name", SPEAKERS)
def test_a_node_that_is_none(client, instance, strange, tls, name):
    with_tls, speak, code, words = SPEAKERS[name]
    node = strange(speak, tls if with_tls else None)
    client.tok.write_text(instance.token(node.url))
    client.fails(code, node.url, *words)
    assert node.connections > 0


@pytest.mark.parametrize("name", SPEAKERS)
def test_two_nodes_that_are_none(client, instance, strange, tls, name):
    """No node is asked for longer because there is another one."""
    with_tls, speak, code, _ = SPEAKERS[name]
    made = [strange(speak, tls if with_tls else None) for _ in range(2)]
    client.tok.write_text(instance.token(*(node.url for node in made)))
    client.fails(code)
    assert all(node.connections > 0 for node in made)


def test_the_deadline_that_nobody_names(client, instance, strange):
    node = strange(strange_node.silent)
    client.tok.write_text(instance.token(node.url))
    client.fails(NO_NODE, node.url, deadline=None)


def test_both_nodes_are_down(client, instance):
    urls = [f"https://localhost:{free_port()}" for _ in range(2)]
    client.tok.write_text(instance.token(*urls))
    client.fails(NO_NODE, *urls, "is it running")


def test_a_node_whose_name_nobody_knows(client, instance):
    client.tok.write_text(instance.token("https://node.invalid:8443"))
    client.fails(NO_NODE, "https://node.invalid:8443")


def test_a_full_backlog(client, instance):
    """Packets that nobody takes: not even the connection is made."""
    with socket.socket() as full, socket.socket() as filler:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filler.connect(full.getsockname())
        url = f"https://localhost:{full.getsockname()[1]}"
        client.tok.write_text(instance.token(url))
        client.fails(NO_NODE, url, "does not answer in time")


# ---- trust --------------------------------------------------------------------------------------


def test_another_authority(client, strange, tls, tmp_path_factory):
    """The client token has the certificate of an authority that did not issue the node's."""
    node = strange(answer("{}"), tls)
    other = LooseInstance(Authority(str(tmp_path_factory.mktemp("other"))))
    client.tok.write_text(other.token(node.url))
    client.fails(UNTRUSTED, node.url, "certificate", "operator")


def test_another_host(client, instance, strange, tls):
    """A good certificate, but of another name than the one that was asked for."""
    node = strange(answer("{}"), tls, "127.0.0.2")
    client.tok.write_text(instance.token(node.url))
    client.fails(UNTRUSTED, node.url, "certificate", "address")


def test_a_ca_certificate_that_is_none(client, instance):
    client.tok.write_text(instance.token("https://localhost:1", ca_certificate="no certificate"))
    client.fails(UNTRUSTED, "CA certificate", "PEM")


# ---- the disk -----------------------------------------------------------------------------------


def test_a_full_disk(client, shared_node):
    """A file system of the test's own, of one page, which is full."""
    client.tok.write_text(shared_node.client_token())
    client.state.mkdir()
    mounted = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "true"], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no mounts here: {mounted.stderr}")
    script = (
        'mount -t tmpfs -o size=16k tmpfs "$TWINLEASE_STATE" || exit 99\n'
        'while printf %4096s x >>"$TWINLEASE_STATE/ballast"; do :; done 2>/dev/null\n'
        'exec "$@"'
    )
    wrapper = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh"]
    before = len(shared_node.leases())
    client.fails(STATE, client.state, "No space left", wrapper=wrapper)
    assert len(shared_node.leases()) == before, "a seat that nobody could give back"


def test_a_state_folder_that_is_a_file(client, shared_node):
    client.tok.write_text(shared_node.client_token())
    client.state.write_text("")
    client.fails(STATE, client.state, "make the folder writable")


# ---- the clock ----------------------------------------------------------------------------------


def clock_off(days):
    """For acquire(): the wall clock is off, clocks that count spans are not."""
    return {
        "wrapper": ["faketime", "-f", f"{days:+d}d"],
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "ASAN_OPTIONS": sanitizer_environment()["ASAN_OPTIONS"] + ":verify_asan_link_order=0",
    }


@pytest.fixture
def old_node(nodes, publisher, tmp_path_factory):
    """A node with seats whose certificate has been valid for a while."""
    nodes.authority = Authority(str(tmp_path_factory.mktemp("old")), age_days=7)
    node = started(nodes, publisher)
    expect(node.install(publisher.entitlement(node, {"render": 5})), 201)
    return node


@pytest.mark.parametrize("days", [-1, 1])
def test_a_clock_that_is_off_by_a_day(client, old_node, days):
    """What is leased counts spans, so the seat is had, and the clock is told of."""
    client.tok.write_text(old_node.client_token())
    outcome = client.acquire(**clock_off(days))
    assert outcome.code == OK, outcome.sentence
    assert any("clock" in line for line in outcome.warnings), outcome.warnings
    assert len(old_node.leases(state="active")) == 1


def test_a_clock_before_the_certificate_begins(client, shared_node):
    client.tok.write_text(shared_node.client_token())
    client.fails(UNTRUSTED, shared_node.url, "clock", **clock_off(-1))


def test_a_clock_after_the_token_ends(client, instance):
    client.tok.write_text(instance.token("https://localhost:1"))
    client.fails(BAD_FILE, client.tok, "ended at", "clock", **clock_off(2))
