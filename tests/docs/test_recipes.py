"""What the guides tell to install on a server or in CI: each recipe, taken from its page."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import pytest

pytest.importorskip("docutils", reason="docutils reads the pages")

from elsewhere import here, without_installing
from markup import Block, sections
from support import HELLO, KIND, PATIENCE, Client, Kind, Server, reserved_port, wait_until

from mailhandlers import Inbox, read_messages

pytestmark = pytest.mark.slow

GUIDES = Path(__file__).parents[2] / "docs/how-to"
BIN = Path(sys.executable).parent
PROGRAM = "/opt/mailhandlers/bin/aiosmtpd"
RUN_TESTS = """#!/usr/bin/env python3
import os, smtplib
with smtplib.SMTP(os.environ["MAIL_HOST"], int(os.environ["MAIL_PORT"])) as smtp:
    smtp.sendmail("eva@example.com", "bob@example.com", "Subject: Welcome\\n\\n")
"""


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(which(program) is None, reason=f"{program} is not installed")


def which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def recipe(page: str, name: str) -> str:
    """Return what a page tells to save as the file *name*."""
    blocks = [block for section in sections(GUIDES / page) for block in section.blocks]
    return blocks[blocks.index(Block("comment", f"file: {name}")) + 1].text + "\n"


# The unit of systemd


class Service(NamedTuple):
    port: int
    page: int
    people: Path
    command: list[str]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The command of the unit, as systemd would run it, with what is different here."""
    unit = recipe("course.rst", "course-mail.service")
    match = re.search(r"^ExecStart=((?:.*\\\n)*.*)$", unit, re.MULTILINE)
    assert match
    with contextlib.ExitStack() as reservations:
        ports = {}
        for name in ("8025", "8026"):
            reservation, ports[name] = reserved_port()
            reservations.enter_context(reservation)
        text = match[1].replace("\\\n", " ").replace("${STATE_DIRECTORY}", str(tmp_path))
        for name, port in ports.items():
            text = text.replace(f":{name}", f":{port}")
        text = text.replace(PROGRAM, str(BIN / "aiosmtpd"))
        yield Service(ports["8025"], ports["8026"], tmp_path / "people", shlex.split(text))


@contextlib.contextmanager
def running(
    service: Service, *prefix: str | os.PathLike[str]
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*prefix, *service.command], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        wait_until(partial(greets, process, service.port))
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def greets(process: subprocess.Popen[str], port: int) -> bool:
    assert process.poll() is None, process.communicate()[1]
    with contextlib.suppress(OSError), Client(port):
        return True
    return False


def use(service: Service) -> None:
    with Client(service.port) as client:
        assert client.send(HELLO, to=["Bob@Course.Example"]) == "250 OK"
        assert client.send(HELLO, to=["eva@elsewhere.example"]) == "550 5.1.1 No such user"
    with urlopen(f"http://localhost:{service.page}/api/messages?limit=1") as answer:
        assert b"How are you?" in answer.read()


@needs("systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "course-mail.service"
    text = recipe("course.rst", unit.name)
    assert PROGRAM in text
    # It looks whether the program is there.
    unit.write_text(text.replace(PROGRAM, str(BIN / "aiosmtpd")))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs("systemd-analyze")
def test_systemd_finds_the_unit_little_exposed(tmp_path: Path) -> None:
    unit = tmp_path / "course-mail.service"
    unit.write_text(recipe("course.rst", unit.name))
    # Of ten points at most 2.0, for what a server that listens can't do without.
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager"]
    done = subprocess.run([*command, unit], capture_output=True, text=True)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze looks at running services only")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_runs_what_the_page_says(service: Service) -> None:
    with running(service) as process:
        use(service)
        assert [path.name for path in service.people.iterdir()] == ["bob@course.example"]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


@needs("systemd-analyze")
@needs("strace")
def test_the_unit_takes_nothing_away_that_the_server_needs(
    service: Service, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    with running(service, "strace", "-f", "-qq", "-o", trace) as process:
        use(service)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(PATIENCE)
    lines = trace.read_text().splitlines()
    calls = {match[1] for line in lines if (match := re.match(r"\d+ +(\w+)\(", line))}
    assert {"fsync", "rename", "accept4"} <= calls
    unit = recipe("course.rst", "course-mail.service")
    given, taken = re.findall(r"^SystemCallFilter=(.*)$", unit, re.MULTILINE)
    allowed = {call for name in given.split() for call in calls_of(name)}
    allowed -= {call for name in taken.removeprefix("~").split() for call in calls_of(name)}
    assert calls - allowed == set()
    # MemoryDenyWriteExecute: no memory is both, and none becomes what may be run.
    assert not [line for line in lines if "PROT_WRITE|PROT_EXEC" in line]
    assert not [line for line in lines if "mprotect(" in line and "PROT_EXEC" in line]
    families = re.findall(r"(?<=socket\()AF_\w+", "\n".join(lines))
    assert {*families} <= {"AF_INET", "AF_INET6", "AF_UNIX"}


def calls_of(name: str) -> set[str]:
    """Return the system calls of a set of systemd's."""
    if not name.startswith("@"):
        return {name}
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", name],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.strip() for line in done.stdout.splitlines()[1:]]
    return {call for line in lines if line and line[0] != "#" for call in calls_of(line)}


# logrotate


@needs("logrotate")
@pytest.mark.parametrize("kind", [KIND["JsonLines"], KIND["MboxSink"]], ids=lambda k: k.handler)
def test_logrotate_loses_no_message_that_comes_meanwhile(
    kind: Kind, store: Path, tmp_path: Path
) -> None:
    text = recipe("course.rst", "logrotate.conf")
    assert f"/{kind.store}" in text
    config = tmp_path / "logrotate.conf"
    config.write_text(text.replace("/var/lib/course-mail", str(store.parent)))
    config.chmod(0o644)
    rotate = [
        which("logrotate") or "",
        "--force",
        "--state",
        str(tmp_path / "state"),
        str(config),
    ]
    ends = threading.Event()
    sent = 0

    def send(server: Server) -> None:
        nonlocal sent
        with server.client() as client:
            while not ends.is_set():
                assert client.send(b"Subject: %d\r\n\r\n" % sent) == "250 OK"
                sent += 1

    with Server(kind.handler, store) as server:
        thread = threading.Thread(target=send, args=(server,))
        thread.start()
        try:
            for turn in range(5):
                before = sent
                wait_until(lambda at=before: sent > at + 20)  # type: ignore[misc]
                subprocess.run(rotate, check=True, stderr=subprocess.PIPE)
                assert (store.parent / f"{store.name}.1").exists(), turn
            before = sent
            wait_until(lambda: sent > before)
        finally:
            ends.set()
            thread.join(PATIENCE)
        assert server.errors() == ""
    for packed in store.parent.glob("*.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    files = [*store.parent.iterdir()]
    assert len(files) == 6
    subjects = [int(message["Subject"]) for file in files for message in read_messages(file)]
    assert sorted(subjects) == [*range(sent)]


# CI


class Workplace:
    """The folder of a CI job. What its steps leave behind is ended with it."""

    def __init__(self, folder: Path, port: int, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.port = port
        self._stack = stack
        script = folder / "run_tests"
        script.write_text(RUN_TESTS)
        script.chmod(0o755)

    def load(self, name: str) -> Any:
        yaml: Any = pytest.importorskip("yaml")
        return yaml.safe_load(here(recipe("ci.rst", name), self.folder, {"8025": self.port}))

    def run(self, script: str, variables: dict[str, object]) -> str:
        """Run a step; it may leave a process behind that has its output."""
        environment = {name: str(value) for name, value in variables.items()}
        environment |= {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        with open(self.folder / "output", "w+") as output:
            process = subprocess.Popen(
                ["bash", "-eo", "pipefail", "-c", without_installing(script)],
                cwd=self.folder,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._stack.callback(_end_group, process.pid)
            status = process.wait(PATIENCE)
            output.seek(0)
            text = output.read()
        assert status == 0, f"{script}\n{text}"
        return text


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Workplace]:
    with contextlib.ExitStack() as stack:
        reservation, port = reserved_port()
        stack.enter_context(reservation)
        yield Workplace(tmp_path, port, stack)


def _end_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


@needs("make")
@pytest.mark.parametrize("test", ["import sys; sys.exit(3)", "pass"], ids=["fails", "no mail"])
def test_make_fails_where_the_test_does_and_stops_the_server(
    workplace: Workplace, test: str
) -> None:
    for name, text in (("Makefile", recipe("ci.rst", "Makefile")), ("sign_up.py", test)):
        text = here(text, workplace.folder, {"8025": workplace.port})
        (workplace.folder / name).write_text(
            text.replace("expect mail", "expect mail --timeout 1")
        )
    output = workplace.run("! make test || exit 1", {})
    assert "no new message" in output or "exit status 3" in output
    with contextlib.suppress(ConnectionRefusedError), Client(workplace.port):
        raise AssertionError("the server goes on")


def test_the_workflow_of_github(workplace: Workplace) -> None:
    job = workplace.load(".github/workflows/test.yml")["jobs"]["test"]
    output = ""
    for step in job["steps"]:
        if "run" in step:
            output = workplace.run(step["run"], job["env"])
    assert "Welcome" in output
    (upload,) = [step for step in job["steps"] if "upload" in step.get("uses", "")]
    assert len(Inbox(workplace.folder / upload["with"]["path"])) == 1


def test_the_pipeline_of_gitlab(workplace: Workplace) -> None:
    job = workplace.load(".gitlab-ci.yml")["test"]
    workplace.run("\n".join(job["script"]), job["variables"])
    assert "Welcome" in workplace.run("\n".join(job["after_script"]), {})
    kept = [workplace.folder / path for path in job["artifacts"]["paths"]]
    assert [path.name for path in kept if path.exists()] == ["mail", "mail.log"]
    assert len(Inbox(kept[0])) == 1
