"""README.rst as a door: its first test is typed, its links lead somewhere. PyPI's page, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("docutils", reason="docutils reads README.rst")

from docutils import nodes
from markup import document, sections
from pages import ROOT

README = ROOT / "README.rst"
DESCRIPTION = ROOT / "docs/description.rst"  # what a package index shows


@pytest.mark.parametrize("page", [README, DESCRIPTION], ids=lambda page: page.name)
def test_docutils_has_nothing_to_say_of_it(page: Path) -> None:
    document(page, report_level=1)


def test_every_file_that_it_points_at_is_there() -> None:
    files = files_named_in(README)
    assert "docs/tutorial.rst" in files
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_the_page_of_a_package_index_points_at_no_file() -> None:
    assert files_named_in(DESCRIPTION) == []


def files_named_in(path: Path) -> list[str]:
    page = document(path)
    named = [node["refuri"] for node in page.findall(nodes.reference) if "refuri" in node]
    named += [image["uri"] for image in page.findall(nodes.image)]
    return [name for name in named if ":" not in name]


@pytest.mark.slow
def test_the_first_test_passes_the_strict_checks_of_mypy(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy checks the types")
    in_order = (block for section in sections(README) for block in section.blocks)
    test = tmp_path / "test_first.py"
    test.write_text(next(block.text for block in in_order if block.kind == "python"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", test],
        env={**os.environ, "MYPYPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
