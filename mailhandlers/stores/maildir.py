"""A Maildir, as https://cr.yp.to/proto/maildir.html has it: MaildirSink's, or another's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .. import block
from ..disk import files, system
from ..mail import Identity, Mail
from .folder import FolderStore
from .keep import Place
from .latest import read_mail


class MaildirStore(FolderStore):
    """A folder with the folders ``tmp``, ``new`` and ``cur``, and a file for each message."""

    @property
    def folders(self) -> list[str]:
        return [f"{self.path}/new", f"{self.path}/cur"]

    def places(self) -> Iterable[Place]:
        return [Place((*self.folders,))]

    @property
    def _all_folders(self) -> list[str]:
        # tmp comes last: without new, a reader would take it for a recipient's folder.
        return [self.path, *self.folders, f"{self.path}/tmp"]

    def prepare(self) -> None:
        self._disk.make_folders(self._all_folders)
        files.sweep(f"{self.path}/tmp")
        super().prepare()

    def add_files(self, mails: Sequence[Mail], patience: float) -> Iterable[Place]:
        new_files = [
            files.NewFile(
                # Not its own name: a copy that was killed left that, and comes again.
                f"{self.path}/tmp/{Identity.now().id}",
                [f"{self.path}/new/{mail.envelope.id}"],
                block.encode(mail),
            )
            for mail in mails
        ]
        self._disk.add(self._all_folders, new_files)
        return [*self.places()] * len(mails)

    def keys(self, folder: str, names: Sequence[str]) -> Iterable[tuple[str, str]]:
        # A mail client puts flags behind the name.
        return ((system.without_flags(name), name) for name in names)

    def read_file(self, path: str) -> Mail:
        return read_mail(path, is_mail=lambda head: True)  # whatever it holds
