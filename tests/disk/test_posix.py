"""What systems other than Windows are asked for, where they can't do it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from mailhandlers.disk import system

pytestmark = pytest.mark.posix


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM, errno.EMFILE])
def test_a_kernel_without_pidfd_tells_when_a_process_has_ended(
    error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_such_call(pid: int) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "pidfd_open", no_such_call, raising=False)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = system.Process(child.pid)
        assert not process.has_ended()
        child.communicate(b"\n")
        assert process.has_ended()
