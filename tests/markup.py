"""The sections of a page in reStructuredText, and the blocks of code in each.

docutils reads the pages. What Sphinx adds to it is known by name here and means nothing.
"""

from __future__ import annotations

import configparser
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from docutils import nodes
from docutils.core import publish_doctree
from docutils.parsers.rst import Directive, directives, roles

ROLES = ("doc", "ref", "class", "func", "meth", "attr", "mod", "exc", "term", "option")
DIRECTIVES = (
    "toctree",
    "automodule",
    "autoclass",
    "autofunction",
    "autoexception",
    "options-table",
    "problems-table",
)


class Block(NamedTuple):
    """A block of code, or a comment that concerns one."""

    kind: str
    text: str


class Section(NamedTuple):
    """A title, and what stands in order below it up to the next one."""

    title: str
    blocks: list[Block]


class _OfSphinx(Directive):
    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Callable[[str], Any]] | None] = defaultdict(
        lambda: directives.unchanged
    )

    def run(self) -> list[nodes.Node]:
        return []


for _name in ROLES:
    roles.register_generic_role(_name, nodes.inline)
for _name in DIRECTIVES:
    directives.register_directive(_name, _OfSphinx)


def document(page: Path, report_level: int = 2) -> nodes.document:
    """Return the page as docutils has it; raise where that has something to report."""
    settings = {
        "syntax_highlight": "none",
        "report_level": report_level,
        "halt_level": report_level,
    }
    parsed: nodes.document = publish_doctree(
        page.read_text(), source_path=str(page), settings_overrides=settings
    )
    return parsed


def sections(page: Path) -> list[Section]:
    """Return the sections of *page* in which there is a block of code."""
    found: list[Section] = []
    of: nodes.Element | None = None
    for section, block in _blocks(document(page)):
        if block == Block("comment", "continues"):
            assert found, f"{page}: no section with a block comes before this one"
        elif section is not of:
            heading = section.next_node(nodes.title)
            assert heading is not None, f"{page} has no title"
            found.append(Section(heading.astext(), []))
        of = section
        if block != Block("comment", "continues"):
            found[-1].blocks.append(block)
    return [s for s in found if any(block.kind != "comment" for block in s.blocks)]


def _blocks(page: nodes.document) -> Iterator[tuple[nodes.Element, Block]]:
    for node in page.findall():
        if not isinstance(node, nodes.literal_block | nodes.comment):
            continue
        section: nodes.Element = node.parent
        while not isinstance(section, nodes.section | nodes.document):
            section = section.parent
        kind = "comment"
        if isinstance(node, nodes.literal_block):
            kind = next((name for name in node["classes"] if name != "code"), "text")
        yield section, Block(kind, node.astext())


def parse(kind: str, text: str) -> None:
    """Raise where *text* is none of the *kind* that it is said to be."""
    if kind == "json":
        json.loads(text)
    elif kind == "ini":
        configparser.ConfigParser(interpolation=None, strict=False).read_string(text)
    elif kind == "toml" and sys.version_info >= (3, 11):
        import tomllib

        tomllib.loads(text)
