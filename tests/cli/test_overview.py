"""``mailhandlers`` alone, and the help of each command."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from shell import shell
from support import KINDS, PATIENCE

from mailhandlers import __version__, handlers
from mailhandlers.cli.main import COMMANDS, main
from mailhandlers.options import HANDLERS, OPTIONS

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
    assert list(HANDLERS) == [kind.handler for kind in KINDS]
    assert set(HANDLERS) == {kind.__name__ for kind in handlers.Handler.__subclasses__()}


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


WITHOUT = """
import sys
sys.modules[sys.argv.pop(1)] = None
from mailhandlers.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_web_tells_what_to_install() -> None:
    web = run_without("uvicorn", "web", "inbox")
    assert web.returncode == 2
    assert web.stderr == (
        "mailhandlers: web needs more packages: pip install 'mailhandlers[web]'\n"
    )


def test_a_module_of_ours_that_is_missing_is_no_package_to_install() -> None:
    web = run_without("mailhandlers.web.app", "web", "inbox")
    assert web.returncode == 1
    assert "ModuleNotFoundError" in web.stderr


def run_without(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``mailhandlers`` in a Python that has no *module*."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, module, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
