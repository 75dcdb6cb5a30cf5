"""One address for a session, environment variables and reports: in pytest runs of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import PATIENCE, run_pytest

# A program that reads its settings once, when it is imported.
SHOP = """
import os, smtplib

HOST, PORT = os.environ["SHOP_SMTP"].split(":")

def welcome(to, subject="Welcome"):
    with smtplib.SMTP(HOST, int(PORT)) as client:
        client.sendmail("shop@example.com", [to], f"Subject: {subject}\\n\\nHi")
"""
INI = "[pytest]\nmailcatcher_env =\n  SHOP_SMTP = {host}:{port}\n"
IMPORTS = "import smtplib, pytest\nfrom smtplib import SMTP\nimport shop\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project whose conftest imports a program that reads its settings once."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "conftest.py").write_text("import shop\n")
    (tmp_path / "pytest.ini").write_text(INI)
    return tmp_path


def run(folder: Path, code: str, *args: str) -> str:
    (folder / "test_it.py").write_text(IMPORTS + code)
    return run_pytest(folder, *args, "test_it.py")


def test_a_program_that_reads_its_settings_once(folder: Path) -> None:
    code = """
ports = set()

@pytest.mark.parametrize("number", range(4))
def test_own_store(mailcatcher, tmp_path, number):
    shop.welcome("bob@example.com", f"mail {number}")
    assert [m["Subject"] for m in mailcatcher] == [f"mail {number}"]
    assert mailcatcher.path.startswith(str(tmp_path))
    ports.add(mailcatcher.port)

def test_one_address():
    assert ports == {int(shop.PORT)}
"""
    assert " 5 passed" in run(folder, code)


def test_each_worker_has_an_address_of_its_own(folder: Path) -> None:
    pytest.importorskip("xdist")
    code = """
@pytest.mark.parametrize("number", range(12))
def test_own(mailcatcher, number):
    shop.welcome("bob@example.com", f"mail {number}")
    assert [m["Subject"] for m in mailcatcher] == [f"mail {number}"]
"""
    assert " 12 passed" in run(folder, code, "-n", "2")


@pytest.mark.slow
def test_mail_between_the_tests_is_refused_for_now(folder: Path) -> None:
    code = """
def test_one(mailcatcher):
    shop.welcome("bob@example.com")

def test_nobody_listens():
    with pytest.raises(smtplib.SMTPSenderRefused) as refused:
        shop.welcome("bob@example.com", "lost")
    assert refused.value.smtp_code == 451
    assert refused.value.smtp_error.startswith(b"4.3.2")

def test_two(mailcatcher):
    assert list(mailcatcher) == []
"""
    assert " 3 passed" in run(folder, code)


@pytest.mark.slow
def test_a_connection_of_an_earlier_test_ends_with_it(folder: Path) -> None:
    code = """
kept = []

def test_keeps(mailcatcher):
    client = smtplib.SMTP(mailcatcher.host, mailcatcher.port)
    client.ehlo()
    client.mail("eva@example.com")
    kept.append(client)

def test_next(mailcatcher):
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionResetError)):
        kept[0].rcpt("bob@example.com")
        kept[0].data("Subject: leaked\\n\\nHi")
    kept.pop().close()
    assert list(mailcatcher) == []
"""
    assert " 2 passed" in run(folder, code)


@pytest.mark.slow
def test_an_address_without_any_variables(tmp_path: Path) -> None:
    (tmp_path / "shop.py").touch()
    code = """
@pytest.fixture(scope="session")
def program(mailserver):
    return mailserver.host, mailserver.port

def test_one(program, mailcatcher):
    assert program == (mailcatcher.host, mailcatcher.port)
    with SMTP(*program) as client:
        client.sendmail("eva@example.com", ["bob@example.com"], "Subject: one\\n\\nHi")
    assert mailcatcher.latest()["Subject"] == "one"

def test_two(program, mailcatcher):
    assert program == (mailcatcher.host, mailcatcher.port)
    assert list(mailcatcher) == []
    mailcatcher.stop()
    with SMTP(*program) as client:
        client.ehlo()
        assert client.mail("eva@example.com")[0] == 451
    mailcatcher.start()
    assert program == (mailcatcher.host, mailcatcher.port)
"""
    assert " 2 passed" in run(tmp_path, code)


@pytest.mark.slow
@pytest.mark.parametrize("line", ["SHOP_SMTP", "= {port}", "{host}:{port}"])
def test_a_bad_line_is_told_in_a_sentence(folder: Path, line: str) -> None:
    (folder / "pytest.ini").write_text(f"[pytest]\nmailcatcher_env =\n  A = 1\n  {line}\n")
    told = run(folder, "def test_x(): pass")
    assert told.splitlines() == [
        f"ERROR: mailcatcher_env: {line!r} is not NAME=text, such as SMTP_PORT={{port}}",
        "",
    ]


@pytest.mark.slow
def test_the_address_of_the_environment_answers_from_the_first_test_on(folder: Path) -> None:
    code = """
def test_mail_that_nobody_waits_for():
    with pytest.raises(smtplib.SMTPSenderRefused, match="451"):
        shop.welcome("bob@example.com", "lost")

from hypothesis import given, strategies

@given(strategies.none())
def test_a_property(none):  # hypothesis warns of fixtures that are made for each test
    pass
"""
    assert " 2 passed" in run(folder, code)


@pytest.mark.slow
def test_the_environment_is_as_before(folder: Path) -> None:
    (folder / "test_it.py").write_text(
        "import os\ndef test_x(mailcatcher): os.environ['OF_A_TEST'] = 'stays'\n"
    )
    ini = "[pytest]\nmailcatcher_env =\n  SHOP_SMTP={host}:{port}\n  HOME={port}\n"
    (folder / "pytest.ini").write_text(ini)
    code = (
        "import os, pytest\n"
        "os.environ.pop('PYTEST_CURRENT_TEST')  # pytest's own, which it replaces\n"
        "before = dict(os.environ)\n"
        "pytest.main(['-q', '-p', 'no:cacheprovider', '-p', 'no:asyncio'])\n"
        "print(dict(os.environ) == before | {'OF_A_TEST': 'stays'}, 'SHOP_SMTP' in before)"
    )
    told = subprocess.check_output(
        [sys.executable, "-W", "error", "-c", code], cwd=folder, text=True, timeout=PATIENCE
    )
    assert told.splitlines()[-1] == "True False"


@pytest.mark.slow
def test_tls_by_marker_and_for_all(tmp_path: Path) -> None:
    pytest.importorskip("trustme")
    (tmp_path / "shop.py").touch()
    (tmp_path / "pytest.ini").write_text("[pytest]\nmailcatcher = JsonLines tls=required\n")
    code = """
import ssl

def features(mailcatcher):
    with SMTP(mailcatcher.host, mailcatcher.port) as client:
        client.ehlo()
        if client.has_extn("starttls"):
            client.starttls(context=ssl.create_default_context(cafile=mailcatcher.ca_file))
            client.ehlo()
        return client.mail("eva@example.com")[0]

def test_ini(mailcatcher):
    with SMTP(mailcatcher.host, mailcatcher.port) as client:
        client.ehlo()
        assert client.mail("eva@example.com")[0] == 530
    assert features(mailcatcher) == 250
    assert type(mailcatcher.handler).__name__ == "JsonLines"

@pytest.mark.mailcatcher(tls="smtps")
def test_keyword(mailcatcher):
    context = ssl.create_default_context(cafile=mailcatcher.ca_file)
    with smtplib.SMTP_SSL(mailcatcher.host, mailcatcher.port, context=context) as client:
        assert client.noop()[0] == 250

@pytest.mark.mailcatcher("MaildirSink", "tls=starttls", "auth=any")
def test_string(mailcatcher):
    with SMTP(mailcatcher.host, mailcatcher.port) as client:
        client.ehlo()
        assert client.mail("eva@example.com")[0] == 250

@pytest.mark.mailcatcher(tls=None)
def test_without(mailcatcher):
    with SMTP(mailcatcher.host, mailcatcher.port) as client:
        client.ehlo()
        assert not client.has_extn("starttls")

@pytest.mark.mailcatcher("tls=ssl")
def test_misuse(mailcatcher):
    pass
"""
    told = run(tmp_path, code)
    assert " 4 passed, 1 error" in told
    assert "mailcatcher: tls is 'starttls', 'required', 'smtps' or an ssl.SSLContext" in told


@pytest.mark.slow
def test_a_test_that_fails_tells_what_was_caught(folder: Path) -> None:
    code = """
@pytest.fixture
def outbox(mailcatcher):
    return mailcatcher

def test_some(mailcatcher):
    for to in ("bob", "carol"):
        shop.welcome(f"{to}@example.com", "Your \\x07 order")
    assert False

def test_none(outbox):
    assert False

def test_many(mailcatcher):
    for number in range(25):
        shop.welcome("bob@example.com", f"mail {number}")
    assert False

def test_passes(mailcatcher):
    shop.welcome("dave@example.com")
"""
    told = run(folder, code)
    assert " 3 failed, 1 passed" in told
    some, none, many = told.split("- mail caught -")[1:]
    assert "from shop@example.com to bob@example.com: 'Your \\x07 order'" in some
    assert "to carol@example.com" in some
    assert "kept in " in some
    assert "none; nobody connected to 127.0.0.1:" in none
    assert "... 5 before these" in many
    assert "'mail 4'" not in many
    assert "'mail 24'" in many
    assert "dave@example.com" not in told


@pytest.mark.slow
def test_a_test_that_fails_before_it_begins_is_reported_as_it_is(folder: Path) -> None:
    code = """
@pytest.fixture
def broken(mailcatcher):
    shop.welcome("bob@example.com")
    raise ZeroDivisionError

def test_setup(broken):
    pass

@pytest.fixture
def other():
    raise ZeroDivisionError

def test_before_the_server(other, mailcatcher):
    pass

def test_skipped(mailcatcher):
    pytest.skip()
"""
    told = run(folder, code)
    assert " 1 skipped, 2 errors" in told
    assert "INTERNALERROR" not in told
    assert "mail caught" not in told


@pytest.mark.slow
def test_a_fixture_of_the_same_name_is_nobody_elses_business(tmp_path: Path) -> None:
    (tmp_path / "shop.py").touch()
    code = """
@pytest.fixture
def mailcatcher():
    return "mine"

def test_x(mailcatcher):
    assert mailcatcher == "ours"
"""
    told = run(tmp_path, code)
    assert " 1 failed" in told
    assert "INTERNALERROR" not in told


@pytest.mark.slow
def test_nothing_is_imported_until_a_fixture_is_used(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import sys\n"
        "def pytest_unconfigure(config):\n"
        "    heavy = ('aiosmtpd', 'asyncio', 'ssl', 'mailhandlers.message')\n"
        "    print('imported:', [name for name in heavy if name in sys.modules])\n"
    )
    (tmp_path / "test_it.py").write_text("def test_x(): pass")
    told = subprocess.check_output(
        [sys.executable, "-W", "error", "-m", "pytest", "-p", "mailcatcher", "-s"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        text=True,
        timeout=PATIENCE,
    )
    assert "plugins: mailhandlers-" in told
    assert "imported: []" in told
