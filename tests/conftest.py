from __future__ import annotations

import os
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from faulty import Disk, Gate
from support import KINDS, Kind, Server


@pytest.fixture(params=KINDS, ids=[kind.handler for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each of the five handlers in turn: the contract holds for all."""
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def store(kind: Kind, tmp_path: Path) -> Path:
    """Where the handler of this test keeps its mail; nothing is there yet."""
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


class Certificate(NamedTuple):
    certificate: Path
    key: Path
    client: ssl.SSLContext


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate of the server's own, its key, and a client that doesn't mind."""
    folder = tmp_path_factory.mktemp("tls")
    made = Certificate(folder / "cert.pem", folder / "key.pem", ssl.create_default_context())
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-keyout", made.key, "-out", made.certificate),
        ],
        check=True,
        capture_output=True,
    )
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
    if os.getuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(params=["thread", "child"])
def writer(request: pytest.FixtureRequest) -> str:
    """Who writes, in turn: what holds for one holds for both."""
    chosen: str = request.param
    return chosen


@pytest.fixture
def disk(writer: str, tmp_path: Path) -> Disk:
    """A disk of the stock command that can fail and be stopped; *writer* writes there."""
    return Disk(_faulty(tmp_path), writer)


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """The disk of this process, which can be stopped."""
    gate = Gate(_faulty(tmp_path))
    monkeypatch.setattr(os, "fsync", gate)
    return gate


def _faulty(folder: Path) -> Path:
    made = folder / "faulty"
    made.mkdir()
    return made
