"""README.rst and the pages of ``docs``: what is in their blocks, and a reader who follows it.

A section is a folder, in which its blocks run in order:

- ``shell`` (``bash``, ``sh``) by bash, which ends at the first command that fails;
- ``console``: the lines after ``$``, whose output must be what stands below them;
- ``python`` by pytest if a function's name begins with ``test_``, by unittest if a class is
  a ``TestCase``, else as a script;
- ``javascript`` by node, as a module;
- ``json``, ``ini`` and ``toml`` are only parsed, and ``text``, ``html``, ``http`` and blocks
  after ``::`` only shown. Any other kind is a file, or not run.

What a reader wouldn't care to see stands in comments of the page. Before a block:

- ``.. stays: why``: the command goes on, and is ended with the section;
- ``.. ends: why``: the last command that goes on is ended here, as Ctrl-C does;
- ``.. file: NAME``: the block, of whatever kind, is the content of that file;
- ``.. mail arrives``: a message comes to port 8025, for the blocks below;
- ``.. not run: why``: the block is checked for its syntax only;
- ``.. continues``: this section goes on in the folder of the one above it.

Behind one: ``.. shows: TEXT``, which must be in what it prints. elsewhere.py says what is
replaced in a block: ports, ``/home/eva``, and where packages come from.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from elsewhere import BASH, PORTS, here, installs, is_command, plain, without_installing
from markup import Block, Section, parse
from support import HOST, PATIENCE, reserved_port, wait_until

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SHELL = ["bash", "-euo", "pipefail", "-c"]
SHOWN_ONLY = ("text", "html", "http", "docker")  # test_pages.py runs those of docker
# pytest-asyncio warns where it is not set up.
PYTEST = ["-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio"]
# Plugins that no page is about, and that take two seconds to import.
UNUSED_PLUGINS = "-p no:schemathesis -p no:hypothesispytest"
SOURCE = ("mailhandlers", "tests", "setup.cfg", "pyproject.toml", "docs", "LICENSE")
LONG = 10 * PATIENCE  # it may fetch packages
LACKING = re.compile(
    r"(\S+): (?:command )?not found|No module named (pip)"
    r"|Cannot find (?:package|module) '([^'./]+)'"
)


class Reader:
    """Somebody who follows one section of a page from its top."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open = ExitStack()
        self._lasting: list[subprocess.Popen[bytes]] = []
        self._notes: dict[str, str] = {}
        self._output = folder / ".output"
        self._ports: dict[str, int] = {}
        for port in PORTS:
            reservation, self._ports[port] = reserved_port()
            self._open.enter_context(reservation)
        self._environment = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PIPX_HOME": str(folder / ".pipx"),
            "PIPX_BIN_DIR": str(folder / ".pipx/bin"),
            "PIPX_MAN_DIR": str(folder / ".pipx/man"),
            "UV_TOOL_DIR": str(folder / ".uv"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTEST_ADDOPTS": UNUSED_PLUGINS,
        }

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._lasting):
            _end(process, signal.SIGKILL)
        self._open.close()

    def read(self, section: Section) -> None:
        """Follow a whole section."""
        if any(block.kind == "javascript" for block in section.blocks):
            # Where node looks for what an ECMAScript module imports: it minds no NODE_PATH.
            packages = Path(os.environ.get("NODE_PATH", ""))
            if packages.is_absolute() and packages.is_dir():
                (self.folder / "node_modules").symlink_to(packages)
        if installs(section):
            for part in map(ROOT.joinpath, SOURCE):
                copy = self.folder / part.name
                if part.is_dir():
                    shutil.copytree(part, copy, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(part, copy)
        for block in section.blocks:
            self.follow(block)
        assert not self._notes, f"no block comes after {self._notes}"

    def follow(self, block: Block) -> None:
        """Do what one block says, or what a comment says of the next one."""
        if block.kind == "comment":
            return self._heed(block.text)
        notes, self._notes = self._notes, {}
        text = self._here(block.text)
        if is_command(block):
            text = without_installing(text)
        if "file" in notes:
            file = self.folder / notes["file"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n")
        elif block.kind == "console":
            self._converse(text, stays="stays" in notes)
        elif block.kind in BASH:
            subprocess.run(["bash", "-n", "-c", text], check=True)
            self._do([*SHELL, text], notes)
        elif block.kind == "python":
            compile(text, "the block", "exec")
            self._do([sys.executable, *self._program(text)], notes)
        elif block.kind == "javascript":
            script = self._written(text, ".mjs")
            self._run(["node", "--check", script])
            self._do(["node", script], notes)
        elif block.kind in ("ini", "json", "toml"):
            parse(block.kind, text)
        elif block.kind not in SHOWN_ONLY:
            assert "not run" in notes, f"say what is to be done with a {block.kind}:\n{text}"
        return None

    def _do(self, command: list[str], notes: dict[str, str]) -> None:
        if "stays" in notes:
            self._start(command)
        elif "not run" not in notes:
            self._output.write_text(self._run(command))

    def _program(self, text: str) -> list[str]:
        script = self._written(text, ".py")
        if re.search(r"^class \w+\(.*TestCase\)", text, re.MULTILINE):
            return ["-m", "unittest", script]
        if re.search(r"^(async )?def test_", text, re.MULTILINE):
            return [*PYTEST, script]
        return [script]

    def _written(self, text: str, suffix: str) -> str:
        number = len(list(self.folder.glob("test_block*")))
        script = self.folder / f"test_block{number}{suffix}"
        script.write_text(text + "\n")
        return script.name

    def _here(self, text: str) -> str:
        return here(text, self.folder, self._ports)

    def _heed(self, text: str) -> None:
        name, _, value = text.partition(": ")
        if name == "mail arrives":
            with smtplib.SMTP("localhost", self._ports["8025"]) as smtp:
                mail = "Subject: Welcome\n\nhttps://example.com/confirm/4711\n"
                try:
                    smtp.sendmail("eva@example.com", "bob@example.com", mail)
                except smtplib.SMTPException:  # what the server writes to may be lacking
                    _skip_for_lack(self._output.read_text())
                    raise
        elif name == "shows":
            self._await(self._here(value))
        elif name == "ends":
            _end(self._lasting.pop(), signal.SIGINT)
        else:
            assert name in ("stays", "file", "not run"), text
            self._notes[name] = value

    def _run(self, command: list[str]) -> str:
        if command[0] == "node" and not shutil.which("node"):
            pytest.skip("node is not installed: the section was followed up to there")
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONG,
        )
        if done.returncode:
            _skip_for_lack(done.stdout)
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout}"
        return done.stdout

    def _start(self, command: list[str]) -> None:
        text = command[-1] if command[0] == "bash" else (self.folder / command[-1]).read_text()
        ports = [port for port in self._ports.values() if str(port) in text]
        assert not any(map(_is_open, ports)), "a server of this section has the port already"
        with self._output.open("w") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._lasting.append(process)

        def answers() -> bool:
            ended = process.poll() is not None
            if ended:
                _skip_for_lack(self._output.read_text())
            assert not ended, f"{text}\n{self._output.read_text()}"
            return all(map(_is_open, ports))

        self._wait(answers, f"does not serve: {text}", timeout=LONG)

    def _await(self, text: str) -> None:
        text = plain(text)
        self._wait(lambda: text in plain(self._output.read_text()), f"not shown: {text}")

    def _wait(
        self, condition: Callable[[], bool], what: str, timeout: float = PATIENCE
    ) -> None:
        try:
            wait_until(condition, timeout)
        except AssertionError as error:
            raise AssertionError(f"{what}\n{error}\n{self._output.read_text()}") from None

    def _converse(self, text: str, *, stays: bool) -> None:
        first, *conversation = re.split(r"^\$ ", text, flags=re.MULTILINE)
        assert not first, "a console block begins with a command"
        for turn in conversation:
            line, *rest = turn.splitlines()
            while rest and rest[0].startswith("> "):
                line += "\n" + rest.pop(0)[2:]
            if stays:
                self._start([*SHELL, line])
                self._await("\n".join(rest))
            else:
                output = self._run([*SHELL, line])
                shown = "\n".join(rest)
                assert plain(output) == plain(shown), f"{line}\n{output}\n-- not\n{shown}"
                self._output.write_text(output)


def _skip_for_lack(output: str) -> None:
    """Skip the rest of a section where *output* says that a program is not there."""
    if lacking := LACKING.search(output):
        name = next(filter(None, lacking.groups()))
        pytest.skip(f"{name} is not installed: the section was followed up to there")


def _end(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):  # it ended by itself
        os.killpg(process.pid, number)
    process.wait(PATIENCE)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
