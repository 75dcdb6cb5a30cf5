"""The pictures of README.rst and ``docs``, made anew: ``python tests/pictures.py``.

Some mails are stored in a Maildir, ``mailhandlers web`` shows them, and Debian's chromium,
driven by Playwright, takes ``docs/list.png`` and ``docs/message.png``. Where there is pngquant,
it makes them half as large.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from email.message import EmailMessage
from pathlib import Path

from chromium import CHROMIUM, FLAGS, Web
from playwright.sync_api import Page, ViewportSize, sync_playwright

from mailhandlers import MaildirSink
from mailhandlers.mail import EPOCH, UNKNOWN, Identity, Mail

DOCS = Path(__file__).parents[1] / "docs"
NOW = datetime(2026, 11, 30, 9, 50, tzinfo=timezone.utc)
LIST = ViewportSize(width=1120, height=700)
MESSAGE = ViewportSize(width=1240, height=800)  # as wide as the list beside it needs
FINENESS = 1.5  # of the picture's points, for one of the page's
# Minutes before now, who writes to whom, the subject, the text.
SEEN = [
    (2290, "Café Übung <cafe@example.org>", "bob@example.com", "Ihr Tisch für Samstag",
     "Wir freuen uns auf Sie: um acht, für zwei Personen, auf der Terrasse."),
    (1380, "Build Server <build@example.com>", "dev@example.com", "Build 4711 failed: main",
     "3 of 412 tests failed: https://build.example.com/4711"),
    (1304, "The Shop <shop@example.com>", "carol@example.com", "Your order 2041 is on its way",
     "It should be with you on Thursday. Follow it at https://shop.example.com/o/2041"),
    (1262, "The Shop <shop@example.com>", "dave@example.com", "Your invoice for November",
     "Thank you for your order. The invoice is attached."),
    (171, "Calendar <calendar@example.com>", "bob@example.com", "Reminder: lunch with Mara",
     "Thursday, 12:30, by the river."),
    (84, "The Shop <shop@example.com>", "eva@example.com", "Your code is 482 913",
     "It is good for ten minutes. If it was not you, do nothing."),
]  # fmt: skip
FRESH = [
    (7, "The Shop <shop@example.com>", "frank@example.com", "Reset your password",
     "Choose a new one at https://shop.example.com/reset?t=x1"),
    (4, "The Shop <shop@example.com>", "gina@example.com", "Welcome to the shop",
     "Please confirm your address: https://shop.example.com/confirm?t=x2"),
]  # fmt: skip
LETTER = """
<style>
body { margin: 0; padding: 28px 16px; background: #efece4; font: 17px/1.5 Georgia, serif }
.letter { max-width: 560px; margin: auto; border-radius: 10px; overflow: hidden }
.letter { background: #fff; color: #2b2b2b }
.text { padding: 24px 36px 30px }
img { display: block; width: 100% }
small { font-size: 15px; letter-spacing: 1px; color: #3d7a57 }
h1 { margin: 6px 0 12px; font-size: 27px; line-height: 1.2; font-weight: normal }
a { display: inline-block; padding: 9px 24px; border-radius: 5px }
a { background: #c8702a; color: #fff; text-decoration: none }
</style>
<div class="letter"><img src="cid:garden" alt="Hills at sunrise"><div class="text">
<small>THE GARDEN LETTER</small>
<h1>Welcome, Bob. Your first seeds are on their way.</h1>
<p>Please confirm your address, so that we know where to send the almanac.</p>
<p><a href="https://garden.example.com/confirm?t=x1">Confirm your address</a></p>
<p>Or enter this code: <b>481 516</b></p>
</div></div>
"""


def mail(minutes: int, to: str, message: EmailMessage) -> Mail:
    """Return *message* as if it had been received so many minutes before now."""
    moment = NOW - timedelta(minutes=minutes)
    identity = Identity.at((moment - EPOCH) // timedelta(microseconds=1), 4242, 1, "laptop")
    message["Message-ID"] = f"<{minutes}@example.com>"
    message["Date"] = moment
    content = message.as_bytes().replace(b"\n", b"\r\n")
    envelope = dataclasses.replace(
        UNKNOWN,
        id=identity.id,
        received=identity.received,
        peer="127.0.0.1:54321",
        helo="laptop",
        protocol="ESMTPS",
        tls="TLSv1.3",
        mail_from=message["From"].addresses[0].addr_spec,
        rcpt_tos=[to],
        size=len(content),
    )
    return Mail(envelope, content).sealed()


def short(minutes: int, sender: str, to: str, subject: str, text: str) -> Mail:
    """Return a mail of one line."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, to, subject
    message.set_content(text)
    if "attached" in text:
        message.add_attachment(
            b"%PDF" * 4000, maintype="application", subtype="pdf", filename="invoice.pdf"
        )
    return mail(minutes, to, message)


def newsletter(minutes: int) -> Mail:
    """Return the mail that is shown open."""
    message = EmailMessage()
    message["From"] = "The Garden Letter <letter@garden.example.com>"
    message["To"] = "Bob <bob@example.com>"
    message["Subject"] = "Welcome to the Garden Letter"
    message.set_content(
        "Welcome, Bob. Your first seeds are on their way.\n\nPlease confirm your address: "
        "https://garden.example.com/confirm?t=x1\n\nOr enter this code: 481 516\n"
    )
    message.add_alternative(LETTER, subtype="html")
    html = message.get_payload(1)
    assert isinstance(html, EmailMessage)
    html.add_related(hills(1120, 260), "image", "png", cid="<garden>", filename="garden.png")
    message.add_attachment(
        b"%PDF" * 9000,
        maintype="application",
        subtype="pdf",
        filename="Sowing calendar.pdf",
    )
    return mail(minutes, "bob@example.com", message)


def hills(width: int, height: int) -> bytes:
    """Return a landscape as a PNG of five colours."""
    sky, sun, *slopes = range(5)
    colours = bytes.fromhex("f3d9c6f6cf6a7a9f743f6d5428493e")
    waves = [(0.62, 0.20, 1.1, 2.4), (0.78, 0.14, 1.7, 0.6), (0.92, 0.08, 2.3, 4.0)]

    def colour(x: int, y: int) -> int:
        is_sun = math.hypot(x - 0.75 * width, y - 0.38 * height) < 0.22 * height
        found = sun if is_sun else sky
        for slope, (base, high, often, shift) in zip(slopes, waves, strict=True):
            if y / height > base + high * math.sin(math.tau * often * x / width + shift):
                found = slope
        return found

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    rows = (bytes(colour(x, y) for x in range(width)) for y in range(height))
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"PLTE", colours), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def store(folder: Path, mails: Sequence[Mail]) -> None:
    """Store *mails* in the Maildir *folder*."""
    MaildirSink(folder, sync=False).store_all(mails)


def take(page: Page, name: str) -> None:
    """Make the picture *name* of what *page* shows."""
    path = DOCS / name
    page.screenshot(path=path)
    if shutil.which("pngquant"):
        subprocess.run(["pngquant", "--force", "--ext", ".png", path], check=True)


def main() -> None:
    """Take the pictures."""
    if CHROMIUM is None:
        sys.exit("chromium is not installed")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        inbox = Path(folder) / "inbox"
        store(inbox, [short(*each) for each in SEEN])
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(
            viewport=LIST, device_scale_factor=FINENESS, timezone_id="UTC", color_scheme="light"
        )
        context.clock.set_fixed_time(NOW)
        with Web(inbox) as web:
            page = context.new_page()
            page.goto(web.url)  # what is there by now has been seen
            page.close(run_before_unload=True)
            letter = newsletter(9)
            store(inbox, [letter, *(short(*each) for each in FRESH)])
            page = context.new_page()
            page.goto(web.url)
            page.locator(".since").wait_for()
            take(page, "list.png")
            page.set_viewport_size(MESSAGE)
            page.goto(f"{web.url}/messages/{letter.envelope.id}")
            page.frame_locator("iframe").locator("img").wait_for()
            page.wait_for_load_state("networkidle")
            take(page, "message.png")
        browser.close()


if __name__ == "__main__":
    main()
