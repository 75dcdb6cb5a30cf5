"""What is wrong with a mail, or lost on some of its readers: the table :data:`CHECKS`.

Only what is sure. A mail that everybody reads as it was meant has no problem, however it
looks; there are no scores. Each check is one entry: what is wrong, what readers lose and what
to do, in one text; where that is written; and the function that looks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from . import checks
from .checks import Look
from .visible import visible_line

_SHOWN, _LONGEST_SHOWN = 3, 80


class Problem(NamedTuple):
    """One thing that is wrong with a message, or lost on some of its readers.

    ``name`` (str)
        The name of the check, such as ``no-date``. It stays the same from version to version.
    ``text`` (str)
        What is wrong, what readers lose and what to do, in one line. What it quotes of the
        message is made visible.
    ``source`` (str)
        Where that is written, such as ``RFC 5322 section 3.6.1``.
    ``url`` (str)
        The source on the web.
    """

    name: str
    text: str
    source: str
    url: str

    def to_dict(self) -> dict[str, str]:
        """Return the fields as a dict, ready for :func:`json.dumps`."""
        return self._asdict()


class Source(NamedTuple):
    """Where a rule is written."""

    title: str
    url: str


class Check(NamedTuple):
    """An entry of the table."""

    name: str
    text: str
    """``{found}`` stands for what *look* yields."""
    source: Source
    look: Callable[[Look], Iterator[str]]
    """Yields where the problem is, and nothing where there is none."""
    needs: str = ""
    """The argument of :meth:`.StoredMessage.problems` without which nobody looks."""


def _rfc(number: int, section: str) -> Source:
    url = f"https://www.rfc-editor.org/rfc/rfc{number}#section-{section}"
    return Source(f"RFC {number} section {section}", url)


CHECKS = (
    Check(
        "no-date",
        "There is no Date: mail programs show when the mail arrived, or 1970, and sort it so. "
        "Add a Date that says when it was written.",
        _rfc(5322, "3.6.1"),
        checks.no_date,
    ),
    Check(
        "unreadable-date",
        "No program can read the Date ({found}): they show another one, or 1970. "
        "Write it as in Mon, 30 Nov 2026 08:48:00 +0000.",
        _rfc(5322, "3.3"),
        checks.unreadable_date,
    ),
    Check(
        "no-message-id",
        "There is no Message-ID: answers can't be shown together with the mail, and Gmail may "
        "refuse it. Add one that ends in a domain of yours and that no other mail has.",
        _rfc(5322, "3.6.4"),
        checks.no_message_id,
    ),
    Check(
        "repeated-message-id",
        "Another mail has the same Message-ID ({found}): many servers keep only the first of "
        "the two. Make a new one for each mail.",
        _rfc(5322, "3.6.4"),
        checks.repeated_message_id,
        needs="seen",
    ),
    Check(
        "no-from",
        "There is no From with an address: servers refuse the mail, and nobody can answer. "
        "Add the address of whoever wrote it.",
        _rfc(5322, "3.6.2"),
        checks.no_from,
    ),
    Check(
        "from-nowhere",
        "Nobody outside can reach the address in From ({found}): servers refuse the mail, and "
        "answers don't arrive. Send from an address at a domain of yours.",
        _rfc(5321, "2.3.5"),
        checks.from_nowhere,
    ),
    Check(
        "no-sender",
        "From has several addresses ({found}) and there is no Sender: servers refuse such a "
        "mail. Leave one in From, or name in Sender who sent it.",
        _rfc(5322, "3.6.2"),
        checks.no_sender,
    ),
    Check(
        "repeated-header",
        "A header is there more than once ({found}): each program shows another one of them, "
        "and servers may refuse the mail. Set it once.",
        _rfc(5322, "3.6"),
        checks.repeated_header,
    ),
    Check(
        "header-not-ascii",
        "A header has letters beyond ASCII as they are ({found}), and the mail was sent "
        "without SMTPUTF8: servers may refuse it, and programs show other letters. Write "
        "encoded words, as mail libraries do.",
        _rfc(5322, "2.2"),
        checks.header_not_ascii,
    ),
    Check(
        "no-one-click",
        "There is a List-Unsubscribe, but nobody can unsubscribe with one click: Gmail and "
        "Yahoo demand that of those who send to many. Give it an https: address that "
        "takes a POST, and add List-Unsubscribe-Post: List-Unsubscribe=One-Click.",
        _rfc(8058, "3.1"),
        checks.no_one_click,
    ),
    Check(
        "long-line",
        "A line has more than 998 octets ({found}): servers refuse it, or break it anywhere. "
        "Encode the text as quoted-printable or base64, and fold headers.",
        _rfc(5322, "2.1.1"),
        checks.long_line,
    ),
    Check(
        "wrong-charset",
        "A charset is wrong ({found}): some readers see other letters, or \ufffd. "
        "Encode the text as UTF-8, and name that as its charset.",
        _rfc(2046, "4.1.2"),
        checks.wrong_charset,
    ),
    Check(
        "no-plain-text",
        "There is HTML and no plain text: who reads without HTML, in a terminal or by a "
        "notification, sees nothing, or tags. Send both as multipart/alternative.",
        _rfc(2046, "5.1.4"),
        checks.no_plain_text,
    ),
    Check(
        "clipped",
        "Gmail shows the first 102 kB of HTML, and hides the rest behind a link ({found}). "
        "Send less HTML, or link to the whole.",
        Source("Mailchimp on Gmail", "https://mailchimp.com/help/gmail-is-clipping-my-email/"),
        checks.clipped,
    ),
    Check(
        "link-elsewhere",
        "A link shows one address and leads to another ({found}): Thunderbird "
        "warns of fraud. Let it show words, or the address that it leads to.",
        Source(
            "Thunderbird",
            "https://support.mozilla.org/kb/thunderbirds-scam-detection",
        ),
        checks.link_elsewhere,
    ),
    Check(
        "no-https",
        "A link or an image goes by http: ({found}): all on the way can read and change it, "
        "and browsers warn. Write https:.",
        _rfc(9110, "4.2.2"),
        checks.no_https,
    ),
    Check(
        "no-alt",
        "An image has no alt ({found}): nothing is there where images aren't loaded, or for "
        'who has the mail read aloud. Say in alt what it shows; alt="" for decoration.',
        Source("WCAG 1.1.1", "https://www.w3.org/WAI/WCAG22/Techniques/html/H37"),
        checks.no_alt,
    ),
    Check(
        "no-dkim",
        "No DKIM signature is valid with this key ({found}): receivers take the mail for "
        "forged. Sign it last, with the private half of this key.",
        _rfc(6376, "6.1"),
        checks.no_dkim,
        needs="dkim_key",
    ),
)
"""All that is looked for, in the order in which it is told."""


def problems(mail: Look) -> list[Problem]:
    """Return what is wrong with *mail*, or lost on some of its readers."""
    found: list[Problem] = []
    for check in CHECKS:
        places = list(dict.fromkeys(check.look(mail)))
        if places:
            text = check.text.format(found=_listed(places))
            found.append(Problem(check.name, text, check.source.title, check.source.url))
    return found


def _listed(places: Sequence[str]) -> str:
    """Return the first of *places* for people to read, and how many more there are."""
    shown = [_cut(visible_line(place[:1000])) for place in places[:_SHOWN]]
    more = len(places) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
