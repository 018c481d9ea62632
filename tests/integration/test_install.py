"""What a developer gets: the header, the library and its .pc file, installed into a folder of the
test's own, and the example of client/README.md built with nothing else."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from binding import sanitizer_runtimes
from cluster import ROOT
from node import REQUEST_SECONDS, TOOL, expect, sanitizer_environment

BUILD = os.path.dirname(os.path.dirname(TOOL))
STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
BUILD_SECONDS = 120

# What of the header only a use of its macros compiles.
EVERY_MACRO = """
#include <twinlease.h>
int main(void)
{
    struct twinlease_options a = TWINLEASE_OPTIONS_INIT;
    struct twinlease_acquire_options b = TWINLEASE_ACQUIRE_OPTIONS_INIT;
    struct twinlease_keep_options c = TWINLEASE_KEEP_OPTIONS_INIT;
    struct twinlease_kept d = TWINLEASE_KEPT_INIT;
    struct twinlease_verify_options e = TWINLEASE_VERIFY_OPTIONS_INIT;
    return a.size == sizeof a && b.size == sizeof b && c.size == sizeof c && d.size == sizeof d &&
           e.size == sizeof e && !a.token_path && !b.wait_ms && !c.changed && !d.held && !e.now_ms
           ? 0 : 1;
}
"""


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def setting(name):
    """Of the build under test."""
    with open(os.path.join(BUILD, "CMakeCache.txt"), encoding="utf-8") as file:
        return re.search(rf"^{name}:\w+=(.*)$", file.read(), re.M).group(1)


def run(*command, cwd, code=0, seconds=BUILD_SECONDS, **environment):
    done = subprocess.run(
        command,
        cwd=cwd,
        text=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=seconds,
        check=False,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environment},
    )
    assert done.returncode == code, f"{command}: {done.stdout[-3000:]}{done.stderr[-5000:]}"
    return done.stdout


class Installed:
    def __init__(self, prefix):
        self.prefix = str(prefix)
        run("cmake", "--install", BUILD, "--prefix", self.prefix, cwd=self.prefix)
        self.lib = os.path.join(self.prefix, setting("CMAKE_INSTALL_LIBDIR"))
        self.library = os.path.join(self.lib, "libtwinlease.so")
        self.environment = {
            "PKG_CONFIG_PATH": os.path.join(self.lib, "pkgconfig"),
            "LD_LIBRARY_PATH": self.lib,
        }

    def flags(self, *what):
        return shlex.split(
            run("pkg-config", *what, "twinlease", cwd=self.prefix, **self.environment)
        )

    def compile(self, folder, source, standard="c17"):
        """The program's path. A sanitized library needs a sanitized program."""
        cpp = standard.startswith("c++")
        program = folder / f"example-{standard}"
        (folder / "example.c").write_text(source)
        sanitize = setting("TWINLEASE_SANITIZE")
        run(
            "g++" if cpp else "gcc", f"-std={standard}", *STRICT,
            *([f"-fsanitize={sanitize}"] if sanitize else []),
            "-x", "c++" if cpp else "c", "example.c", "-x", "none", "-o", program,
            *self.flags("--cflags", "--libs"), cwd=folder,
        )  # fmt: skip
        return program


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return Installed(tmp_path_factory.mktemp("prefix"))


READMES = ["README.md", "client/README.md"]


def readme_block(language, mark="", name="client/README.md"):
    """The first one that has this in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", read(name), re.M | re.S)
    return next(block for block in blocks if mark in block)


def readme_commands(name):
    """The indented lines below the example: how it is built, and how it is started."""
    text = read(name)
    found = re.findall(r"^    ((?:cc|TWINLEASE_TOK=).*example.*)$", text, re.M)
    assert len(found) == 2, found
    return found


def licensed(node, folder):
    """The environment of a program on a machine with a client token."""
    (folder / "client.tok").write_text(node.client_token() + "\n")
    return {
        "HOME": str(folder),
        "TWINLEASE_TOK": str(folder / "client.tok"),
        "TWINLEASE_STATE": str(folder / "state"),
        **sanitizer_environment(),
    }


@pytest.mark.parametrize("name", READMES)
@pytest.mark.parametrize("standard", ["c11", "c17", "c++17"])
def test_the_example_of_the_readme(installed, shared_node, tmp_path, standard, name):
    program = installed.compile(tmp_path, readme_block("c", name=name), standard)
    before = len(shared_node.leases())
    environment = licensed(shared_node, tmp_path)
    run(program, cwd=tmp_path, seconds=REQUEST_SECONDS, **installed.environment, **environment)
    assert len(shared_node.leases()) == before + 1, "it took a seat"
    assert shared_node.leases(state="active") == [], "and gave it back"


@pytest.mark.parametrize("standard", ["c11", "c17", "c++17"])
def test_the_keeper_of_the_readme(installed, shared_node, tmp_path, standard):
    program = installed.compile(tmp_path, readme_block("c", "twinlease_keep("), standard)
    environment = {**installed.environment, **licensed(shared_node, tmp_path)}
    said = run(program, cwd=tmp_path, seconds=REQUEST_SECONDS, **environment)
    assert said.splitlines()[0] in ("licensed", "not licensed (yet)", "render: acquired "), said
    assert shared_node.leases(state="active") == []


def test_the_python_of_the_readme(installed, shared_node, tmp_path):
    (tmp_path / "example.py").write_text(readme_block("python"))
    environment = {
        **licensed(shared_node, tmp_path),
        **installed.environment,
        "PYTHONPATH": os.path.join(installed.prefix, "share", "twinlease", "python"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LD_PRELOAD": " ".join(sanitizer_runtimes()),
    }
    environment["ASAN_OPTIONS"] += ":detect_leaks=0"  # the interpreter's own
    said = run(sys.executable, "example.py", cwd=tmp_path, seconds=REQUEST_SECONDS, **environment)
    assert said.startswith("1 of render until ") and "scope_unknown" in said, said
    assert shared_node.leases(state="active") == []


def test_the_example_says_why_not(installed, tmp_path):
    program = installed.compile(tmp_path, readme_block("c"))
    environment = {**installed.environment, **sanitizer_environment()}
    done = subprocess.run(
        [program], cwd=tmp_path, text=True, capture_output=True, timeout=REQUEST_SECONDS,
        check=False, env={**environment, "HOME": str(tmp_path), "TWINLEASE_TOK": "absent.tok"},
    )  # fmt: skip
    assert done.returncode == 1 and "absent.tok" in done.stderr, done


@pytest.mark.parametrize("name", READMES)
def test_the_commands_of_the_readme(installed, shared_node, tmp_path, name):
    if setting("TWINLEASE_SANITIZE"):
        pytest.skip("the README builds without sanitizers")
    (tmp_path / "example.c").write_text(readme_block("c", name=name))
    environment = {**installed.environment, **licensed(shared_node, tmp_path)}
    for line in readme_commands(name):
        run("sh", "-c", line, cwd=tmp_path, **environment)


@pytest.mark.parametrize("standard", ["c11", "c17", "c++17"])
def test_every_macro_of_the_header(installed, tmp_path, standard):
    """It is also the first and only header, so it needs no other before it."""
    program = installed.compile(tmp_path, EVERY_MACRO, standard)
    run(program, cwd=tmp_path, **installed.environment, **sanitizer_environment())


def test_the_pc_file(installed):
    assert installed.flags("--modversion") == [setting("CMAKE_PROJECT_VERSION")]
    assert installed.flags("--variable=prefix") == [installed.prefix]
    assert installed.flags("--cflags") == [f"-I{installed.prefix}/include"]
    assert installed.flags("--libs") == [f"-L{installed.lib}", "-ltwinlease"]


@pytest.mark.parametrize("shell, name", [("bash", "twinlease"), ("zsh", "_twinlease")])
def test_completion_is_where_shells_look(installed, shell, name):
    folder = {"bash": "bash-completion/completions", "zsh": "zsh/vendor-completions"}[shell]
    with open(os.path.join(installed.prefix, "share", folder, name), encoding="utf-8") as file:
        assert file.read() == run(TOOL, "--completion", shell, cwd=installed.prefix)


@pytest.mark.parametrize("page", ["twinlease.1", "libtwinlease.3", "twinlease-agent.conf.5"])
def test_man_pages_are_where_man_looks(installed, page):
    path = os.path.join(installed.prefix, "share", "man", f"man{page[-1]}", page)
    with open(path, encoding="utf-8") as file:
        assert file.read() == run(TOOL, "--man", page, cwd=installed.prefix)


def test_soname(installed):
    shown = run("readelf", "-d", installed.library, cwd=installed.prefix)
    assert re.search(r"\(SONAME\).*\[libtwinlease\.so\.0\]", shown), shown


def exported(installed):
    shown = run("nm", "-D", "--defined-only", installed.library, cwd=installed.prefix)
    found = [line.split()[-2:] for line in shown.splitlines()]
    return {name.split("@")[0] for kind, name in found if kind != "A"}


def test_only_its_own_names_are_exported(installed):
    names = exported(installed)
    assert names
    assert {name for name in names if not name.startswith("twinlease_")} == set()


def test_no_symbol_has_gone(installed):
    """client/lib/libtwinlease.symbols is what programs out there may link to. A name is added with
    its function, and never removed while the soname is the same."""
    listed = read("client", "lib", "libtwinlease.symbols").split()
    assert listed == sorted(set(listed))
    names = exported(installed)
    assert set(listed) - names == set(), "programs that link to these do not start any more"
    assert names - set(listed) == set(), "new names: add them to the list"


def test_the_header_declares_what_is_exported(installed):
    """By the compiler's own reading of the installed header."""
    header = os.path.join(installed.prefix, "include", "twinlease.h")
    plain = run("gcc", "-E", "-P", header, cwd=installed.prefix)
    declared = set(re.findall(r'visibility\("default"\)\)\)[^;{]*?\b(twinlease_\w+)\(', plain))
    assert declared == exported(installed)
