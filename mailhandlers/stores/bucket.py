"""Messages in a bucket of an object store (S3, Google's, Azure's), which many machines share.

``PREFIX/mail/<id>.eml`` is a message, as a Maildir has it. ``PREFIX/to/<folder name>/<id>``, an
empty object, marks it as one of a recipient's. The marks are put first: what a crash leaves is
a mark without a message, which nobody sees.

An object store lists names in ascending order only, a thousand for one request, from any name
on. Ids sort by arrival, so that the newest message is found by listing from a moment ago.
"""

from __future__ import annotations

import functools
import heapq
import math
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from .. import block
from ..disk import log
from ..disk.files import Disk
from ..disk.locks import LOCK_TIMEOUT
from ..disk.objects import PAGE, Bucket, Mode, UnsupportedError, bucket_at
from ..mail import Mail, is_id
from ..message.addresses import spellings
from .keep import EXCESS, ROUNDS, Keep
from .latest import mail_in
from .people import folder_name
from .store import Effort, Entry, GoneError, Memory, Seen, Store, StoreError

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

_ADDRESS = re.compile(r"(s3|gs|az)://([A-Za-z0-9][A-Za-z0-9._-]{1,221})(?:/(.+))?", re.DOTALL)
_SECOND = re.compile(r"\d{10}(?=\.)", re.ASCII)
_LONGEST_PREFIX = 500  # of the 1,024 octets of a key; a recipient's name has 200 of them

# How many seconds a look goes back before the newest message that was seen. The clocks of
# servers differ, and to put a message takes up to ten seconds: a minute is for each look. A
# listing may lag by many minutes, as Swift's does after a node was down: an hour is for a look
# now and then. For so long the names are remembered, 150 octets each.
_NEAR, _FAR, _FAR_EVERY = 60, 3600, 30.0
_FIRST_LOOK, _FURTHER = 60, 10  # how far back to look for the newest, and how much further then

_MOST_CLASHES = 10
_LONG = 1 << 20
_MANY_RECIPIENTS = 100
_MOST_AHEAD, _AHEAD = 16, 16 << 20
_PATIENT = 200


class _Names(Seen):
    """The messages of the last hour, by their names; all later looks are behind *start*."""

    def __init__(self, names: Iterable[str], before: _Names | None, looked_far: bool) -> None:
        seconds = [int(found[0]) for name in names if (found := _SECOND.match(name))]
        self.newest: int = max([before.newest if before else 0, *seconds])
        # One server's clock may be ahead of all others, and this one's, too.
        newest = min(self.newest, int(time.time()))
        self.start: str = max(before.start if before else "", _behind(newest - _FAR))
        self.near = _behind(newest - _NEAR)
        self.names = {name for name in names if name > self.start}
        if before:
            self.names |= {name for name in before.names if name > self.start}
        due = time.monotonic() + _FAR_EVERY
        self.far_due: float = due if looked_far or before is None else before.far_due


class BucketStore(Store):
    """What is under a prefix of a bucket, or that of one recipient."""

    pause: ClassVar[float] = 0.5

    def __init__(
        self,
        path: str,
        disk: Disk | None = None,
        keep: Keep | None = None,
    ) -> None:
        """Raise StoreError where *path* is no address, or can't be one here."""
        super().__init__(path, disk)
        self._bucket, self._prefix = _bucket_of(path)
        self._mail, self._to = f"{self._prefix}mail", f"{self._prefix}to"
        self._listed = [self._mail]  # the folders whose names are messages
        self._keep = keep
        self._room = -1  # how many messages may be stored before the next look for old ones
        self._next_round = 0.0
        self._leftovers: set[str] = set()  # what an attempt that failed may have put
        self._mode: Mode = "create"  # so that no message replaces another of its name
        self._is_prepared = False

    # Writing

    def check(self) -> None:
        pass  # done: all that can be told without asking the object store

    def prepare(self) -> None:
        """Put an empty object, which tells whether that is allowed, and how mail is put."""
        key = f"{self._to}/writable"
        try:
            self._bucket.put_once(key, b"", self._mode)
        except FileExistsError:
            pass
        except UnsupportedError:  # Swift's answer; that two have one name is most unlikely
            self._mode = "overwrite"
            self._bucket.put_once(key, b"", self._mode)
        self._is_prepared = True
        self.tidy_up()

    def add(self, mails: Sequence[Mail], patience: float = LOCK_TIMEOUT) -> None:
        # Many, as of a copy, may take longer.
        until = time.monotonic() + patience * (1 + len(mails) // _PATIENT)
        if not self._is_prepared:
            self.prepare()
        for _ in range(_MOST_CLASHES):
            try:
                return self._add(mails, until - time.monotonic())
            except FileExistsError:
                mails = [mail.renamed() for mail in mails]
        return self._add(mails, until - time.monotonic())

    def _add(self, mails: Sequence[Mail], seconds: float) -> None:
        """Put the marks, and then the messages, many at the same time."""
        octets = {self._key(mail.envelope.id): b"".join(block.encode(mail)) for mail in mails}
        marks = {key: b"" for mail in mails for key in self._marks(mail, mail.envelope.id)}
        keys = {*octets, *marks}
        self._leftovers -= keys  # of a batch that failed, whose messages come one by one now
        failures = self._bucket.put_all([(marks, "overwrite"), (octets, self._mode)], seconds)
        if failures:
            taken = {key for key, e in failures.items() if isinstance(e, FileExistsError)}
            # What is called so is another's, and so may its marks be.
            self._leftovers |= octets.keys() - taken if taken else keys
            raise next(iter(failures.values()))
        self._room -= len(mails)

    def clear(self) -> None:
        # A listing may name what is gone already: it is asked once.
        self._bucket.delete([*self._bucket.keys(self._mail), *self._bucket.keys(self._to)])

    def remove(self, wanted: Callable[[], Iterable[Entry]]) -> None:
        """Remove the entries that *wanted* yields, and their marks. Raises OSError."""
        for entry in wanted():
            with suppress(GoneError, block.FormatError):
                mail = entry.read()
                name = str(entry.key)
                self._bucket.delete([self._key(name), *self._marks(mail, name)])

    def effort(self, mail: Mail) -> Effort:
        # The loop never waits for a network.
        is_long = len(mail.content) > _LONG or len(mail.envelope.rcpt_tos) > _MANY_RECIPIENTS
        return Effort.LONG if is_long else Effort.LARGE

    def tidy_up(self) -> None:
        try:
            if self._leftovers:
                keys = [*self._leftovers]
                # The messages first: a mark alone is seen by nobody.
                self._bucket.delete(sorted(keys, key=lambda key: key.startswith(self._to)))
                self._leftovers -= {*keys}
            if self._keep is not None and self._is_due(self._keep):
                self._remove_old(self._keep)
        except OSError as error:
            log().error("%s: %s; old messages stay", self.path, error.strerror)

    def rest(self) -> None:
        pass

    def _is_due(self, keep: Keep) -> bool:
        now = time.monotonic()
        if self._room >= 0 if keep.seconds is None else now < self._next_round:
            return False
        self._room = (keep.most or 0) // EXCESS
        self._next_round = now + (keep.seconds or 0) / ROUNDS
        return True

    def _remove_old(self, keep: Keep) -> None:
        """Remove what is older than what is kept, and its marks, whoever stored it."""
        old = keep.too_old(self._names([self._mail]), time.time())
        if not old:
            return
        keys = [self._key(name) for name in old]
        keys += [
            key for key in self._bucket.keys(self._to) if key.rpartition("/")[2] <= old[-1]
        ]
        self._bucket.delete(keys)

    # Reading

    def beside(self) -> tuple[bool, dict[str, datetime]]:
        """Tell whether mail of ours is here, and other objects with their names and times."""
        folders, times = self._bucket.directly_in(self._prefix[:-1])
        names = {key[len(self._prefix) :]: when for key, when in times.items()}
        return not {self._mail, self._to}.isdisjoint(folders), names

    def part(self, recipient: str) -> BucketStore:
        """Return the part of this store that is one recipient's."""
        part = BucketStore(self.path)
        names = map(folder_name, spellings(recipient))
        part._listed = [f"{self._to}/{name}" for name in dict.fromkeys(names)]
        return part

    def memory(self) -> Memory:
        return _ByName(self)

    def newest_first(self) -> Iterator[Entry]:
        return self._entries(self._newest_names())

    def oldest_first(self) -> Iterator[Entry]:
        return self._entries(self._names(self._listed))

    def holding(self, octets: bytes) -> Iterator[Entry]:
        name = octets.decode("ascii", "replace")
        found = name in islice(self._names(self._listed, name[:-1]), PAGE)
        return self._entries([name] if found else [])

    def now(self) -> Seen | None:
        newest = next(self._newest_names(), None)
        if newest is None:
            return None
        second = _SECOND.match(newest)
        newest_second = min(int(second[0]) if second else 1 << 40, int(time.time()))
        return _Names([*self._names(self._listed, _behind(newest_second - _FAR))], None, True)

    def since(self, seen: Seen | None) -> tuple[Iterator[Entry], Seen | None]:
        if not isinstance(seen, _Names):
            names = [*self._names(self._listed)]
            now = _Names(names, None, looked_far=True) if names else None
            return self._entries(names, now), now
        is_far = time.monotonic() >= seen.far_due
        start = seen.start if is_far else max(seen.start, seen.near)
        names = [*self._names(self._listed, start)]
        now = _Names(names, seen, is_far)
        return self._entries([name for name in names if name not in seen.names], now), now

    def _entries(self, names: Iterable[str], seen: _Names | None = None) -> Iterator[Entry]:
        for name, read in _ahead(names, lambda name: self._read(name, seen)):
            yield Entry(name, f"{self._bucket.address}/{self._key(name)}", read)

    def _read(self, name: str, seen: _Names | None = None) -> Mail:
        try:
            data, written = self._bucket.get(self._key(name))
        except FileNotFoundError:
            if seen is not None:  # a mark whose message is being put: the next look has it
                seen.names.discard(name)
            raise GoneError(name) from None
        return mail_in(data, name, written.timestamp())

    def _key(self, name: str) -> str:
        return f"{self._mail}/{name}.eml"

    def _marks(self, mail: Mail, name: str) -> list[str]:
        # Mail copied from elsewhere may name nobody: it is the nameless recipient's.
        folders = map(folder_name, mail.envelope.rcpt_tos or [""])
        return [f"{self._to}/{folder}/{name}" for folder in folders]

    def _names(self, folders: Sequence[str], after: str = "") -> Iterator[str]:
        """Yield the names behind *after*, in their order, each once."""
        last = ""
        for name in heapq.merge(*(self._names_in(folder, after) for folder in folders)):
            if name != last:
                yield name
            last = name

    def _names_in(self, folder: str, after: str) -> Iterator[str]:
        suffix = ".eml" if folder == self._mail else ""
        for key in self._bucket.keys(folder, after):
            name = key[len(folder) + 1 :].removesuffix(suffix)
            # Azurite begins with the first, wherever it is told to.
            if name > after and key.endswith(suffix) and "/" not in name:
                yield name

    def _newest_names(self) -> Iterator[str]:
        """Yield the names, the latest first, without listing what is not asked for."""
        second = int(time.time()) - _FIRST_LOOK
        until = _behind(second)
        yield from reversed([*self._names(self._listed, until)])
        first = [*islice(self._names(self._listed), PAGE)]
        if len(first) < PAGE:  # that is all
            yield from reversed([name for name in first if name <= until])
            return
        back = _FIRST_LOOK
        while until:
            back *= _FURTHER
            after = _behind(second - back)
            yield from self._between(after, until)
            until = after

    def _between(self, after: str, until: str) -> Iterator[str]:
        """Yield the names behind *after* and up to *until*, the latest first."""
        first = [*islice(self._names(self._listed, after), PAGE)]
        low, high = _SECOND.match(first[-1]) if first else None, _SECOND.match(until)
        if len(first) == PAGE and first[-1] <= until:
            # What is wanted most is not among the first thousand.
            middle = (int(low[0]) + int(high[0])) // 2 if low and high else 0
            if low and int(low[0]) < middle:
                yield from self._between(_behind(middle), until)
                yield from self._between(first[-1], _behind(middle))
            else:  # thousands in a second
                first += self._names(self._listed, first[-1])
        yield from reversed([name for name in first if name <= until])


def _ahead(
    names: Iterable[str], get: Callable[[str], Mail]
) -> Iterator[tuple[str, Callable[[], Mail]]]:
    """Yield each of *names* and what reads its message: *get*, at once or in a thread before.

    A request takes 2 to 50 ms, and many take no longer. Whoever reads each message in its turn
    is likely to read the next ones, too: twice as many each time, up to 16, or to 16 MiB.
    """
    coming = iter(names)
    waiting: deque[tuple[str, Future[Mail] | None]] = deque()
    most = octets = 0
    is_read = False

    def read(name: str, future: Future[Mail] | None) -> Mail:
        nonlocal octets, is_read
        is_read = True
        mail = future.result() if future else get(name)
        octets = len(mail.content)
        return mail

    try:
        while True:
            for name in islice(coming, max(0, most + 1 - len(waiting))):
                waiting.append((name, _threads().submit(get, name) if most else None))
            if not waiting:
                return
            is_read = False
            name, future = waiting.popleft()
            yield name, functools.partial(read, name, future)
            most = min(_MOST_AHEAD, 2 * most or 1, _AHEAD // max(octets, 1)) if is_read else 0
    finally:
        for _, future in waiting:
            if future:
                future.cancel()


@functools.cache
def _threads() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(_MOST_AHEAD, "mailhandlers-reader")


class _ByName(Memory):
    """Counts names, a thousand with a request: an id is the name of a message."""

    store: BucketStore

    def count(self) -> tuple[int, Iterator[Entry]]:
        ids, others = 0, []
        for name in self.store._names(self.store._listed):
            if is_id(name):
                ids += 1
            else:
                others.append(name)
        return ids, self.store._entries(others)


class OthersBucket(BucketStore):
    """Objects that are mails under any name, as Amazon SES puts them: by the time of each."""

    def __init__(self, path: str, times: dict[str, datetime]) -> None:
        super().__init__(path)
        self._times = times

    def clear(self) -> None:
        self.remove(self.newest_first)  # what can't be read is no mail, and stays

    def part(self, recipient: str) -> BucketStore:
        return self  # no mark tells whose a mail is

    def memory(self) -> Memory:
        return Memory(self)

    def newest_first(self) -> Iterator[Entry]:
        return self._entries(sorted(self._times, key=self._order, reverse=True))

    def oldest_first(self) -> Iterator[Entry]:
        return self._entries(sorted(self._times, key=self._order))

    def holding(self, octets: bytes) -> Iterator[Entry]:
        return self.newest_first()

    def now(self) -> Seen:
        return _OthersNames(frozenset(self._times))

    def since(self, seen: Seen | None) -> tuple[Iterator[Entry], Seen]:
        known = seen.names if isinstance(seen, _OthersNames) else frozenset()
        return self._entries(sorted(self._times.keys() - known, key=self._order)), self.now()

    def rank(self, entry: Entry) -> tuple[float, str]:
        name = str(entry.key)  # it may have come after this store was found
        return self._times[name].timestamp() if name in self._times else math.inf, name

    def _order(self, name: str) -> tuple[datetime, str]:
        return self._times[name], name

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def _marks(self, mail: Mail, name: str) -> list[str]:
        return []


class _OthersNames(Seen):
    def __init__(self, names: frozenset[str]) -> None:
        self.names = names


_ours: set[str] = set()


def find_bucket(path: str) -> BucketStore:
    """Return the store at the address *path*: ours, or other mail. Raises StoreError.

    Which it is takes a request, until there is mail of ours.
    """
    store = BucketStore(path)
    if path not in _ours:
        try:
            folders, times = store.beside()
        except NotADirectoryError as error:
            raise StoreError(f"{path}: {error.strerror}") from None
        if folders:
            _ours.add(path)
        elif times:
            return OthersBucket(path, times)
    return store


def _behind(second: int) -> str:
    """Return what sorts before all names of messages that came at *second* or later."""
    return f"{second:010d}." if second > 0 else ""


def _bucket_of(path: str) -> tuple[Bucket, str]:
    """Return the bucket of an address, and what its keys begin with. Raises StoreError."""
    address = _ADDRESS.fullmatch(path)
    prefix = address[3] or "" if address else ""
    parts = prefix.split("/")
    if (
        address is None
        or (prefix and not {"", ".", ".."}.isdisjoint(parts))
        or not prefix.isprintable()
        or len(prefix.encode("utf-8", "surrogateescape")) > _LONGEST_PREFIX
    ):
        raise StoreError(f"{path!a} is no address of a bucket, such as s3://mail/staging")
    try:
        bucket = bucket_at(address[1], address[2])
    except ValueError as error:
        raise StoreError(f"{path}: {error}") from None
    return bucket, f"{prefix}/" if prefix else ""
