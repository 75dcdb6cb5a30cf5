"""A bucket of an object store, by obstore: requests at the same time, errors of a disk.

obstore tells what went wrong in a text alone: here it becomes an OSError whose number says it.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .locks import LOCK_TIMEOUT

if TYPE_CHECKING:
    from asyncio import Semaphore

Mode: TypeAlias = Literal["create", "overwrite"]

PAGE = 1000
"""How many names one request lists."""

_TIMEOUT = timedelta(seconds=LOCK_TIMEOUT)
_AT_ONCE = 64

_CODE = re.compile(r"<Code>(\w{1,80})</Code>", re.ASCII)
_STATUS = re.compile(r"status code: (\d{3})", re.ASCII)
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
# Whom obstore asks where the environment names nobody.
_METADATA = ("169.254.169.254", "metadata.google")
_NO_CREDENTIALS = "no credentials: export those of the object store, such as AWS_ACCESS_KEY_ID"
_FORKED = "this process was forked from one that used the bucket: begin it by exec, or spawn"
_FULL = {"XMinioStorageFull", "QuotaExceeded", "InsufficientStorage"}


def bucket_at(scheme: str, name: str) -> Bucket:
    """Return the bucket *name* of the object store that the environment names.

    Raises ValueError, in one sentence, where obstore or a setting is missing.
    """
    if not find_spec("obstore"):
        raise ValueError("obstore is missing: pip install 'mailhandlers[bucket]'")
    from obstore.exceptions import BaseError

    settings = tuple(
        item for item in os.environ.items() if item[0].startswith(("AWS_", "AZURE_", "GOOGLE_"))
    )
    try:
        return _shared_bucket(scheme, name, settings)
    except BaseError as error:
        reason = str(error).partition("\n")[0].partition("error: ")[2]
        raise ValueError(f"the environment does not lead there: {reason}") from None


@functools.lru_cache(maxsize=16)
def _shared_bucket(scheme: str, name: str, settings: object) -> Bucket:
    """Return one bucket for all that use it with the same *settings* of the environment."""
    return Bucket(scheme, name)


def _allows_http() -> bool:
    """Tell whether an endpoint may do without TLS: one is named that does."""
    return any(
        ("ENDPOINT" in name and value.startswith("http://"))
        or (name.endswith(("ALLOW_HTTP", "USE_EMULATOR")) and value.lower() in ("1", "true"))
        for name, value in os.environ.items()
    )


class Bucket:
    """A bucket, for all stores in it: its connections are kept."""

    def __init__(self, scheme: str, name: str) -> None:
        from obstore import store

        kinds: Any = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}
        options = {
            "timeout": _TIMEOUT,
            "connect_timeout": _TIMEOUT / 2,
            "allow_http": _allows_http(),
        }
        retries = {"max_retries": 10, "retry_timeout": _TIMEOUT * 0.8}
        self.address = f"{scheme}://{name}"
        self._store = kinds[scheme](name, client_options=options, retry_config=retries)
        self._unretried = kinds[scheme](
            name, client_options=options, retry_config={"max_retries": 0}
        )
        self._pid = 0

    def keys(self, folder: str, after: str = "") -> Iterator[str]:
        """Yield the keys in *folder* in their order, from some place before *after* on."""
        import obstore

        offset = f"{folder}/{after}" if after else None
        pages = obstore.list(self._store, folder, offset=offset, chunk_size=PAGE)
        while True:
            with self._errors():
                page = next(pages, None)
            if page is None:
                return
            yield from (each["path"] for each in page)

    def directly_in(self, folder: str) -> tuple[list[str], dict[str, datetime]]:
        """Return the folders in *folder*, and of each object there its key and its time."""
        import obstore

        with self._errors():
            found = obstore.list_with_delimiter(self._store, folder or None)
        objects = {each["path"]: each["last_modified"] for each in found["objects"]}
        return [*found["common_prefixes"]], objects

    def get(self, key: str) -> tuple[bytes, datetime]:
        """Return an object and its time. Raises FileNotFoundError."""
        import obstore

        with self._errors():
            got = obstore.get(self._store, key)
            return bytes(got.bytes()), got.meta["last_modified"]

    def put_once(self, key: str, data: bytes, mode: Mode) -> None:
        """Put an object, without another attempt where that fails."""
        import obstore

        with self._errors():
            obstore.put(self._unretried, key, data, mode=mode, use_multipart=False)

    def put_all(
        self, phases: Iterable[tuple[dict[str, bytes], Mode]], seconds: float
    ) -> dict[str, BaseException]:
        """Put the objects of each phase at the same time, and then those of the next.

        Returns why objects of a phase were not put in *seconds*; then there is no next one.
        """
        import asyncio  # who reads needs none

        if asyncio._get_running_loop() is not None:
            raise OSError(errno.EAGAIN, "no thread can be had that waits for it", self.address)

        async def put() -> dict[str, BaseException]:
            until = time.monotonic() + seconds
            limit = asyncio.Semaphore(_AT_ONCE)
            for objects, mode in phases:
                tasks = {
                    key: asyncio.create_task(self._put(limit, key, data, mode))
                    for key, data in objects.items()
                }
                _, late = await asyncio.wait(
                    tasks.values(), timeout=max(0, until - time.monotonic())
                )
                failures = {
                    key: error
                    for key, task in tasks.items()
                    if (error := self._late() if task in late else task.exception())
                }
                if failures:
                    return failures
            return {}

        return asyncio.run(put())

    async def _put(self, limit: Semaphore, key: str, data: bytes, mode: Mode) -> None:
        import obstore

        async with limit:
            with self._errors():
                try:
                    await obstore.put_async(
                        self._store, key, data, mode=mode, use_multipart=False
                    )
                except obstore.exceptions.AlreadyExistsError:
                    # Perhaps by an attempt of ours whose answer got lost.
                    got = await obstore.get_async(self._store, key)
                    if bytes(await got.bytes_async()) != data:
                        raise

    def delete(self, keys: Sequence[str]) -> None:
        """Delete the objects that there are, in the order of *keys*."""
        import obstore

        for start in range(0, len(keys), PAGE):
            some = keys[start : start + PAGE]
            try:
                with self._errors():
                    obstore.delete(self._store, some)
            except FileNotFoundError:  # Google and Azure tell if one is not there
                for key in some:
                    with suppress(FileNotFoundError), self._errors():
                        obstore.delete(self._store, key)

    def _late(self) -> OSError:
        return OSError(errno.ETIMEDOUT, "the object store takes too long", self.address)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise OSError for what obstore raises."""
        from obstore.exceptions import BaseError

        if self._pid and self._pid != os.getpid():
            # It would wait without end.
            raise OSError(errno.EDEADLK, _FORKED, self.address)
        self._pid = os.getpid()
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            raise self._as_os_error(error) from None

    def _as_os_error(self, error: Exception) -> OSError:
        from obstore import exceptions

        text = str(error)
        status = found[1] if (found := _STATUS.search(text)) else ""
        code = found[1] if (found := _CODE.search(text)) else ""
        answer = f"the object store says {' '.join(filter(None, (status, code)))}"
        if code in _NO_BUCKET:
            return OSError(errno.ENOTDIR, "there is no such bucket", self.address)
        if isinstance(error, FileNotFoundError):
            return OSError(errno.ENOENT, "there is no such object", self.address)
        if isinstance(error, exceptions.AlreadyExistsError):
            return OSError(errno.EEXIST, "there is such an object already", self.address)
        if any(host in text for host in _METADATA):
            return OSError(errno.EACCES, _NO_CREDENTIALS, self.address)
        if code in _FULL or status in ("413", "507"):
            return OSError(errno.ENOSPC, answer, self.address)
        if status == "501" or isinstance(error, exceptions.NotSupportedError):
            return UnsupportedError(errno.ENOTSUP, answer, self.address)
        if status in ("401", "403"):
            return OSError(errno.EACCES, answer, self.address)
        if status[:1] == "4" and status not in ("408", "429"):
            return OSError(errno.EIO, answer, self.address)
        # It was tried for long.
        reason = answer if status else "the object store can't be reached"
        return OSError(errno.ETIMEDOUT, reason, self.address)


class UnsupportedError(OSError):
    """The object store has no such thing."""
