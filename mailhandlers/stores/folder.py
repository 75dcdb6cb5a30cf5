"""What the stores have in common that keep each message in a file of its own, and ``keep=``."""

from __future__ import annotations

import errno
import functools
import os
from abc import abstractmethod
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from ..block import FormatError, gist
from ..disk import system
from ..disk.files import Disk, empty_folders, is_shown
from ..disk.links import folder_status, remove_target
from ..disk.locks import LOCK_TIMEOUT, deadline
from ..mail import Mail, is_id
from .keep import Keep, Place, Retention
from .latest import read_mail
from .memory import GLANCE, UNSURE, Notes, Status, gist_of, status_of
from .store import ANY, Effort, Entry, GoneError, Seen, Sought, Store, check_parent

_MOST_CLASHES = 10
_LONG = 1 << 20


class _Names(Seen):
    """The messages of some folders: those that *memory* had when its numbers ended at *end*."""

    def __init__(self, memory: FolderMemory, end: int) -> None:
        self.memory = memory
        self.end = end


class FolderStore(Store):
    """A folder, with folders in which each message is a file of its own."""

    suffix = ""
    """What the names of messages end with."""

    def __init__(self, path: str, disk: Disk | None = None, keep: Keep | None = None) -> None:
        super().__init__(path, disk)
        self._retention = keep and Retention(keep, path, self.suffix, self.places)

    @abstractmethod
    def places(self) -> Iterable[Place]:
        """Return where there are messages, now. Raises OSError."""

    @abstractmethod
    def add_files(self, mails: Sequence[Mail], patience: float) -> Iterable[Place]:
        """Store all *mails* or none; return where, once for each message.

        Raises OSError, FileExistsError where a name is taken.
        """

    @property
    @abstractmethod
    def folders(self) -> list[str]:
        """The folders in which messages arrive."""

    @abstractmethod
    def keys(self, folder: str, names: Sequence[str]) -> Iterable[tuple[str, str]]:
        """Yield what tells each message of *folder* from others, and its name.

        *names* are all that are there, but for hidden ones and those without the suffix. One
        message may be in several folders, or move to another meanwhile.
        """

    def read_file(self, path: str) -> Mail:
        """Return the message in a file. Raises GoneError and FormatError."""
        return read_mail(path)

    def check(self) -> None:
        check_parent(self.path)
        if os.path.lexists(self.path) and not os.path.isdir(self.path):
            raise ValueError(
                f"{self.path} is no folder, and this handler keeps one: choose another"
            )

    def prepare(self) -> None:
        if self._retention is not None:
            self._retention.begin()
            self._retention.remove()

    def add(self, mails: Sequence[Mail], patience: float = LOCK_TIMEOUT) -> None:
        if self._retention is not None and self._retention.begin():
            mails = [mail.renamed() for mail in mails]
        places = self._add_unique(mails, patience)
        if self._retention is not None:
            self._retention.stored(places)

    def _add_unique(self, mails: Sequence[Mail], patience: float) -> Iterable[Place]:
        """Add *mails*, under new identities as long as one of them is taken."""
        for _ in range(_MOST_CLASHES):
            try:
                return self.add_files(mails, patience)
            except FileExistsError:
                mails = [mail.renamed() for mail in mails]
        return self.add_files(mails, patience)

    def clear(self) -> None:
        for folders, link in self.places():
            empty_folders(folders, self.suffix, link)

    def remove(self, wanted: Callable[[], Iterable[Entry]]) -> None:
        names = {str(entry.key) for entry in wanted()}
        # A mail client may move one, or mark it, between the look and the removal: look again.
        for _ in range(_MOST_CLASHES):
            found = [self._remove_from(place, names) for place in self.places()]
            if not any(found):
                return
        raise OSError(errno.EAGAIN, "another program moves messages each time", self.path)

    def _remove_from(self, place: Place, names: set[str]) -> bool:
        """Remove the messages of these *names*; tell whether there was any."""
        for folder in place.folders:
            with suppress(FileNotFoundError):
                folder_status(folder)
        paths = self._paths_in(place.folders)
        found = sorted(names & paths.keys())  # the link follows once, at the last
        for name in found:
            with suppress(FileNotFoundError):
                remove_target(paths[name], place.link, deadline())
        return bool(found)

    def effort(self, mail: Mail) -> Effort:
        if len(mail.content) > _LONG:
            return Effort.LONG
        return Effort.LARGE if self._retention is not None else super().effort(mail)

    def tidy_up(self) -> None:
        if self._retention is not None:
            self._retention.remove()

    def rank(self, entry: Entry) -> Any:
        # Our names and those of the Maildir specification begin with the second.
        _, _, name = str(entry.key).rpartition("/")
        return name[:1].isdigit(), name, entry.key

    def newest_first(self) -> Iterator[Entry]:
        return self.memory().newest_first()

    def oldest_first(self) -> Iterator[Entry]:
        return self.memory().oldest_first()

    def now(self) -> Seen:
        return self.memory().seen()

    def since(self, seen: Seen | None) -> tuple[Iterator[Entry], Seen]:
        if not (isinstance(seen, _Names) and seen.memory.is_of(self)):
            memory = self.memory()
            return memory.oldest_first(), memory.seen()
        memory = seen.memory.renewed(self)
        return memory.since(seen), memory.seen()

    def memory(self) -> FolderMemory:
        return FolderMemory(self, [], array("q"), []).renewed(self)

    def files_in(self, folder: str) -> list[tuple[str, str, int]]:
        """Return of each message in *folder* its key, and its file's name and inode."""
        try:
            with os.scandir(folder) as entries:
                inodes = {each.name: each.inode() for each in entries if each.name[0] != "."}
        except (FileNotFoundError, NotADirectoryError):
            return []
        # What is made in order is replaced in order: else a third of the memory stays in holes.
        names = sorted(
            [name for name in inodes if is_shown(name, self.suffix)] if self.suffix else inodes
        )
        return [(key, name, inodes[name]) for key, name in self.keys(folder, names)]

    def _paths(self) -> dict[str, str]:
        """Return the path of each message by its key."""
        return self._paths_in(self.folders)

    def _paths_in(self, folders: Iterable[str]) -> dict[str, str]:
        return {
            key: f"{folder}/{name}"
            for folder in folders
            for key, name, _ in self.files_in(folder)
        }

    def entry(self, key: str, path: str) -> Entry:
        """Return the entry of a message by its key and its path."""
        return Entry(key, path, functools.partial(self._read, key, path))

    def _read(self, key: str, path: str) -> Mail:
        try:
            return self.read_file(path)
        except GoneError:  # or a mail client moved it or marked it just now
            return self.read_file(self._paths().get(key, path))

    def glance(self, key: str, path: str) -> str:
        """Return the gist of a message. Raises OSError."""
        try:
            fd = system.open_to_read(path)
            try:
                found = gist(os.read(fd, GLANCE))
            finally:
                os.close(fd)
            if found is not None:
                return found
        except OSError:  # to read all of it tells more
            pass
        try:
            return gist_of(self._read(key, path).envelope)
        except (GoneError, FormatError):
            return UNSURE


class FolderMemory(Notes):
    """What is remembered of the files in some folders.

    A folder is listed again when its times changed, which costs 1 us for each of its files:
    no system tells more cheaply what changed in it. A file that another one replaced is told
    by its inode; one that was edited in place counts as it was, until it is read.
    """

    def __init__(
        self,
        store: FolderStore,
        folders: list[str],
        statuses: array[Status],
        items: list[str],
    ) -> None:
        """*statuses* are those of the *folders*; *items* are in order."""
        super().__init__(store, len(items))
        self._store = store
        self._folders = folders
        self._statuses = statuses
        # Of each message one text, with NULs between: the name that its key ends with, what
        # the key has before that, the name of its folder, the inode, the name of the file
        # where it is another; once it was looked at, the gist. Objects would take three times
        # as much.
        self._items = items

    def renewed(self, store: Store) -> FolderMemory:
        assert isinstance(store, FolderStore)
        with self._lock:
            return self._renewed(store)

    def _renewed(self, store: FolderStore) -> FolderMemory:
        folders = store.folders
        statuses = array("q", map(status_of, folders))
        if statuses == self._statuses and folders == self._folders and 0 not in statuses:
            return self
        before = dict(zip(self._folders, self._statuses, strict=True))
        changed = [
            folder
            for folder, status in zip(folders, statuses, strict=True)
            if not status or status != before.get(folder)
        ]
        changed += before.keys() - set(folders)
        there: list[str] = []
        here = set()
        for folder in changed:
            name = "" if folder == store.path else os.path.basename(folder)
            here.add(name)
            there += [
                f"1{file}\0\0{name}\0{inode}\0"
                if key == file and file[0].isdigit()
                else _item(key, file, name, inode)
                for key, file, inode in store.files_in(folder)
            ]
        known = {_file(item) for item in self._items if item.split("\0", 3)[2] in here}
        new = sorted({*there} - known if known else there)
        gone = known.difference(there)
        if self._items and not gone and (not new or new[0] > self._items[-1]):
            self.store = self._store = store
            self._folders = folders
            self._statuses = statuses
            self._items += new
            return self
        kept = [item for item in self._items if _file(item) not in gone]
        items = sorted(kept + new) if kept else new
        return FolderMemory(store, folders, statuses, items)

    @property
    def end(self) -> int:
        return len(self._items)

    def numbers(self, sought: Sought = ANY) -> Iterator[int]:
        # A message to several recipients stands in several folders: the last one counts.
        found = range(self.end - 1, -1, -1) if sought == ANY else super().numbers(sought)
        for number in found:
            key = _key(self._items[number])
            if number + 1 == self.end or _key(self._items[number + 1]) != key:
                yield number

    def named(self, name: str) -> Iterator[Entry]:
        whole = f"{name[:1].isdigit():d}{name}{self._store.suffix}\0\0"
        number = bisect_left(self._items, whole)
        if number < self.end and self._items[number].startswith(whole):
            return iter([self.entry(number)])
        return self.newest_first()

    def seen(self) -> _Names:
        return _Names(self, self.end)

    def since(self, seen: _Names) -> Iterator[Entry]:
        """Yield the entries that were not there when others were *seen*, the first first."""
        before = seen.memory._items[: seen.end]
        start = seen.end if seen.memory is self else 0
        known = {_key(item) for item in (before[-1:] if start else before)}
        last = ""
        for number in range(start, self.end):
            key = _key(self._items[number])
            if key != last and key not in known:
                yield self.entry(number)
            last = key

    def looked_at(self, before: int) -> Iterator[tuple[int, str]]:
        for number in range(before - 1, -1, -1):
            yield number, self.gist(number)

    def gist(self, number: int) -> str:
        item = self._items[number]
        if item.count("\0") > 4:
            return item[item.rindex("\0") + 1 :]
        found = self._store.glance(*self._place(item))
        self._items[number] = f"{item}\0{found}"
        return found

    def entry(self, number: int) -> Entry:
        return self._store.entry(*self._place(self._items[number]))

    def _place(self, item: str) -> tuple[str, str]:
        """Return the key and the path of a message."""
        name, before, folder, _, file = item.split("\0")[:5]
        name = name[1:]
        path = f"{self._store.path}/{folder}/" if folder else f"{self._store.path}/"
        return f"{before}/{name}" if before else name, path + (file or name)

    def count(self) -> tuple[int, Iterator[Entry]]:
        # What has a name of ours is a message.
        with self._lock:
            for number in range(self._counted or 0, self.end):
                key = _key(self._items[number])
                if number and key == _key(self._items[number - 1]):
                    continue
                name, _, _ = key.partition("\0")
                own = name[1:].removesuffix(self._store.suffix)
                if is_id(own) or self.gist(number) != UNSURE:
                    self._count += 1
                else:
                    self._unsure.append(number)
            self._counted = self.end
            return self._count, map(self.entry, self._unsure)


def _item(key: str, file: str, folder: str, inode: int) -> str:
    """Return the text for a file that wasn't looked at yet; texts sort as messages do."""
    before, _, name = key.rpartition("/")
    other = "" if file == name else file
    # Our names and those of the Maildir specification begin with the second.
    return f"{name[:1].isdigit():d}{name}\0{before}\0{folder}\0{inode}\0{other}"


def _file(item: str) -> str:
    """Return what :func:`_item` returned, of which there may be more by now."""
    return "\0".join(item.split("\0", 5)[:5])


def _key(item: str) -> str:
    """Return what of *item* tells the message from others."""
    return item[: item.index("\0", item.index("\0") + 1)]


def listed(folder: str) -> list[str]:
    """Return the names in *folder*; none where there is no such folder."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether *entry* is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
