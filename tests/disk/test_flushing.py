"""Many files on a slow disk: all wait for it at the same time, and nothing is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from shell import raw_mail
from support import HELLO, PATIENCE

from mailhandlers import MaildirSink
from mailhandlers.disk import flushing
from mailhandlers.disk.flushing import Flusher

FILES = range(8)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each disk count as a slow one."""
    monkeypatch.setattr(flushing, "_SLOW_FLUSH", -1.0)


@pytest.fixture
def flusher() -> Iterator[Flusher]:
    flusher = Flusher()
    yield flusher
    flusher.rest()


def flushing_threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name.startswith("mailhandlers-flush")}


def together(*fds: int) -> Callable[[int], None]:
    """Return a flush that ends for *fds* only once all of them are being flushed."""
    barrier = threading.Barrier(len(fds), timeout=PATIENCE)

    def flush(fd: int) -> None:
        if fd in fds:
            barrier.wait()

    return flush


@pytest.mark.usefixtures("slow")
def test_the_first_is_alone_until_the_disk_is_known_for_slow(flusher: Flusher) -> None:
    flusher.flush(FILES, together(*FILES[1:]))
    flusher.flush(FILES, together(*FILES))


@pytest.mark.usefixtures("slow")
def test_a_disk_that_got_fast_is_noticed(
    flusher: Flusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    flusher.flush(FILES, lambda fd: None)
    monkeypatch.setattr(flushing, "_SLOW_FLUSH", PATIENCE)
    threads = set()

    def note(fd: int) -> None:
        threads.add(threading.current_thread())

    for _ in range(100):
        threads.clear()
        flusher.flush(FILES, note)
    assert threads == {threading.current_thread()}


@pytest.mark.usefixtures("slow")
def test_a_lone_flush_tells_how_slow_the_disk_is(flusher: Flusher) -> None:
    flusher.flush([0], lambda fd: None)
    flusher.flush(FILES, together(*FILES))


@pytest.mark.usefixtures("slow")
def test_an_error_is_told_when_nobody_uses_the_files_any_more(flusher: Flusher) -> None:
    failed = threading.Event()
    done = []

    def flush(fd: int) -> None:
        if fd == 3:
            failed.set()
            raise OSError(fd, "the disk is gone")
        failed.wait(PATIENCE)
        done.append(fd)

    flusher.flush([0], lambda fd: None)
    with pytest.raises(OSError, match="the disk is gone"):
        flusher.flush(FILES, flush)
    assert sorted(done) == [fd for fd in FILES if fd != 3]


@pytest.mark.usefixtures("slow")
def test_where_no_thread_can_be_had_they_wait_in_turn(
    flusher: Flusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    done: list[int] = []
    flusher.flush(FILES, done.append)
    assert set(FILES) <= set(done)


@pytest.mark.usefixtures("slow")
def test_an_error_is_told_where_no_further_thread_can_be_had(
    flusher: Flusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, failed = ThreadPoolExecutor.submit, threading.Event()

    def at_a_limit(pool: ThreadPoolExecutor, flush: Callable[..., None], fd: int) -> Any:
        if fd == 5:
            assert failed.wait(PATIENCE)
            raise RuntimeError("can't start new thread")
        return submit(pool, flush, fd)

    def fails_once(fd: int) -> None:
        if fd == 3 and not failed.is_set():
            failed.set()
            raise OSError(fd, "the disk is gone")

    flusher.flush([0], fails_once)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", at_a_limit)
    with pytest.raises(OSError, match="the disk is gone"):
        flusher.flush(FILES, fails_once)


@pytest.mark.usefixtures("slow")
def test_a_handler_that_is_closed_leaves_no_thread(tmp_path: Path) -> None:
    before = flushing_threads()
    handler = MaildirSink(tmp_path / "inbox")
    handler.store_all([raw_mail(HELLO) for _ in FILES])
    assert flushing_threads() > before
    handler.close()
    assert flushing_threads() <= before
