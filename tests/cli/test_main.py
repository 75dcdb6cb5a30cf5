"""``mailhandlers`` alone, the help of each command, misuse, and what is imported."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from shell import mail, put, shell
from support import ALL_KINDS, PATIENCE

from mailhandlers import __version__, handlers
from mailhandlers.cli.main import COMMANDS, main
from mailhandlers.cli.printing import VIEWS
from mailhandlers.options import HANDLERS, OPTIONS


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
    assert list(HANDLERS) == [kind.handler for kind in ALL_KINDS]
    assert set(HANDLERS) == {kind.__name__ for kind in handlers.Handler.__subclasses__()}


def test_the_version() -> None:
    assert shell("--version").stdout == f"mailhandlers {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
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


MISUSES = {
    "no store": (["show"], "STORE"),
    "an unknown view": (["show", "inbox", "--print", "colour"], "invalid choice: 'colour'"),
    "a bad timeout": (["show", "inbox", "--timeout", "soon"], "'soon' is no number of seconds"),
    "an endless timeout": (["show", "inbox", "--timeout", "inf"], "'inf' is no number"),
    "a bad expression": (["list", "inbox", "--matching", "("], "'(' is no regular expression"),
    "a bad subject": (["show", "x", "--subject-matching", "["], "'[' is no regular expression"),
    "two subjects": (
        ["show", "inbox", "--subject", "x", "--subject-matching", "x"],
        "--subject-matching: not allowed with argument --subject",
    ),
    "nothing to print": (
        ["list", "inbox", "--none", "--json"],
        "--json: not allowed with argument --none",
    ),
    "no such option": (["list", "inbox", "--form", "x"], "--form"),
    "no such command": (["lst", "inbox"], "no command 'lst': choose from list, show"),
    "something else": (["list", "."], "holds something else than mail, such as"),
    "no place to copy to": (["copy", "inbox", "MaildirSink"], "PATH"),
    "no such handler": (["copy", ".", "Maildir", "copy"], "'Maildir'"),
    "no such source": (["copy", "inbox", "MboxSink", "x"], "inbox: nothing is there"),
    "a handler's misuse": (["copy", ".", "MboxSink", "x", "mode=9"], "'mode=9'"),
    "no address": (["ready", "localhost"], "'localhost' is no address"),
    "no port": (["ready", "localhost:70000"], "no address: write HOST:PORT"),
    "no process": (["ready", "1:1", "--pid", "x"], "no address|--pid"),
    "a process that can't be": (
        ["ready", "a:1", "--pid", "9" * 20],
        "is no number of a process",
    ),
    "no host": (["ready", "a..b:25"], "'a..b:25' is no address"),
    "no host of a relay": (
        ["send", "inbox", "--via", f"{'x' * 64}:25"],
        "no address: write HOST:PORT",
    ),
    "a timeout that no socket takes": (["ready", "1", "--timeout", "1e300"], "no number of"),
    "a criterion twice": (
        ["clear", "inbox", "--to", "a@x", "--to", "b@x"],
        "--to: it is given more than once",
    ),
    "no name of a store": (["clear", ""], "an empty text is no store"),
    "nobody who logs in": (
        ["send", "inbox", "--via", "localhost:25", "--user", ""],
        "--user is USER:PASSWORD",
    ),
}


@pytest.mark.parametrize(("arguments", "told"), MISUSES.values(), ids=MISUSES)
def test_misuse_is_told(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "cat.png").write_bytes(b"\x89PNG")
    monkeypatch.chdir(tmp_path)
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert any(words in said.err for words in told.split("|"))


IMPORTED = """
import sys
from mailhandlers.cli.main import main
status = main(sys.argv[1:])
servers = {"aiosmtpd", "asyncio", "ssl", "smtplib", "mailhandlers.handlers"}
print(status, sorted(servers & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "inbox"],
        *(["show", "inbox", "--print", view] for view in VIEWS),
        ["show", "inbox"],
        ["expect", "inbox", "--timeout", "0", "--", "true"],
        ["follow", "inbox", "--timeout", "0"],
        ["open", "inbox", "--output", "page.html"],
        ["attachments", "inbox", "folder"],
        ["clear", "inbox"],
        ["ready", "1", "--timeout", "0"],
        [],
    ],
    ids=" ".join,
)
def test_no_server_is_imported(arguments: list[str], tmp_path: Path) -> None:
    put(
        "MaildirSink",
        tmp_path / "inbox",
        mail("hi", "1234 http://x\n", html="x", files={"a.pdf": b""}),
    )
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTED, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    status, modules = ran.stderr.splitlines()[-1].split(" ", 1)
    assert modules == "[]"
    assert status == ("1" if arguments[:1] in (["expect"], ["ready"]) else "0")
