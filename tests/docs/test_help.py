"""What ``help()`` says: the public names and no more, and of each what it takes."""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
from functools import cached_property
from types import FunctionType

import pytest

import mailhandlers
from mailhandlers.options import OPTIONS

PUBLIC = [getattr(mailhandlers, name) for name in mailhandlers.__all__]
CLASSES = [thing for thing in PUBLIC if inspect.isclass(thing)]
HANDLERS = [kind for kind in CLASSES if hasattr(kind, "handle_DATA")]
DESCRIBED = (FunctionType, property, classmethod, cached_property)
RECORDS = [mailhandlers.Envelope, mailhandlers.Mail, mailhandlers.Reply]


def shown(name: str) -> str:
    """Return what ``pydoc`` shows of *name*, in a process that has imported nothing."""
    command = [sys.executable, "-m", "pydoc", name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def members(kind: type) -> list[tuple[str, object]]:
    """Return the public attributes that a class of ours defines, and not its foreign bases."""
    return [
        (name, value)
        for base in kind.__mro__
        if base.__module__.startswith("mailhandlers")
        for name, value in vars(base).items()
        if not name.startswith("_")
    ]


def test_help_shows_the_public_names_and_no_more() -> None:
    text = shown("mailhandlers")
    sections = dict(re.findall(r"^([A-Z ]+)\n((?:    .*\n|\n)+)", text, re.MULTILINE))
    assert set(sections) == {
        "NAME",
        "DESCRIPTION",
        "PACKAGE CONTENTS",  # its files: pydoc always lists them
        "CLASSES",
        "FUNCTIONS",
        "VERSION",
        "FILE",
    }
    classes = re.findall(r"^    class (\w+)\(", sections["CLASSES"], re.MULTILINE)
    functions = re.findall(r"^    (\w+)\(", sections["FUNCTIONS"], re.MULTILINE)
    assert sorted(classes + functions) == sorted(mailhandlers.__all__)
    for name in mailhandlers.__all__:
        assert name in sections["DESCRIPTION"]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_all_that_is_public_is_described(kind: type) -> None:
    assert inspect.getdoc(kind)
    for name, value in members(kind):
        if inspect.isroutine(value) or isinstance(
            value, property | classmethod | cached_property
        ):
            assert inspect.getdoc(getattr(kind, name)), f"{kind.__name__}.{name}"


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_the_fields_of_a_record_are_described(kind: type) -> None:
    described = re.findall(r"^``(\w+)`` \(", inspect.getdoc(kind) or "", re.MULTILINE)
    fields = getattr(kind, "_fields", None) or [f.name for f in dataclasses.fields(kind)]
    assert described == list(fields)


@pytest.mark.parametrize("kind", HANDLERS, ids=lambda kind: kind.__name__)
def test_help_of_a_handler_describes_each_option(kind: type) -> None:
    text = shown(f"mailhandlers.{kind.__name__}")
    described = re.findall(r"^ \|      ``(\w+)``", text, re.MULTILINE)
    assert described == [keyword for keyword, _ in OPTIONS.values()]
    for _, option in OPTIONS.values():
        assert option.help in text
