"""The image of the guide "Containers" is built and run, by buildah, on a Debian made here.

No registry is asked: debootstrap makes what stands in for ``python:3.13-slim``, and pip finds
all packages in a folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("docutils", reason="docutils reads the pages")

from chromium import get
from markup import sections
from support import HELLO, HOST, PATIENCE, Client, Process, reserved_port, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/how-to/containers.rst"
BASE = "docker.io/library/python:3.13-slim"
MIRROR = "http://deb.debian.org/debian"
SOURCE = ("mailhandlers", "setup.cfg", "pyproject.toml", "README.rst", "LICENSE")
LONG = 15 * 60


class Builder:
    """buildah, with storage of its own in *folder*."""

    def __init__(self, folder: Path) -> None:
        storage = ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]
        self.command = ["buildah", "--storage-driver", "vfs", *storage]
        self.folder = folder

    def __call__(self, *arguments: str | Path) -> str:
        return done([*self.command, *map(str, arguments)], self.folder).strip()


def done(command: list[str], folder: Path) -> str:
    """Return what a program prints that must succeed."""
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LONG)
    assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    for program in ("buildah", "debootstrap"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    if os.getuid():
        pytest.skip("only root can make the root of a container")
    base = tmp_path / "base"
    include = "--include=ca-certificates,python3-pip"
    made = subprocess.run(
        ["debootstrap", "--variant=minbase", include, "bookworm", base, MIRROR],
        capture_output=True,
        text=True,
        timeout=LONG,
    )
    if "Failed getting release file" in made.stdout + made.stderr:
        pytest.skip(f"debootstrap reaches no mirror: {MIRROR}")
    assert made.returncode == 0, made.stdout + made.stderr
    # Debian's own pip wants the second; python:3.13-slim has another.
    settings = "[global]\nno-index = 1\nbreak-system-packages = 1\nfind-links = /wheels\n"
    (base / "etc/pip.conf").write_text(settings)
    builder = Builder(tmp_path)
    (tmp_path / "Base").write_text("FROM scratch\nCOPY base /\n")
    builder("bud", "--isolation", "chroot", "-t", BASE, "-f", tmp_path / "Base", tmp_path)
    shutil.rmtree(base)
    return builder


def packages(folder: Path) -> Path:
    """Return a folder with this package and all that its extra ``web`` needs."""
    source = folder / "source"
    for part in map(ROOT.joinpath, SOURCE):
        if part.is_dir():
            shutil.copytree(
                part, source / part.name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(part, source)
    wheels = folder / "wheels"
    command = [sys.executable, "-m", "pip", "wheel", "-q", "-w", str(wheels), f"{source}[web]"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=LONG)
    if "No module named pip" in made.stderr:
        pytest.skip("pip is not installed")
    assert made.returncode == 0, made.stderr
    return wheels


def test_the_image_catches_mail(builder: Builder, tmp_path: Path) -> None:
    [text] = [b.text for s in sections(GUIDE) for b in s.blocks if b.kind == "docker"]
    (reservation, port), (other, page) = reserved_port(), reserved_port()
    # It has the network of this machine, where it is to have other ports, and nobody's ears.
    text = text.replace("0.0.0.0:8025", f"{HOST}:{port}")
    (tmp_path / "Containerfile").write_text(text)
    volume = f"{packages(tmp_path)}:/wheels:ro"
    isolated = ["--isolation", "chroot"]
    builder("bud", *isolated, "--volume", volume, "-t", "mailhandlers", ".")

    container = builder("from", "mailhandlers")
    config = json.loads(builder("inspect", container))["OCIv1"]["config"]
    assert config["Volumes"] == {"/mail": {}}
    command = [*config["Entrypoint"], *config["Cmd"], f"web={HOST}:{page}"]
    run = [*builder.command, "run", *isolated, container]
    with reservation, other, Process([*run, "--", *command]) as process:

        def greets() -> bool:
            assert process.poll() is None
            try:
                Client(port).close()
            except OSError:
                return False
            return True

        wait_until(greets)
        with Client(port) as client:
            assert client.send(HELLO) == "250 OK"
        [message] = get(f"http://{HOST}:{page}/api/messages").json()
        assert message["raw"] == HELLO.decode()
        answer = get(f"http://{HOST}:{page}/api/health", headers={"Host": "10.1.2.3:8026"})
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        # What the health check of the guide runs.
        builder("run", *isolated, container, "--", "mailhandlers", "ready", f"{HOST}:{port}")
        process.terminate()
        process.wait(PATIENCE)
