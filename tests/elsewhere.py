"""What is different here from where the reader of a page is: ports, folders, packages.

The ports 8025, 8026 and 8080 are free ones here, ``/home/eva`` is the section's folder, and
the package comes from this checkout, not from the index. A ``pip install`` into no
environment of the section's own would change that of the tests: it installs nothing, and
checks that all is here already.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from markup import Block, Section

BASH = ("shell", "bash", "sh")
PORTS = ("8025", "8026", "8080")
# Into the environment of the tests, which it would change.
INSTALLS_HERE = re.compile(r"(?<![/\w.-])(?<!-m )(?<!uv )(python3? -m )?pip install ")
INSTALLS = re.compile(r"(bin/|-m )pip install|\b(pipx|uvx|uv) ")
VOLATILE = [
    (re.compile(r"\d{10}\.M\d{6}P\d+Q\d{6}\.[\w.-]+"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{6}Z)?"), "TIME"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "TIME"),
    (re.compile(r"(127\.0\.0\.1|\[::1\]|localhost):\d+"), "PEER"),
]


def here(text: str, folder: Path, ports: Mapping[str, int]) -> str:
    """Return *text* of a block as it is to be done in *folder*, with *ports*."""
    text = text.replace("/home/eva", str(folder))
    text = re.sub(r"(aiosmtpd -n)(?! -l)", r"\1 -l localhost:8025", text)
    text = re.sub(
        r"(mailhandlers web [\w./-]+)(?![\w./-]| --listen)", r"\1 --listen 8026", text
    )
    for port, free in ports.items():
        text = re.sub(rf"\b{port}\b", str(free), text)
    text = re.sub(
        r"((?:/pip install|inject --include-apps aiosmtpd|--with) )mailhandlers\b",
        r"\1$PWD",
        text,
    )
    text = text.replace("uvx mailhandlers", "uvx --from $PWD mailhandlers")
    text = re.sub(r"(/pip install )'mailhandlers\[", r"\1'.[", text)
    # The README's test command runs this very test, so here it runs one file.
    return text.replace("-m pytest -n 2", "-m pytest -n 2 tests/test_envelope.py")


def is_command(block: Block) -> bool:
    """Tell whether *block* is something to type into a shell."""
    return block.kind in (*BASH, "console")


def without_installing(command: str) -> str:
    """Return *command* with each pip that would change the environment of the tests tamed."""
    tamed = f"{sys.executable} -m pip install --quiet --no-index --dry-run "
    return INSTALLS_HERE.sub(tamed, command)


def installs(section: Section) -> bool:
    """Tell whether a command of *section* installs something in its folder."""
    return any(INSTALLS.search(block.text) for block in section.blocks if is_command(block))


def plain(output: str) -> str:
    """Return *output* without what is different each time."""
    for pattern, name in VOLATILE:
        output = pattern.sub(name, output)
    return output.strip()
