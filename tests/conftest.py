from __future__ import annotations

import itertools
import os
import signal
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

import object_stores
import pytest
import trustme
from faulty import Disk, Gate
from hypothesis import HealthCheck, settings
from shell import Shell
from support import ALL_KINDS, BUCKET, WINDOWS, Kind, Server

from mailhandlers.cli.main import main
from mailhandlers.commit import Commits

_DISKS = {"disk", "gate", "quick_disk", "small_disk", "strace"}
# A slow machine is no fault of what is tested. Under Wine an example takes seconds, and what
# holds on every system is tried elsewhere.
settings.register_profile(
    "patient",
    max_examples=8 if WINDOWS else 100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("patient")


def pytest_configure() -> None:
    # nohup, and a script for what it runs in the background, have Ctrl-C ignored, and all
    # programs that are started from there inherit this: no test could end them so. They don't
    # inherit a handler, not even one that does nothing.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what needs something slow: a browser, a disk to fill, an object store.

    What is of POSIX alone is skipped on Windows.
    """
    for item in items:
        if WINDOWS and item.get_closest_marker("posix"):
            item.add_marker(pytest.mark.skip(reason="Windows has no such thing"))
        if not {"browser", "small_disk", "strace"}.isdisjoint(
            getattr(item, "fixturenames", ())
        ):
            item.add_marker("slow")
        kind = getattr(getattr(item, "callspec", None), "params", {}).get("kind")
        if getattr(kind, "handler", "") == "BucketSink":
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def _nothing_stays(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have a pytest that a test runs keep its folders in those of this one, which go."""
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(tmp_path_factory.getbasetemp())


@pytest.fixture(params=ALL_KINDS, ids=[kind.handler for kind in ALL_KINDS])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each of the handlers in turn: the contract holds for all."""
    chosen: Kind = request.param
    if chosen == BUCKET and not _DISKS.isdisjoint(request.fixturenames):
        pytest.skip("a bucket is on no disk that could fail")
    return chosen


@pytest.fixture(scope="session")
def new_bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Path]]:
    """Return addresses in a bucket of this session; nothing is there yet."""
    numbers = itertools.count()
    with (
        object_stores.rclone(tmp_path_factory.mktemp("rclone")) as environment,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        yield lambda: cast(Path, object_stores.Address(f"s3://mail/store-{next(numbers)}"))


@pytest.fixture
def store(kind: Kind, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Where the handler of this test keeps its mail; nothing is there yet."""
    if kind == BUCKET:
        made: Path = request.getfixturevalue("new_bucket")()
        return made
    folder = tmp_path / "stores"
    folder.mkdir()
    return folder / kind.store


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may write; pytest's are the user's alone."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


@pytest.fixture
def server(kind: Kind, store: Path) -> Iterator[Server]:
    """The stock command with the handler of this test, storing into *store*."""
    with Server(kind.handler, store) as running:
        yield running


@pytest.fixture
def shell_here(capsys: pytest.CaptureFixture[str]) -> Shell:
    """Run ``mailhandlers`` as shell() does, but in this process: a start takes Wine seconds."""

    def run(*arguments: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
        status = main([os.fspath(argument) for argument in arguments])
        said = capsys.readouterr()
        return subprocess.CompletedProcess([*arguments], status, said.out, said.err)

    return run


class Certificate(NamedTuple):
    certificate: Path
    key: Path
    client: ssl.SSLContext


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate of the server's own, its key, and a client that doesn't mind."""
    folder = tmp_path_factory.mktemp("tls")
    made = Certificate(folder / "cert.pem", folder / "key.pem", ssl.create_default_context())
    issued = trustme.CA().issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(made.certificate)
    issued.private_key_pem.write_to_path(made.key)
    made.client.check_hostname = False
    made.client.verify_mode = ssl.CERT_NONE
    return made


def server_side(certificate: Certificate) -> ssl.SSLContext:
    """Return what a server needs to offer TLS with *certificate*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    return context


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """A disk of the stock command that can fail and be stopped, where the thread writes."""
    return Disk(_faulty(tmp_path))


@pytest.fixture
def quick_disk(tmp_path: Path) -> Disk:
    """A disk of the stock command that can fail, where the loop writes from the second on."""
    return Disk(_faulty(tmp_path), is_quick=True)


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """The disk of this process, which can be stopped, and where the thread writes."""
    gate = Gate(_faulty(tmp_path))
    monkeypatch.setattr(os, "fsync", gate)
    monkeypatch.setattr(Commits, "write_here", lambda *_: False)
    return gate


def _faulty(folder: Path) -> Path:
    made = folder / "faulty"
    made.mkdir()
    return made
