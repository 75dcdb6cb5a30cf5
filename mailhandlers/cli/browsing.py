"""``mailhandlers web``: the page and the HTTP API, live."""

from __future__ import annotations

from collections.abc import Sequence

from .. import web
from ..reading.store import StoreError
from . import arguments
from .commands import parser_of


def run(argv: Sequence[str]) -> int:
    """Show a store as a page until Ctrl-C.

    Raises ModuleNotFoundError where the extra ``web`` is not installed.
    """
    parser = parser_of("web")
    arguments.add_store(parser)
    parser.add_argument(
        "--listen",
        metavar="[HOST:]PORT",
        default="localhost:8026",
        help="where the page is (default: %(default)s); elsewhere than on this machine "
        "alone, only with the token that is printed then",
    )
    options = parser.parse_args(argv)
    try:
        web.main(options.store, options.listen)
    except StoreError:
        raise
    except ValueError as error:
        parser.error(str(error))
    return 0
