"""``mailhandlers`` alone, and the help of each command."""

from __future__ import annotations

import re
import sys

import pytest
from shell import shell
from support import KINDS

from mailhandlers import __version__, handlers
from mailhandlers.cli.commands import COMMANDS
from mailhandlers.cli.main import main
from mailhandlers.cli.overview import HANDLERS
from mailhandlers.options import OPTIONS

BUILT = [name for name in COMMANDS if name != "web"]


def test_alone_it_prints_commands_handlers_and_options() -> None:
    alone = shell()
    assert (alone.returncode, alone.stderr) == (0, "")
    assert alone.stdout == shell("--help").stdout == shell("-h").stdout
    for name in [*COMMANDS, *HANDLERS]:
        assert f"\n  {name} " in alone.stdout
    for name, (_, option) in OPTIONS.items():
        assert f"\n  {name}={option.values}" in alone.stdout
    assert all(len(line) <= 80 and line == line.rstrip() for line in alone.stdout.splitlines())


def test_the_handlers_are_all_there() -> None:
    names = [words.split()[0] for words in HANDLERS]
    assert names == [kind.handler for kind in KINDS]
    assert set(names) == {kind.__name__ for kind in handlers.Handler.__subclasses__()}


def test_the_version() -> None:
    assert shell("--version").stdout == f"mailhandlers {__version__}\n"


@pytest.mark.parametrize("name", BUILT)
def test_each_command_has_help_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert COMMANDS[name].help in told
    assert told.endswith(f"example:\n  mailhandlers {COMMANDS[name].example}\n")
    assert re.match(rf"usage: mailhandlers {name} ", told)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_is_of_its_command(name: str) -> None:
    assert COMMANDS[name].example.startswith(f"{name} ")


def test_web_tells_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mailhandlers.cli.web", None)
    assert main(["web", "inbox"]) == 2
    assert "pip install 'mailhandlers[web]'" in capsys.readouterr().err
