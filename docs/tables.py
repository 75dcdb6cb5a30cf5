"""Directives that show a table of the code: the options of handlers, the checks of a mail."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

from mailhandlers.message.problems import CHECKS
from mailhandlers.options import OPTIONS, Options


class Table(Directive):
    """A table whose cells are reStructuredText."""

    def table(self, widths: str, rows: list[tuple[str, ...]]) -> list[nodes.Node]:
        """Return the table of *rows*, of which the first is its head."""
        lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
        for row in rows:
            lines += [f"   {'*' if cell is row[0] else ' '} - {cell}" for cell in row]
        container = nodes.container()
        self.state.nested_parse(StringList(lines, __file__), self.content_offset, container)
        return container.children


class OptionsTable(Table):
    """Show each option: on the command line, in Python, and what it does."""

    def run(self) -> list[nodes.Node]:
        """Return the table; Sphinx calls this."""
        defaults = {field.name: field.default for field in fields(Options)}
        rows: list[tuple[str, ...]] = [("Option", "Keyword in Python", "Meaning")]
        for name, (keyword, option) in OPTIONS.items():
            default = f"0o{defaults[keyword]:o}" if name == "mode" else repr(defaults[keyword])
            shown = f":ref:`{name} <option-{name}>` ``={option.values}``"
            rows.append((shown, f"``{keyword}={default}``", option.help))
        return self.table("30 20 50", rows)


class ProblemsTable(Table):
    """Show each check of a mail: its name, what it says, and where that is written."""

    def run(self) -> list[nodes.Node]:
        """Return the table; Sphinx calls this."""
        rows: list[tuple[str, ...]] = [("Name", "What is said", "Source")]
        for check in CHECKS:
            source = f"`{check.source.title} <{check.source.url}>`__"
            needs = f" (with ``{check.needs}=``)" if check.needs else ""
            text = check.text.format(found="...")
            rows.append((f"``{check.name}``{needs}", text, source))
        return self.table("20 60 20", rows)


def setup(app: Any) -> dict[str, bool]:
    """Make the directives known; Sphinx calls this."""
    app.add_directive("options-table", OptionsTable)
    app.add_directive("problems-table", ProblemsTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
