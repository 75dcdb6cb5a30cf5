"""A child process that writes while the event loop goes on, and what it is sent."""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, NoReturn, cast

from ..mail import Envelope, Mail
from .store import Store
from .writers import WriterThread, Written

_log = logging.getLogger("mailhandlers")

CHILD_SECONDS = 60.0
"""How long a child may take for a batch, beside a second a mebibyte; a lock may take 10."""

_SIZE = 4
_PIECE = 1 << 20


class WriterProcess(asyncio.Protocol):
    """Commits one batch at a time in a child process.

    What goes to the child is data, which can make it run nothing: the length of a JSON
    object with the envelopes, that object, and the contents. What comes back is the length
    of a JSON list, and that list: the replies.

    A child that is killed, or that takes longer than :data:`CHILD_SECONDS`, is gone for
    good, and its batch goes to the thread, as all others from then on. What it wrote of
    that batch, and could not tell, is then stored twice.
    """

    def __init__(self, pid: int, connection: socket.socket, thread: WriterThread) -> None:
        self._pid = pid
        self._connection = connection
        self._thread = thread
        self._transport: asyncio.WriteTransport | None = None
        self._unsent: Iterator[bytes] = iter(())
        self._takes_more = True
        self._received = b""
        self._batch: tuple[Sequence[Mail], Written] | None = None
        self._due = 0.0  # by when the batch is written, by the loop's clock
        self._watch: asyncio.TimerHandle | None = None
        atexit.register(self._end)

    @classmethod
    async def fork(cls, store: Store, thread: WriterThread) -> WriterProcess:
        """Return the writer that is a copy of this process; *thread* stands in for it."""
        ours, theirs = socket.socketpair()
        # The terminal's Ctrl-C reaches the child, too, which is to finish its batch: the
        # signal is blocked there from its first moment on.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            pid = os.fork()
            if pid == 0:
                ours.close()
                _serve(theirs, store)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        writer = cls(pid, ours, thread)
        await asyncio.get_running_loop().create_unix_connection(lambda: writer, sock=ours)
        return writer

    def commit(self, mails: Sequence[Mail], written: Written) -> None:
        """Commit *mails*, then call *written*."""
        if self._transport is None:
            self._thread.commit(mails, written)
            return
        self._batch = mails, written
        size = sum(len(mail.content) for mail in mails)
        self._due = asyncio.get_running_loop().time() + CHILD_SECONDS + size / _PIECE
        if self._watch is None or self._watch.when() > self._due:  # that of a large one
            self._check()
        self._unsent = _pieces_of(mails)
        self._send()

    def _check(self) -> None:
        """Give up a child that is late; look again when it would be.

        To look now and then takes less time than a timer for each batch, which stays in the
        loop's heap for a minute.
        """
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._batch is not None and self._transport is not None:
            loop = asyncio.get_running_loop()
            if loop.time() < self._due:
                self._watch = loop.call_at(self._due, self._check)
            else:
                self._transport.abort()

    def _send(self) -> None:
        """Send what the child takes now: to copy all of a large message takes long."""
        while self._takes_more and self._transport and (piece := next(self._unsent, None)):
            self._transport.write(piece)

    def pause_writing(self) -> None:
        """Wait with the next piece: asyncio calls this."""
        self._takes_more = False

    def resume_writing(self) -> None:
        """Go on with the next piece: asyncio calls this."""
        self._takes_more = True
        self._send()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note how to write to the child: asyncio calls this."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Tell the replies when they are all there: asyncio calls this."""
        self._received += data
        end = _SIZE + int.from_bytes(self._received[:_SIZE], "big")
        if len(self._received) >= max(end, _SIZE + 1) and self._batch:
            _, written = self._batch
            replies = json.loads(self._received[_SIZE:end])
            self._received, self._batch = b"", None
            written(replies)

    def connection_lost(self, error: Exception | None) -> None:
        """Have the thread stand in for the child, which ended or hangs: asyncio calls this."""
        self._transport = None
        _log.error("the writer process is gone; the server writes by itself now")
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        # One that waits for a disk ends when the disk answers, and nobody waits for that.
        threading.Thread(target=self._reap, daemon=True).start()
        if self._batch:
            self._thread.commit(*self._batch)

    def _reap(self) -> None:
        atexit.unregister(self._end)
        os.waitpid(self._pid, 0)

    def _end(self) -> None:
        """Let the child finish its batch and end: the server ends."""
        self._connection.close()
        with suppress(ChildProcessError, KeyboardInterrupt):  # a second Ctrl-C doesn't wait
            os.waitpid(self._pid, 0)


def _pieces_of(mails: Sequence[Mail]) -> Iterator[bytes]:
    header = json.dumps([mail.envelope.to_dict() for mail in mails]).encode()
    first = [len(header).to_bytes(_SIZE, "big"), header]
    if all(len(mail.content) <= _PIECE for mail in mails):
        first += [mail.content for mail in mails]
        mails = ()
    yield b"".join(first)
    for mail in mails:
        view = memoryview(mail.content)
        for start in range(0, len(view), _PIECE):
            yield bytes(view[start : start + _PIECE])


def _serve(connection: socket.socket, store: Store) -> NoReturn:
    """Commit what comes, until the server has ended."""
    try:
        pipe = connection.makefile("rb")
        while mails := _read_batch(pipe):
            reply = json.dumps(store.commit(mails)).encode()
            connection.sendall(len(reply).to_bytes(_SIZE, "big") + reply)
            store.tidy_up()
    except (EOFError, ConnectionError):
        pass
    except Exception:  # noqa: BLE001 - without this, nobody would ever see it
        _log.exception("the writer process ends")
    finally:
        os._exit(0)


def _read_batch(pipe: BinaryIO) -> list[Mail]:
    size = int.from_bytes(_read(pipe, _SIZE), "big")
    records: list[dict[str, Any]] = json.loads(_read(pipe, size))
    envelopes = map(Envelope.from_dict, records)
    return [Mail(envelope, _read(pipe, envelope.size)) for envelope in envelopes]


def _read(pipe: BinaryIO, size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data
