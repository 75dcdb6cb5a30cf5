"""``mailhandlers web``: the page and the API, until Ctrl-C."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence

from ..stores.store import StoreError
from ..web.server import serve

_MISUSE = 2


def run(argv: Sequence[str]) -> int:
    """Serve a store; return the exit status."""
    parser = ArgumentParser(
        prog="mailhandlers web",
        description="Show the messages of a store as a page that is live, and over HTTP.",
        allow_abbrev=False,
    )
    parser.add_argument("store", help="the file or folder that holds the messages")
    parser.add_argument(
        "--listen",
        metavar="[HOST:]PORT",
        default="localhost:8026",
        help="where to listen (default: %(default)s); beyond this computer a token is needed, "
        "which the printed address holds",
    )
    options = parser.parse_args(argv)
    try:
        serve(options.store, options.listen)
    except KeyboardInterrupt:
        return 0
    except ValueError as error:  # StoreError is one
        print(f"mailhandlers: {error}", file=sys.stderr)
        return 1 if isinstance(error, StoreError) else _MISUSE
    except OSError as error:
        print(f"mailhandlers: {options.listen}: {error.strerror}", file=sys.stderr)
        return 1
    return 0
