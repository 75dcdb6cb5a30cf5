"""How a command ends: its exit status, and what it says on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ..inbox.misses import NoMessageError
from ..stores.store import StoreError
from .terminal import complain

NO_MESSAGE = 1
MISUSE = 2
# As a shell has it: 128 and the number of the signal that would have ended the command.
INTERRUPTED = 130
CLOSED_PIPE = 141


def status_of(run: Callable[[], int]) -> int:
    """Return the exit status of *run*, and tell why it failed, if it did."""
    try:
        status = run()
        sys.stdout.flush()
    except NoMessageError as error:
        complain(str(error))
        return NO_MESSAGE
    except StoreError as error:
        complain(f"mailhandlers: {error}")
        return MISUSE
    except BrokenPipeError:
        # Python flushes standard output at its end, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return CLOSED_PIPE
    except OSError as error:
        complain(f"mailhandlers: {error.filename or ''}: {error.strerror or error}")
        return MISUSE
    except KeyboardInterrupt:
        return INTERRUPTED
    return status
