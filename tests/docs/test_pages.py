"""Every block of README.rst and of each page of ``docs``, run: pages.py says how."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("docutils", reason="docutils reads the pages")

from elsewhere import installs
from markup import Block, Section, sections
from pages import ROOT, Reader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PAGES = [ROOT / "README.rst", *sorted((ROOT / "docs").rglob("*.rst"))]
SECTIONS = {
    f"{page.relative_to(ROOT).with_suffix('')}: {section.title}": section
    for page in PAGES
    for section in sections(page)
}
CONTAINERFILES = [
    block.text
    for section in SECTIONS.values()
    for block in section.blocks
    if block.kind == "docker"
]


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where pip reaches no index of packages."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--retries=0",
        "--no-deps",
        "aiosmtpd",
    ]
    folder = tmp_path_factory.mktemp("index")
    if subprocess.run([*command, "-d", folder], capture_output=True).returncode:
        pytest.skip("pip reaches no index of packages here")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with Reader(tmp_path) as somebody:
        yield somebody


@pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS)
def test_section(section: Section, reader: Reader, request: pytest.FixtureRequest) -> None:
    if installs(section):
        request.getfixturevalue("index")
    reader.read(section)


@pytest.mark.parametrize("text", CONTAINERFILES)
def test_containerfile_starts_the_server(text: str, reader: Reader) -> None:
    steps = dict(line.split(" ", 1) for line in text.splitlines())
    assert list(steps) == ["FROM", "RUN", "VOLUME", "EXPOSE", "ENTRYPOINT", "CMD"]
    words = json.loads(steps["ENTRYPOINT"]) + json.loads(steps["CMD"])
    command = shlex.join(words).replace("/mail/", f"{reader.folder}/")
    reader.follow(Block("comment", "stays: it is a server"))
    reader.follow(Block("shell", command))
    reader.follow(Block("comment", "mail arrives"))
    assert list(reader.folder.glob("inbox/new/*"))


def test_sections_have_titles_of_their_own() -> None:
    assert len(SECTIONS) == sum(len(sections(page)) for page in PAGES)
