"""The pages of the reference name all that there is, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import aiosmtpd.smtp
import pytest

import mailhandlers
from mailhandlers.cli.main import COMMANDS
from mailhandlers.cli.printing import VIEWS
from mailhandlers.options import OPTIONS

REFERENCE = Path(__file__).parents[2] / "docs/reference"


def page(name: str) -> str:
    return (REFERENCE / f"{name}.rst").read_text()


def test_each_option_has_a_section() -> None:
    described = re.findall(r"^\.\. _option-(\w+):\n\n\1\n~+\n", page("options"), re.MULTILINE)
    assert described == list(OPTIONS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_of_the_shell_has_each_option_of_a_command(name: str) -> None:
    command = [sys.executable, "-m", "mailhandlers", name, "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # What comes before the next title.
    behind = page("shell").partition(f"\n{name}\n---")[2]
    section = re.split(r"^.+\n-+\n", behind, maxsplit=1, flags=re.MULTILINE)[0]
    listed = re.search(r"^Options: (.*?)\.$", section, re.MULTILINE | re.DOTALL)
    described = re.findall(r"--[a-z-]+", listed[1]) if listed else []
    assert set(described) == set(re.findall(r"--[a-z-]+\b", shown)) - {"--help"}


def test_the_page_of_the_shell_has_all_commands_and_all_that_can_be_printed() -> None:
    described = re.findall(r"^([a-z]+)\n-+\n", page("shell"), re.MULTILINE)
    assert described == list(COMMANDS)
    table = page("shell").partition("What ``--print`` takes")[2].partition("A terminal gets")[0]
    assert re.findall(r"^   \* - ``(\w+)``", table, re.MULTILINE) == list(VIEWS)


def test_the_page_of_the_http_api_has_all_requests() -> None:
    api = pytest.importorskip("mailhandlers.web.api", reason="the page needs its packages")
    paths = api.OPENAPI["paths"]
    there = {f"{method.upper()} {path}" for path in paths for method in paths[path]}
    described = re.findall(r"^   \* - ``([A-Z]+ /[\w/]+)``", page("http-api"), re.MULTILINE)
    named = {
        request.replace("/ID", "/{id}").replace("/N", "/{number}") for request in described
    }
    assert named == there


def test_the_tests_that_a_page_names_are_there() -> None:
    for page_name in ("promises", "how-it-is-built"):
        text = (REFERENCE.parent / f"{page_name}.rst").read_text()
        named = re.findall(r"``(?:tests/)?((?:\w+/)?test_\w+\.py)(?:::(\w+))?``", text)
        assert named
        for file, name in named:
            code = (REFERENCE.parents[1] / "tests" / file).read_text()
            assert not name or re.search(rf"^(async )?def {name}\(", code, re.MULTILINE), name


def test_the_messages_on_the_page_of_errors_are_those_of_the_code() -> None:
    files = [*Path(mailhandlers.__file__).parent.rglob("*.py"), Path(aiosmtpd.smtp.__file__)]
    code = " ".join(file.read_text() for file in files)
    # A message may go on in the next line, and may name something.
    code = re.sub(r"""["']\s*\)?\n\s*f?["']|\{[^}\n]*\}|%s|%d""", "", code)
    quoted = re.findall(r"^   \* - (``(?:.|\n)+?``)\n     -", page("errors"), re.MULTILINE)
    messages = [text for cell in quoted for text in re.findall("``(.+?)``", cell)]
    assert len(messages) > 30
    for message in messages:
        parts = re.split(r"\b(?:[A-Z]{2,}\b|N\b)|\.\.\.|'colour'|: |sync, |PATH\.torn", message)
        longest = max(parts, key=len).strip(" :;'[=")
        assert longest in code, message
