"""The mail of real programs in the tests of real frameworks, each in a process of its own.

Each program sends a welcome; each test looks at it. Warnings are errors.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import PATIENCE, run_pytest

pytestmark = pytest.mark.slow

# Django

SETTINGS = """
import os
SECRET_KEY = "x"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "urls"
STATIC_URL = "static/"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
EMAIL_HOST = os.environ.get("SHOP_HOST", "localhost")
EMAIL_PORT = int(os.environ.get("SHOP_PORT", "25"))
"""
URLS = """
from django.core.mail import send_mail
from django.http import HttpResponse
from django.urls import path

def sign_up(request):
    send_mail("Welcome", "Hi", "shop@example.com", [request.GET["to"]])
    return HttpResponse("Look into your mail")

urlpatterns = [path("sign-up", sign_up)]
"""
MANAGE = """
import os, sys
from django.core.management import execute_from_command_line
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
execute_from_command_line(sys.argv)
"""
PYTEST_DJANGO = """
import urllib.request
import pytest

@pytest.mark.parametrize("name", ["bob", "carol"])
def test_sign_up(live_server, settings, mailcatcher, name):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    with mailcatcher.expect(to=f"{name}@example.com") as expected:
        urllib.request.urlopen(f"{live_server.url}/sign-up?to={name}@example.com").close()
    assert expected.message["Subject"] == "Welcome"
    assert len(mailcatcher) == 1
"""
MANAGE_TEST = """
from django.test import TestCase, override_settings
from mailhandlers import MailCatcher

SMTP = "django.core.mail.backends.smtp.EmailBackend"

class SignUp(TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.mail = MailCatcher()
        cls.mail.start()
        cls.addClassCleanup(cls.mail.stop)

    def setUp(self):
        self.mail.clear()

    def sign_up(self, to, **settings):
        with self.settings(EMAIL_HOST=self.mail.host, EMAIL_PORT=self.mail.port, **settings):
            self.client.get("/sign-up", {"to": to})

    def test_one(self):
        self.sign_up("bob@example.com", EMAIL_BACKEND=SMTP)
        self.assertEqual(self.mail.latest(to="bob@example.com")["Subject"], "Welcome")

    def test_two(self):
        self.sign_up("carol@example.com", EMAIL_BACKEND=SMTP)
        self.assertEqual([m.envelope.rcpt_tos for m in self.mail], [["carol@example.com"]])

    def test_of_the_backend_of_tests(self):
        self.sign_up("bob@example.com")
        with self.assertRaisesRegex(LookupError, "nobody connected .* Django's locmem"):
            self.mail.latest()
"""


@pytest.fixture
def django(tmp_path: Path) -> Path:
    """A folder with a project of Django."""
    pytest.importorskip("django", reason="Django is not installed")
    (tmp_path / "settings.py").write_text(SETTINGS)
    (tmp_path / "urls.py").write_text(URLS)
    (tmp_path / "manage.py").write_text(MANAGE)
    return tmp_path


def test_django_and_its_live_server_under_pytest(django: Path) -> None:
    pytest.importorskip("pytest_django", reason="pytest-django is not installed")
    (django / "pytest.ini").write_text(
        "[pytest]\nDJANGO_SETTINGS_MODULE = settings\npythonpath = .\n"
        "mailcatcher_env =\n  SHOP_HOST = {host}\n  SHOP_PORT = {port}\n"
    )
    (django / "test_sign_up.py").write_text(PYTEST_DJANGO)
    told = run_pytest(django)
    assert " 2 passed" in told, told


def test_django_and_its_own_test_runner(django: Path) -> None:
    (django / "tests.py").write_text(MANAGE_TEST)
    told = run(django, "manage.py", "test")
    assert "Ran 3 tests" in told
    assert "Warning" not in told


# FastAPI, whose mail leaves after the response, in the event loop of the test

FASTAPI = """
import os
from email.message import EmailMessage

import aiosmtplib
from fastapi import BackgroundTasks, FastAPI

HOST, PORT = os.environ["SHOP_HOST"], int(os.environ["SHOP_PORT"])
app = FastAPI()

async def welcome(to):
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@example.com", to, "Welcome"
    await aiosmtplib.send(message, hostname=HOST, port=PORT, start_tls=False)

@app.post("/sign-up")
async def sign_up(to: str, tasks: BackgroundTasks):
    tasks.add_task(welcome, to)
"""
ASYNC_TESTS = """
import asyncio, httpx, pytest
from shop import app, welcome

@pytest.fixture
def anyio_backend():
    return "asyncio"

async def sign_up(to):
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        assert (await client.post("/sign-up", params={"to": to})).status_code == 200

@pytest.mark.MARK
async def test_sign_up(mailcatcher):
    async with mailcatcher.expect(to="bob@example.com") as expected:
        await sign_up("bob@example.com")
    assert expected.message["Subject"] == "Welcome"
    assert (await mailcatcher.alatest()).envelope.mail_from == "shop@example.com"

@pytest.mark.MARK
async def test_what_must_not_come_comes(mailcatcher):
    with pytest.raises(AssertionError, match="where none was expected: to carol"):
        async with mailcatcher.expect_none(within=30):
            task = asyncio.create_task(welcome("carol@example.com"))
    await task

@pytest.mark.MARK
async def test_a_timeout_takes_effect_at_once(mailcatcher):
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(mailcatcher.alatest(timeout=1000), 0.01)
"""


@pytest.mark.parametrize("plugin", ["asyncio", "anyio"])
def test_fastapi_and_aiosmtplib(tmp_path: Path, plugin: str) -> None:
    module = {"asyncio": "pytest_asyncio", "anyio": "anyio.pytest_plugin"}[plugin]
    for needed in (module, "fastapi", "httpx", "aiosmtplib"):
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    ini = "[pytest]\nmailcatcher_env =\n  SHOP_HOST = {host}\n  SHOP_PORT = {port}\n"
    if plugin == "asyncio":
        ini += "asyncio_default_fixture_loop_scope = function\n"
    (tmp_path / "pytest.ini").write_text(ini)
    (tmp_path / "shop.py").write_text(FASTAPI)
    (tmp_path / "test_sign_up.py").write_text(ASYNC_TESTS.replace("MARK", plugin))
    told = run_pytest(tmp_path, without={"asyncio", "anyio"} - {plugin})
    assert " 3 passed" in told, told


# Flask

FLASK = """
from flask import Flask, request
from flask_mail import Mail, Message

def create_app(**settings):
    app = Flask(__name__)
    app.config.update(settings)
    mail = Mail(app)

    @app.post("/sign-up")
    def sign_up():
        mail.send(Message("Welcome", ["bob@example.com"], "Hi", sender="shop@example.com"))
        return "Look into your mail"

    return app
"""
FLASK_TEST = """
from shop import create_app

def test_sign_up(mailcatcher):
    app = create_app(MAIL_SERVER=mailcatcher.host, MAIL_PORT=mailcatcher.port)
    with mailcatcher.expect(to="bob@example.com") as expected:
        assert app.test_client().post("/sign-up").status_code == 200
    assert expected.message.text.strip() == "Hi"
"""


def test_flask_mail(tmp_path: Path) -> None:
    pytest.importorskip("flask_mail", reason="Flask-Mail is not installed")
    (tmp_path / "shop.py").write_text(FLASK)
    (tmp_path / "test_sign_up.py").write_text(FLASK_TEST)
    told = run_pytest(tmp_path)
    assert " 1 passed" in told, told


# behave

FEATURE = """
Feature: Signing up
  Scenario Outline: A welcome
    When <name> signs up
    Then a mail to <name> says "Welcome"

    Examples:
      | name  |
      | bob   |
      | carol |
"""
ENVIRONMENT = """
from mailhandlers import MailCatcher

def before_all(context):
    context.mail = MailCatcher()
    context.mail.start()

def before_scenario(context, scenario):
    context.mail.clear()

def after_all(context):
    context.mail.stop()
"""
STEPS = """
import smtplib
from behave import then, when

@when("{name} signs up")
def sign_up(context, name):
    with smtplib.SMTP(context.mail.host, context.mail.port) as client:
        client.sendmail("eva@example.com", [f"{name}@example.com"], "Subject: Welcome\\n\\nHi")

@then('a mail to {name} says "{subject}"')
def is_sent(context, name, subject):
    message = context.mail.latest(to=f"{name}@example.com", timeout=60)
    assert message["Subject"] == subject
    assert len(context.mail) == 1
"""


def test_behave(tmp_path: Path) -> None:
    pytest.importorskip("behave", reason="behave is not installed")
    steps = tmp_path / "features" / "steps"
    steps.mkdir(parents=True)
    (tmp_path / "features" / "sign_up.feature").write_text(FEATURE)
    (tmp_path / "features" / "environment.py").write_text(ENVIRONMENT)
    (steps / "sign_up.py").write_text(STEPS)
    told = run(tmp_path, "-m", "behave", "--no-capture")
    assert "2 scenarios passed, 0 failed" in told


def run(folder: Path, *command: str) -> str:
    """Run Python, warnings as errors, which must succeed; return what it says."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
