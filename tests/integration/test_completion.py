"""Completion in bash and zsh: what `twinlease --completion` prints, driven as the shells
drive them, and compared with what `--help` says of each command."""

import os
import pty
import re
import subprocess
import threading

import pytest

from node import TOOL
from waiting import wait_until

SHELL_SECONDS = 30
BASH_COMPLETION = "/usr/share/bash-completion/bash_completion"


def ask(*arguments, code=0):
    done = subprocess.run(
        [TOOL, *arguments], text=True, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def commands():
    """The names that `twinlease --help` lists."""
    listed = ask("--help").split("Exit codes:")[0]
    return re.findall(r"^  (\S+(?: \S+)?)  ", listed, re.M)


def options(command):
    """[(--name, its argument or "")], as the command's own help shows them."""
    return re.findall(r"^  (--[a-z-]+)(?: (\S+))?", ask(*command.split(), "--help"), re.M)


def operand(command):
    shown = ask(*command.split(), "--help")
    (line,) = re.findall(rf"^Usage: twinlease {command} (.*)$", shown, re.M)
    return line.replace("[OPTION…]", "").strip()


# ---- bash ---------------------------------------------------------------------------------------

BASH = """
cur= prev= words=() cword=0
compopt() { :; } # bash has it only while somebody presses Tab
[[ -z $HELPERS ]] || . "$HELPERS"
. ./twinlease.bash
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
_twinlease twinlease "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
((${#COMPREPLY[@]} == 0)) || printf '%s\\n' "${COMPREPLY[@]}"
"""


class Bash:
    def __init__(self, folder, helpers):
        self.folder, self.helpers = folder, helpers
        (folder / "twinlease.bash").write_text(ask("--completion", "bash"))

    def offers(self, *words):
        """What completes the last word. bash splits --name=value at the sign."""
        split = []
        for word in words:
            split += re.split("(=)", word) if word.startswith("--") else [word]
        if len(split) > 1 and split[-1] == "" and split[-2] == "=":
            split.pop()
        done = subprocess.run(
            ["bash", "--norc", "-c", BASH, "bash", "twinlease", *split],
            cwd=self.folder,
            text=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
            env={"PATH": os.environ["PATH"], "HELPERS": self.helpers, "HOME": str(self.folder)},
        )
        assert done.returncode == 0 and done.stderr == "", done.stderr
        return set(done.stdout.split("\n")) - {""}


# ---- zsh ----------------------------------------------------------------------------------------

ZSH = """
PS1= PS2= RPS1=
unsetopt beep prompt_cr prompt_sp auto_list auto_menu
fpath=("$PWD" $fpath)
autoload -U compinit
compinit -u -d "$PWD/dump"
# Every match goes to a file.
compadd() {
    local -a hits
    if [[ -n ${(M)@[1,(i)(-|--)]:#-[OAD]*} ]]; then
        builtin compadd "$@"
        return
    fi
    builtin compadd -A hits "$@"
    print -rl -- $hits >>"$PWD/matches"
    builtin compadd "$@"
}
told() { : >"$PWD/told"; zle kill-whole-line; }
zle -N told
bindkey '^I' expand-or-complete
bindkey '^T' told
: >"$PWD/ready"
"""


class Zsh:
    """One interactive shell at a terminal, asked again and again."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "_twinlease").write_text(ask("--completion", "zsh"))
        (folder / "start.zsh").write_text(ZSH)
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            ["zsh", "-f", "-i"], cwd=folder, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb"},
        )  # fmt: skip
        os.close(slave)
        self.screen = b""
        threading.Thread(target=self._read, daemon=True).start()
        self._type("source ./start.zsh\n")
        wait_until((folder / "ready").exists, SHELL_SECONDS, lambda: self.screen[-2000:])

    def _read(self):
        try:
            while data := os.read(self.master, 65536):
                self.screen += data
        except OSError:
            pass

    def _type(self, text):
        os.write(self.master, text.encode())

    def offers(self, *words):
        for name in ("matches", "told"):
            (self.folder / name).unlink(missing_ok=True)
        self._type(" ".join(("twinlease", *words)) + "\t\x14")
        wait_until((self.folder / "told").exists, SHELL_SECONDS, lambda: self.screen[-2000:])
        matches = self.folder / "matches"
        found = matches.read_text().split("\n") if matches.exists() else []
        return {word.rstrip("=") for word in found} - {""}

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


# ---- the tests ----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["bash", "bash with bash-completion", "zsh"])
def shell(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shell")
    (folder / "some file.pem").write_text("")
    (folder / "some folder").mkdir()
    if request.param == "zsh":
        made = Zsh(folder)
        yield made
        made.close()
        return
    helpers = BASH_COMPLETION if request.param != "bash" else ""
    if helpers and not os.path.exists(helpers):
        pytest.skip("bash-completion is not installed")
    yield Bash(folder, helpers)


def test_every_command(shell):
    first = {command.split()[0] for command in commands()}
    assert first and first <= shell.offers("")
    for command in commands():
        if " " in command:
            one, two = command.split()
            assert two in shell.offers(one, "")
            assert two in shell.offers(one, two[:2])


def test_a_part_of_a_word(shell):
    found = shell.offers("en")
    assert "entitlement" in found and "status" not in found


def test_every_option_of_every_command(shell):
    for command in commands():
        names = {name for name, _ in options(command)}
        assert len(names) >= 2, command
        assert names <= shell.offers(*command.split(), "--"), command


def test_every_choice(shell):
    seen = 0
    for command in commands():
        for name, argument in options(command):
            if "|" in argument:
                wanted = set(argument.split("|"))
                assert shell.offers(*command.split(), name, "") == wanted, command
                seen += 1
    assert seen >= 4, "--type, --release, --revoke, --only"


def test_a_choice_behind_the_equals_sign(shell):
    found = shell.offers("publisher", "init", "--type=r")
    assert {word.removeprefix("--type=") for word in found} == {"rsa"}


def unquoted(words):
    return {word.replace("\\", "").rstrip("/") for word in words}


def test_files_and_folders(shell):
    for command in commands():
        for name, argument in options(command):
            found = unquoted(shell.offers(*command.split(), name, ""))
            if argument in ("FILE", "PATH"):
                assert {"some file.pem", "some folder"} <= found, (command, name)
            elif argument == "DIR":
                assert "some folder" in found and "some file.pem" not in found, (command, name)
            elif argument and "|" not in argument:
                assert "some file.pem" not in found, (command, name)


def test_files_as_operands(shell):
    takers = [command for command in commands() if operand(command).startswith("FILE")]
    assert "entitlement install" in takers
    for command in takers:
        assert "some file.pem" in unquoted(shell.offers(*command.split(), ""))


def test_the_program_that_is_run(shell):
    """After `--` the words are another program's."""
    runners = [command for command in commands() if "-- " in operand(command)]
    assert "run" in runners
    for command in runners:
        assert "env" in shell.offers(command, "render", "--", "en")
        assert "some file.pem" in unquoted(shell.offers(command, "render", "--", "cat", "some"))
        assert "--json" not in shell.offers(command, "render", "--", "env", "--")


def test_nothing_is_offered_for_what_is_not_known(shell):
    assert shell.offers("nothing", "") == set()


def test_shells_that_are_not_known():
    ask("--completion", "fish", code=2)
    ask("--completion", code=2)


def test_the_bash_script_is_clean():
    done = subprocess.run(
        ["shellcheck", "-s", "bash", "-"], input=ask("--completion", "bash"), text=True,
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
