"""Every block of README.rst, run: a section is a folder, its blocks run there in order.

What a reader wouldn't care to see stands in comments of the page, before a block:

- ``.. stays: why``: the command goes on, and is ended with the section;
- ``.. file: NAME``: the block is the content of that file;
- ``.. mail arrives``: a message comes to port 8025, for the blocks below;
- ``.. not run: why``: the block is checked for its syntax only;

and behind one: ``.. shows: TEXT``, what it prints. The ports that the page names are
replaced by free ones, and the package of the index by this checkout.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from support import HOST, PATIENCE, wait_until

pytest.importorskip("docutils", reason="docutils reads README.rst")

from docutils import nodes
from docutils.core import publish_doctree

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PARTS = ("mailhandlers", "tests", "setup.cfg", "pyproject.toml", "README.rst", "LICENSE")
INSTALLS = re.compile(r"\b(pip|pipx|uvx|uv)\b")
VOLATILE = [
    (re.compile(r"\d{10}\.M\d{6}P\d+Q\d{6}\.[\w.-]+"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"), "TIME"),
    (re.compile(r"127\.0\.0\.1:\d+|\[::1\]:\d+"), "PEER"),
]


class Block(NamedTuple):
    """A block of code, or a comment that concerns one."""

    kind: str
    text: str


def sections() -> dict[str, list[Block]]:
    page = publish_doctree(
        (ROOT / "README.rst").read_text(),
        settings_overrides={"syntax_highlight": "none", "report_level": 2, "halt_level": 2},
    )
    found: dict[str, list[Block]] = {}
    for node in page.findall():
        if isinstance(node, nodes.literal_block | nodes.comment):
            section = node.parent
            while not isinstance(section, nodes.section | nodes.document):
                section = section.parent
            heading = section.next_node(nodes.title)
            assert heading is not None
            title = str(heading.astext())
            kind = "comment"
            if isinstance(node, nodes.literal_block):
                kind = next((name for name in node["classes"] if name != "code"), "text")
            found.setdefault(title, []).append(Block(kind, node.astext()))
    return {
        t: blocks for t, blocks in found.items() if any(b.kind != "comment" for b in blocks)
    }


SECTIONS = sections()


class Reader:
    """Somebody who follows one section of the page from its top."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.left_out: list[str] = []
        self._open = ExitStack()
        self._notes: dict[str, str] = {}
        self._output = folder / ".output"
        self._ports = {port: self._reserved() for port in ("8025", "8080")}
        self._environment = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PIPX_HOME": str(folder / ".pipx"),
            "PIPX_BIN_DIR": str(folder / ".pipx/bin"),
            "PIPX_MAN_DIR": str(folder / ".pipx/man"),
            "UV_TOOL_DIR": str(folder / ".uv"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def follow(self, block: Block) -> None:
        if block.kind == "comment":
            return self._heed(block.text)
        notes, self._notes = self._notes, {}
        text = self._here(block.text)
        if "file" in notes:
            (self.folder / notes["file"]).write_text(text)
        elif block.kind == "console":
            self._converse(text, stays="stays" in notes)
        elif block.kind in ("shell", "bash", "sh"):
            subprocess.run(["bash", "-n", "-c", text], check=True)
            program = text.split()[0]
            if "not run" in notes:
                pass
            elif "/" not in program and not shutil.which(program, path=self._path):
                self.left_out.append(f"{program} is not installed")
            elif "stays" in notes:
                self._start(text)
            else:
                self._output.write_text(self._run(["bash", "-euo", "pipefail", "-c", text]))
        elif block.kind == "python":
            number = len(list(self.folder.glob("test_block*.py")))
            script = self.folder / f"test_block{number}.py"
            script.write_text(text + "\n")
            tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
            tests += ["-p", "no:asyncio"]  # which warns where it is not set up
            arguments = [*tests, script.name] if "def test_" in text else [script.name]
            self._output.write_text(self._run([sys.executable, *arguments]))
        return None

    @property
    def _path(self) -> str:
        return self._environment["PATH"]

    def _reserved(self) -> int:
        # Bound and never listening: nobody else is given the port, a server may take it.
        reservation = self._open.enter_context(socket.socket())
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind((HOST, 0))
        port: int = reservation.getsockname()[1]
        return port

    def _here(self, text: str) -> str:
        """Return *text* with what is different here: the ports, and the package's source."""
        text = re.sub(r"(aiosmtpd -n)(?! -l)", r"\1 -l localhost:8025", text)
        for port, free in self._ports.items():
            text = re.sub(rf"\b{port}\b", str(free), text)
        text = re.sub(r"(install|inject aiosmtpd|--with) mailhandlers\b", r"\1 $PWD", text)
        # The page's test command runs this very test, so here it runs one file.
        return text.replace("-m pytest -n 2", "-m pytest -n 2 tests/test_envelope.py")

    def _heed(self, text: str) -> None:
        name, _, value = text.partition(": ")
        if name == "mail arrives":
            with smtplib.SMTP("localhost", self._ports["8025"]) as smtp:
                mail = "Subject: Welcome\n\nhttps://example.com/confirm/4711\n"
                smtp.sendmail("eva@example.com", "bob@example.com", mail)
        elif name == "shows":
            wait_until(lambda: value in self._output.read_text())
        else:
            assert name in ("stays", "file", "not run"), text
            self._notes[name] = value

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout}"
        return done.stdout

    def _start(self, text: str) -> None:
        ports = [port for port in self._ports.values() if str(port) in text]
        assert not any(map(_is_open, ports)), "a server of this section has the port already"
        with self._output.open("w") as output:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", text],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._open.callback(process.wait, PATIENCE)
        self._open.callback(os.killpg, process.pid, signal.SIGKILL)
        wait_until(lambda: self._answers(process, ports), timeout=300)

    def _answers(self, process: subprocess.Popen[bytes], ports: list[int]) -> bool:
        assert process.poll() is None, self._output.read_text()
        return all(map(_is_open, ports))

    def _converse(self, text: str, *, stays: bool) -> None:
        first, *conversation = re.split(r"^\$ ", text, flags=re.MULTILINE)
        assert not first, "a console block begins with a command"
        for turn in conversation:
            line, *rest = turn.splitlines()
            while rest and rest[0].startswith("> "):
                line += "\n" + rest.pop(0)[2:]
            if stays:
                self._start(line)
            else:
                output = self._run(["bash", "-euo", "pipefail", "-c", line])
                assert plain(output) == plain("\n".join(rest))


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def plain(output: str) -> str:
    for pattern, name in VOLATILE:
        output = pattern.sub(name, output)
    return output.strip()


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where pip reaches no index of packages."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "aiosmtpd"]
    folder = tmp_path_factory.mktemp("index")
    if subprocess.run([*command, "-d", folder], capture_output=True).returncode:
        pytest.skip("pip reaches no index of packages here")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with Reader(tmp_path) as somebody:
        yield somebody


@pytest.mark.parametrize("title", SECTIONS)
def test_section(title: str, reader: Reader, request: pytest.FixtureRequest) -> None:
    blocks = SECTIONS[title]
    if any(b.kind == "shell" and INSTALLS.search(b.text) for b in blocks):
        request.getfixturevalue("index")
        for part in PARTS:
            if (ROOT / part).is_dir():
                skipped = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / part, reader.folder / part, ignore=skipped)
            else:
                shutil.copy(ROOT / part, reader.folder)
    for block in blocks:
        reader.follow(block)
    if reader.left_out:
        pytest.skip("; ".join(reader.left_out) + ": but for that, all blocks ran")


def test_containerfile_starts_the_server(reader: Reader) -> None:
    (text,) = (b.text for blocks in SECTIONS.values() for b in blocks if b.kind == "docker")
    steps = dict(line.split(" ", 1) for line in text.splitlines())
    assert list(steps) == ["FROM", "RUN", "VOLUME", "EXPOSE", "ENTRYPOINT", "CMD"]
    words = json.loads(steps["ENTRYPOINT"]) + json.loads(steps["CMD"])
    command = shlex.join(words).replace("/mail/", f"{reader.folder}/")
    reader.follow(Block("comment", "stays: it is a server"))
    reader.follow(Block("shell", command))
    reader.follow(Block("comment", "mail arrives"))
    assert list(reader.folder.glob("inbox/new/*"))


def test_the_first_test_passes_the_strict_checks_of_mypy(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy checks the types")
    blocks = (b.text for blocks in SECTIONS.values() for b in blocks if b.kind == "python")
    test = tmp_path / "test_first.py"
    test.write_text(next(blocks))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", test],
        env={**os.environ, "MYPYPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
