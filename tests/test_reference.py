"""The pages of the reference name all that there is, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from mailhandlers.options import OPTIONS

REFERENCE = Path(__file__).parents[1] / "docs/reference"


def page(name: str) -> str:
    return (REFERENCE / f"{name}.rst").read_text()


def test_each_option_has_a_section() -> None:
    described = re.findall(r"^\.\. _option-(\w+):\n\n\1\n~+\n", page("options"), re.MULTILINE)
    assert described == list(OPTIONS)
