"""The fixtures ``mailcatcher`` and ``mailserver``: an SMTP server for tests, and its inbox.

pytest finds this module by its entry point, in every run on this machine: nothing of ours is
imported before a test uses a fixture, not even asyncio.
"""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Iterator, Sequence
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from .catcher import MailCatcher
    from .smtp.servers import Address

_HOST = "127.0.0.1"
_MOST_SHOWN = 20


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini options ``mailcatcher`` and ``mailcatcher_env``."""
    parser.addini(
        "mailcatcher",
        "The handler of the mailcatcher fixture and its options, as on aiosmtpd's command "
        "line but without the path: MaildirSink, or JsonLines auth=any tls=starttls",
        type="args",
        default=["MaildirSink"],
    )
    parser.addini(
        "mailcatcher_env",
        "Lines NAME=text with {host} and {port}: environment variables, for programs that "
        "read their settings when they are imported",
        type="linelist",
        default=[],
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    """Set the variables of ``mailcatcher_env``, before any conftest imports a program.

    A wrapper, since pytest-django imports the settings of Django here, too.
    """
    if lines := early_config.getini("mailcatcher_env"):
        _set_variables(early_config, lines)
    yield


def _set_variables(config: pytest.Config, lines: Sequence[str]) -> None:
    # Others can't have the port of a socket that is bound, though it doesn't listen yet.
    reserved = socket.socket()
    config.add_cleanup(reserved.close)
    reserved.bind((_HOST, 0))
    config.stash[_RESERVED] = reserved
    port = str(reserved.getsockname()[1])
    for line in lines:
        name, equals, text = (part.strip() for part in line.partition("="))
        if not equals or not name:
            raise pytest.UsageError(
                f"mailcatcher_env: {line!r} is not NAME=text, such as SMTP_PORT={{port}}"
            )
        config.add_cleanup(partial(_restore, name, os.environ.get(name)))
        os.environ[name] = text.replace("{host}", _HOST).replace("{port}", port)
    config.pluginmanager.register(_listening_always())


def _listening_always() -> ModuleType:
    """Return a plugin for a run with ``mailcatcher_env``: it listens from the first test on.

    Else the mail of a test without the fixture would get 451 or no connection, depending on
    the tests that came before.
    """

    @pytest.fixture(scope="session", autouse=True)
    def _mailcatcher_env(mailserver: Address) -> None:
        """Take the address into use."""

    plugin = ModuleType("mailcatcher_env")
    vars(plugin)["_mailcatcher_env"] = _mailcatcher_env
    return plugin


def _restore(name: str, value: str | None) -> None:
    os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker ``mailcatcher`` known."""
    config.addinivalue_line(
        "markers",
        "mailcatcher(*args, **options): the handler of the mailcatcher fixture, with options "
        "as strings of the command line or as keywords, tls among them: "
        'mailcatcher("JsonLines", auth="any", tls="starttls")',
    )


@pytest.fixture(scope="session")
def _mailcatcher_loop() -> Iterator[None]:
    """Keep the thread of all servers from one test to the next."""
    from .smtp.loops import LOOP

    LOOP.hold()
    yield
    LOOP.release()


@pytest.fixture(scope="session")
def mailserver(request: pytest.FixtureRequest, _mailcatcher_loop: None) -> Iterator[Address]:
    """Keep one ``host`` and ``port`` as long as the session, for each xdist worker its own.

    The ``mailcatcher`` of each test listens there, with a store of its own. Mail that
    comes when none does gets 451.
    """
    from .smtp.servers import Address

    reserved = request.config.stash.get(_RESERVED, None)
    with Address(reserved or socket.create_server((_HOST, 0))) as address:
        yield address


@pytest.fixture
def mailcatcher_tls() -> ssl.SSLContext | None:
    """Offer no STARTTLS: override this fixture to return the context that offers it."""
    return None


@pytest.fixture
def mailcatcher(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    mailcatcher_tls: ssl.SSLContext | None,
    _mailcatcher_loop: None,
) -> Iterator[MailCatcher]:
    """Run an SMTP server for the test; the fixture is its inbox, with ``host`` and ``port``."""
    chosen: list[str] = request.config.getini("mailcatcher")
    marker = request.node.get_closest_marker("mailcatcher") or pytest.mark.mailcatcher.mark
    # Without a name, the marker adds options to the handler of the ini file.
    if not _names_handler(chosen):
        chosen = ["MaildirSink", *chosen]
    args = [*marker.args] if _names_handler(marker.args) else [*chosen, *marker.args]
    try:
        catcher = _catcher(tmp_path, mailcatcher_tls, *args, **marker.kwargs)
    except (TypeError, ValueError) as error:
        pytest.fail(f"mailcatcher: {error}", pytrace=False)
    if "mailserver" in request.fixturenames or _RESERVED in request.config.stash:
        address: Address = request.getfixturevalue("mailserver")
        catcher.listen_at(address)
    request.node.stash[_CATCHER] = catcher
    with catcher:
        yield catcher


def _names_handler(args: Sequence[str]) -> bool:
    return bool(args) and "=" not in args[0]


def _catcher(
    folder: Path, context: ssl.SSLContext | None, name: str, *args: str, **options: Any
) -> MailCatcher:
    import mailhandlers

    from .options import HANDLERS

    if name not in HANDLERS:
        raise ValueError(f"there is no handler {name!r}: choose from {', '.join(HANDLERS)}")
    tls: Any = context
    for arg in args:  # an option of the catcher, not of the handler
        if arg.startswith("tls="):
            tls = arg.removeprefix("tls=")
    tls = options.pop("tls", tls)
    others = [arg for arg in args if not arg.startswith("tls=")]
    make = getattr(mailhandlers, name).from_args
    handler = make(str(folder / "mailcatcher"), "sync=no", *others, **options)
    return mailhandlers.MailCatcher(handler, tls=tls)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Add to the report of a test that failed what its mailcatcher caught."""
    outcome: Any = yield
    report: pytest.TestReport = outcome.get_result()
    catcher = item.stash.get(_CATCHER, None)
    if report.when == "call" and report.failed and catcher is not None:
        report.sections.append(("mail caught", _caught(catcher)))


def _caught(catcher: MailCatcher) -> str:
    from .inbox.misses import line_of
    from .message.visible import visible_line
    from .stores.store import StoreError

    try:
        lines = [
            f"from {visible_line(message.envelope.mail_from)} {line_of(message)}"
            for message in catcher
        ]
    except (StoreError, OSError) as error:
        return str(error)
    if not lines:
        return f"none; {catcher.explain()}"
    if len(lines) > _MOST_SHOWN:
        lines = [f"... {len(lines) - _MOST_SHOWN} before these", *lines[-_MOST_SHOWN:]]
    # In these quotes for every shell: shlex's are none to cmd.exe.
    path = os.fspath(catcher.path)
    path = path if shlex.quote(path) == path else f'"{path}"'
    look = f"mailhandlers web {path}"
    return "\n".join([*lines, f"kept in {catcher.path}; to look at it: {look}"])


_RESERVED = pytest.StashKey[socket.socket]()
_CATCHER: pytest.StashKey[MailCatcher] = pytest.StashKey()


def __getattr__(name: str) -> Any:
    if name == "MailCatcher":  # where it was in 1.0
        from .catcher import MailCatcher

        return MailCatcher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
