"""The part that measures other programs that catch mail, beside ours."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import ratios
import servers
from loads import Load

_OTHERS = {
    "dsmtpd": ("-m", "dsmtpd", "-i", servers.HOST, "-p", "PORT", "-d", "store"),
    "maildirsink": ("-m", "maildirsink", "--host", servers.HOST, "--port", "PORT"),
    "FakeSMTPd": ("-m", "fakesmtpd", "-b", servers.HOST, "-p", "PORT", "-o", "store"),
}


def others(options: argparse.Namespace) -> None:
    """Print messages a second of other programs that pip installs, over Sink's."""
    with tempfile.TemporaryDirectory() as folder:
        targets = [servers.SINK, servers.MAILBOX, *servers.handlers(None)]
        for name, arguments in _OTHERS.items():
            python = _installed(name, Path(folder, name))
            if python is None:
                print(f"  {name} is left out: pip can't install it")
            else:
                targets.append(servers.Target(name, "", command=(python, *arguments)))
        for sessions, messages in ((50, options.messages), (1, options.messages // 3)):
            load = Load(sessions, messages, is_kept=False)
            measured = ratios.speeds(targets, options.rounds, load)
            print(f"\nOther programs over Sink, {load}:")
            for name, values in ratios.over("Sink", measured).items():
                print(f"  {name:24} {ratios.spread(values)}", flush=True)


def _installed(name: str, folder: Path) -> str | None:
    """Return the interpreter of a new environment with the package *name*, if there is one."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin/python")
    done = subprocess.run([python, "-m", "pip", "-qq", "install", name], check=False)
    return None if done.returncode else python
