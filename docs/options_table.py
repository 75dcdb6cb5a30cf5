"""The directive ``options-table``: the options of all handlers, from the table in the code."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

from mailhandlers.options import OPTIONS, Options

_WIDTHS = "30 20 50"


class OptionsTable(Directive):
    """Show each option: on the command line, in Python, and what it does."""

    def run(self) -> list[nodes.Node]:
        """Return the table; Sphinx calls this."""
        defaults = {field.name: field.default for field in fields(Options)}
        lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {_WIDTHS}", ""]
        rows = [("Option", "Keyword in Python", "Meaning")]
        for name, (keyword, option) in OPTIONS.items():
            default = f"0o{defaults[keyword]:o}" if name == "mode" else repr(defaults[keyword])
            shown = f":ref:`{name} <option-{name}>` ``={option.values}``"
            rows.append((shown, f"``{keyword}={default}``", option.help))
        for row in rows:
            lines += [f"   {'*' if cell is row[0] else ' '} - {cell}" for cell in row]
        return self.parse(lines)

    def parse(self, lines: list[str]) -> list[nodes.Node]:
        """Return what the *lines* of reStructuredText say."""
        container = nodes.container()
        self.state.nested_parse(StringList(lines, __file__), self.content_offset, container)
        return container.children


def setup(app: Any) -> dict[str, bool]:
    """Make the directive known; Sphinx calls this."""
    app.add_directive("options-table", OptionsTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
