"""One attempt to write a batch, and the SMTP reply that each of its messages gets."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..disk.locks import LockTimeoutError
from ..mail import Mail

_log = logging.getLogger("mailhandlers")

STORED = "250 OK"
DISK_FULL = "452 4.3.1 Insufficient system storage, try again later"
FAILED = "451 4.3.0 Local error in storing the message, try again later"
NOT_EMPTIED = "451 4.3.0 Local error in emptying the store, try again later"


@dataclass(frozen=True)
class Store:
    """How a handler's store is written, for whoever writes it.

    Every method runs in the writer: a thread, or a child process.
    """

    path: str
    """What names the store in the log."""
    write: Callable[[Sequence[Mail]], None]
    """Store all mails or none; raises OSError."""
    empty: Callable[[], None]
    """Remove all mails; raises OSError."""
    tidy_up: Callable[[], None]
    """Do what no reply need wait for; raises nothing."""
    rest: Callable[[], None]
    """Let go what is kept for the next batch: none comes for a while; raises nothing."""
    is_long: Callable[[Mail], bool] = lambda mail: False
    """Tells whether a mail takes so long to write that others shall not wait for it.

    Such a mail is written by a thread of its own, while others are.
    """
    is_quick: bool = False
    """Whether writing waits for neither the disk nor a lock, and two threads may write."""

    def commit(self, mails: Sequence[Mail]) -> list[str]:
        """Write *mails*; return the SMTP reply to each. Never raises.

        One message that can't be written must not refuse those that came with it: a batch
        that fails is written message by message.
        """
        try:
            self.write(mails)
        except LockTimeoutError as error:  # the next attempt would wait as long again
            return [self.refusal(mail, error) for mail in mails]
        except Exception as error:  # noqa: BLE001
            # An error nobody foresaw may not end the writer: its clients would wait for ever.
            if len(mails) > 1:
                return [reply for mail in mails for reply in self.commit([mail])]
            return [self.refusal(mail, error) for mail in mails]
        return [STORED] * len(mails)

    def commit_reset(self) -> list[str]:
        """Empty the store; return the SMTP reply to it. Never raises."""
        try:
            self.empty()
        except Exception as error:  # noqa: BLE001 - as in commit
            self._log(error, "the store is not emptied", NOT_EMPTIED)
            return [NOT_EMPTIED]
        return [STORED]

    def refusal(self, mail: Mail, error: Exception) -> str:
        """Return the SMTP reply to a *mail* that *error* kept out, and log why."""
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        reply = DISK_FULL if full else FAILED
        self._log(error, f"refused mail from {mail.envelope.mail_from!a}", reply)
        return reply

    def _log(self, error: Exception, consequence: str, reply: str) -> None:
        """Say why, in one line; with the place in this program where nobody foresaw it."""
        foreseen = isinstance(error, (OSError, MemoryError))
        _log.error(
            "%s: %s; %s: %s",
            getattr(error, "filename", None) or self.path,
            getattr(error, "strerror", None) or type(error).__name__,
            consequence,
            reply,
            exc_info=None if foreseen else error,
        )
