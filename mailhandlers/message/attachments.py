"""The attachments of a message: what each holds, and a safe place to put it."""

from __future__ import annotations

import os
import re
from email.message import EmailMessage
from functools import cached_property
from pathlib import Path

from .content import octets, raw_header
from .headers import as_text

_LONGEST_NAME = 200  # of the 255 octets that file systems take
# Path separators, what Windows forbids, what moves a cursor or turns text round.
_UNSAFE = re.compile(
    '[\\\\/:*?"<>|\0-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]'
)
_DEVICE = re.compile(r"(?i)(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)")


class Attachment:
    """One part of a message that isn't the text it shows: a file, an image, a message.

    An image that the HTML shows is one as well, found by its :attr:`content_id`.
    """

    def __init__(self, part: EmailMessage) -> None:
        self.part = part
        """The part of the message that it is."""

    @cached_property
    def filename(self) -> str | None:
        """The name that the sender gave it, as it is: see :meth:`save_to`. None without one."""
        return self.part.get_filename() or None

    @cached_property
    def content_type(self) -> str:
        """The type the sender declared, such as ``application/pdf``."""
        return self.part.get_content_type()

    @cached_property
    def content(self) -> bytes:
        """The octets, decoded; of a message within the message its source."""
        return octets(self.part)

    @cached_property
    def content_id(self) -> str | None:
        """The id that ``cid:`` links of the HTML name, without ``<>``. None without one."""
        text = as_text(raw_header(self.part, "content-id") or "").strip()
        return text.removeprefix("<").removesuffix(">").strip() or None

    @cached_property
    def content_location(self) -> str | None:
        """The address that the HTML may name instead of ``cid:``. None without one."""
        return as_text(raw_header(self.part, "content-location") or "").strip() or None

    def save_to(self, folder: str | os.PathLike[str]) -> Path:
        """Write the content to a new file in *folder*, made if missing; return its path.

        The file is called as the sender called it, as far as that is safe: it never leaves
        *folder*, replaces nothing, follows no link and isn't hidden. Where the name is
        taken a number is put behind it. Raises OSError where the file can't be written.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        name, number = self.safe_name(), 1
        while True:
            number = _free_number(place, name, number)
            path = place / _numbered(name, number)
            try:
                with path.open("xb") as file:  # somebody else may have made it meanwhile
                    file.write(self.content)
            except FileExistsError:
                number += 1
            else:
                return path

    def safe_name(self) -> str:
        """Return the name, or one made up, as it may stand in a folder of the user's."""
        last = re.split(r"[\\/]", self.filename or "")[-1]
        name = _UNSAFE.sub("_", last).strip(" .")
        if not name or _DEVICE.match(name):
            name = f"_{name}" if name else f"attachment{_extension(self.content_type)}"
        stem, extension = os.path.splitext(name)
        extension = _cut(extension, _LONGEST_NAME // 2)
        return _cut(stem, _LONGEST_NAME - len(extension.encode())) + extension

    def __repr__(self) -> str:
        return f"<Attachment {self.filename!r} {self.content_type}>"


def _numbered(name: str, number: int) -> str:
    stem, extension = os.path.splitext(name)
    return name if number == 1 else f"{stem}-{number}{extension}"


def _free_number(place: Path, name: str, number: int) -> int:
    """Return a number, *number* or above, under which there is no file of this name.

    Where many have the name, to try one number after the other takes ever longer: so the
    steps double until a number is free, and the gap to the last one taken is halved.
    """
    taken, free = number - 1, number
    while os.path.lexists(place / _numbered(name, free)):
        taken, free = free, 2 * free
    while free - taken > 1:
        middle = (taken + free) // 2
        if os.path.lexists(place / _numbered(name, middle)):
            taken = middle
        else:
            free = middle
    return free


def _extension(content_type: str) -> str:
    import mimetypes  # it reads the system's tables

    return mimetypes.guess_extension(content_type) or ""


def _cut(text: str, octets: int) -> str:
    return text.encode()[:octets].decode("utf-8", "ignore")


def human_size(octets: int) -> str:
    """Return a size as people read it: ``512 B``, ``2.0 kB``, ``31.5 MB``."""
    size = float(octets)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.1f} {unit}" if unit != "B" else f"{octets} B"
        size /= 1000
    return f"{size:.1f} GB"
