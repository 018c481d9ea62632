"""The man pages: clean by the judges' word, complete by comparison with what they are made of, and
their examples are command lines that the tool takes."""

import os
import re
import subprocess

import pytest

from cluster import ROOT
from node import TOOL
from test_completion import ask, commands, options

PAGES = ["twinlease.1", "libtwinlease.3", "twinlease-agent.conf.5"]
SECTIONS = {
    "twinlease.1": ["OPTIONS", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"],
    "twinlease-agent.conf.5": ["SETTINGS", "FILES", "EXAMPLES", "SEE ALSO"],
    "libtwinlease.3": ["RETURN VALUE", "ENVIRONMENT", "FILES", "NOTES", "EXAMPLES", "SEE ALSO"],
}


@pytest.fixture(params=PAGES)
def page(request, tmp_path):
    """The path of a page, as it is installed."""
    path = tmp_path / request.param
    path.write_text(ask("--man", request.param))
    return path


def judge(*command):
    """Judges say nothing if nothing is wrong."""
    done = subprocess.run(
        command, text=True, capture_output=True, timeout=60, check=False,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANWIDTH": "100"},
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    return done.stdout


def rendered(page):
    """As it is read, in one line, without the hyphens of broken words."""
    text = judge("mandoc", "-Tutf8", "-O", "width=200", str(page))
    return re.sub(r"\s+", " ", re.sub(r".\x08", "", text))


def test_the_judges_find_nothing(page):
    assert judge("mandoc", "-Tlint", "-W", "warning", str(page)) == ""
    judge("man", "--warnings", "--local-file", str(page))
    assert judge("groff", "-ww", "-man", "-Tutf8", "-K", "utf8", "-z", str(page)) == ""


def test_apropos_finds_it(page):
    """lexgrog is what makes the index of names."""
    name = page.name.rpartition(".")[0]
    assert judge("lexgrog", str(page)).startswith(f'{page}: "{name} - ')


def test_nothing_is_left_to_fill_in(page):
    assert not re.search(r"@[A-Z]+@", page.read_text())
    headings = re.findall(r"^\.SH (.*)$", page.read_text(), re.M)
    assert [one for one in headings if one in SECTIONS[page.name]] == SECTIONS[page.name]


def test_there_is_no_other_page():
    ask("--man", "twinlease.2", code=2)
    ask("--man", "libtwinlease.symbols", code=2)


def test_every_command_option_variable_and_code(tmp_path):
    path = tmp_path / "twinlease.1"
    path.write_text(ask("--man"))
    text = rendered(path)
    for command in commands():
        assert f" twinlease {command} " in text, command
        for name, argument in options(command):
            assert f" {name} {argument}".rstrip() in text, (command, name)
    shown = ask("--help").split("Exit codes:")[1]
    for number, meaning in re.findall(r"^ +(\d+)  (.+)$", shown, re.M):
        assert re.search(rf" {number} (\(\w+\) )?{re.escape(meaning)} ", text), meaning
    helps = "".join(ask(*command.split(), "--help") for command in commands())
    variables = set(re.findall(r"\[([A-Z_]+)\]$", helps, re.M))
    assert variables
    for variable in variables:
        assert re.search(rf" {variable} As --", text), variable


def test_every_function_and_code_of_the_library(tmp_path):
    path = tmp_path / "libtwinlease.3"
    path.write_text(ask("--man", "libtwinlease.3"))
    text = rendered(path)
    with open(os.path.join(ROOT, "client/lib/libtwinlease.symbols"), encoding="utf-8") as file:
        for name in file.read().split():
            assert f"{name}()" in text, name
    with open(os.path.join(ROOT, "client/include/twinlease.h"), encoding="utf-8") as file:
        codes = re.findall(r'X\((\w+), (\d+), "', file.read())
    assert len(codes) >= 14
    for name, number in codes:
        assert f" TWINLEASE_{name} ({number}) " in text, name


def test_every_setting_of_the_agent(tmp_path):
    """And what stands in the example is taken."""
    path = tmp_path / "twinlease-agent.conf.5"
    path.write_text(ask("--man", "twinlease-agent.conf.5"))
    text = rendered(path)
    names = re.findall(r"^  (TWINLEASE_\w+) ", ask("agent", "--help"), re.M)
    assert len(names) >= 10
    for name in names:
        assert f" {name} " in text, name
    (example,) = re.findall(r"^\.EX\n(.*?)^\.EE$", path.read_text(), re.M | re.S)
    (tmp_path / "agent.conf").write_text(example)
    ask("agent", "--config", str(tmp_path / "agent.conf"), "--check")


def examples():
    """The command lines of twinlease.1, continued lines in one."""
    blocks = re.findall(r"^\.EX\n(.*?)^\.EE$", ask("--man"), re.M | re.S)
    plain = "".join(blocks).replace("\\e\n", "").replace("\\-", "-").replace("\\(aq", "'")
    return [line for line in plain.splitlines() if line.startswith("twinlease ")]


def test_the_examples_are_command_lines_that_exist():
    """With --help each is read to its end, and nothing is done."""
    assert len(examples()) >= 8
    for line in examples():
        line, dashes, program = line.partition(" -- ")
        line = re.sub(r" >\S+$", "", line)
        done = subprocess.run(
            ["sh", "-c", f'"$TOOL" {line.removeprefix("twinlease ")} --help {dashes}{program}'],
            text=True, capture_output=True, timeout=60, check=False,
            env={"PATH": os.environ["PATH"], "TOOL": TOOL},
        )  # fmt: skip
        assert done.returncode == 0 and done.stdout.startswith("Usage:"), (line, done.stderr)
