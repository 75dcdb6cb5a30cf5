"""Object stores on loopback, each a process of its own, and stores in their buckets."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import os
import shutil
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import NoReturn

import pytest
from support import HOST, Process, reserved_port, wait_until

_REGION = "us-east-1"
# The account that Azurite has, as its documentation tells everybody.
_AZURITE = "devstoreaccount1"
_AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


class Address(str):
    """The address of a store in a bucket, where a test expects a path.

    A test that looks at files has nothing to look at here, and is skipped.
    """

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # Python's own questions
            raise AttributeError(name)
        pytest.skip(f"a store in a bucket is no file, and has no {name}")

    def __truediv__(self, name: str) -> NoReturn:
        pytest.skip("a store in a bucket is no folder")


def program(name: str) -> str:
    """Return the path of a program, which may be beside this Python; skip where it is not."""
    beside = sysconfig.get_path("scripts")
    found = shutil.which(name, path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"{name} is not here")
    return found


@contextmanager
def serving(command: Sequence[str], address: str, log: Path) -> Iterator[None]:
    """Run the server *command* until the end of the block, from when it answers."""
    with (
        log.open("wb") as output,
        Process[bytes](command, cwd=log.parent, stdout=output, stderr=output) as it,
    ):

        def answers() -> bool:
            assert it.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(address, timeout=5).close()
            except urllib.error.HTTPError:  # it wants credentials
                return True
            except OSError:
                return False
            return True

        try:
            wait_until(answers)
            yield
        finally:
            it.kill()


@contextmanager
def rclone(folder: Path) -> Iterator[dict[str, str]]:
    """Serve *folder* as S3 with a bucket ``mail``; the environment that leads there."""
    pytest.importorskip("obstore", reason="obstore is not here")
    (folder / "buckets" / "mail").mkdir(parents=True)
    reservation, port = reserved_port()
    key, secret = "an-access-key", "a-secret-key"
    command = [program("rclone"), "serve", "s3", "--addr", f"{HOST}:{port}"]
    command += ["--config", str(folder / "none.conf"), "--auth-key", f"{key},{secret}"]
    command += [str(folder / "buckets")]
    url = f"http://{HOST}:{port}"
    with reservation, serving(command, url, folder / "log"):
        yield aws(url, key, secret)


@contextmanager
def moto(folder: Path) -> Iterator[dict[str, str]]:
    """Run moto's S3, with a bucket ``mail``."""
    pytest.importorskip("moto", reason="moto is not here")
    reservation, port = reserved_port()
    url = f"http://{HOST}:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
    with reservation, serving(command, url, folder / "log"):
        environment = aws(url, "an-access-key", "a-secret-key")
        make_bucket(environment, "mail")
        yield environment


@contextmanager
def azurite(folder: Path) -> Iterator[dict[str, str]]:
    """Run Azurite with a container ``mail``: from ``PATH``, or from ``NODE_PATH``."""
    modules = os.environ.get("NODE_PATH", "")
    name = "azurite-blob"
    command = [shutil.which(name, path=f"{modules}/.bin") or program(name)]
    reservation, port = reserved_port()
    command += ["--blobHost", HOST, "--blobPort", str(port), "--inMemoryPersistence"]
    command += ["--disableTelemetry", "--skipApiVersionCheck"]
    url = f"http://{HOST}:{port}"
    with reservation, serving(command, url, folder / "log"):
        _make_container(url, "mail")
        yield {
            "AZURE_STORAGE_ACCOUNT_NAME": _AZURITE,
            "AZURE_STORAGE_ACCOUNT_KEY": _AZURITE_KEY,
            "AZURE_STORAGE_ENDPOINT": f"{url}/{_AZURITE}",
        }


def aws(url: str, key: str, secret: str) -> dict[str, str]:
    """Return the environment that leads to an S3 server."""
    return {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": _REGION,
        "AWS_ENDPOINT_URL": url,
    }


def make_bucket(environment: Mapping[str, str], name: str) -> None:
    """Make a bucket, which obstore can't; signed as AWS's Signature Version 4 has it."""
    url = environment["AWS_ENDPOINT_URL"]
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    empty = hashlib.sha256(b"").hexdigest()
    headers = {
        "host": url.partition("://")[2],
        "x-amz-content-sha256": empty,
        "x-amz-date": moment,
    }
    signed = ";".join(headers)
    lines = "".join(f"{header}:{value}\n" for header, value in headers.items())
    request = f"PUT\n/{name}\n\n{lines}\n{signed}\n{empty}"
    scope = f"{moment[:8]}/{environment['AWS_REGION']}/s3/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = functools.reduce(
        _sign, scope.split("/"), f"AWS4{environment['AWS_SECRET_ACCESS_KEY']}".encode()
    )
    signature = _sign(key, f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={environment['AWS_ACCESS_KEY_ID']}/{scope},"
        f"SignedHeaders={signed},Signature={signature}"
    )
    _put(f"{url}/{name}", headers)


def _make_container(url: str, name: str) -> None:
    moment, version = formatdate(usegmt=True), "2021-08-06"
    text = "PUT" + "\n" * 12 + f"x-ms-date:{moment}\nx-ms-version:{version}\n"
    text += f"/{_AZURITE}/{_AZURITE}/{name}\nrestype:container"
    signature = base64.b64encode(_sign(base64.b64decode(_AZURITE_KEY), text)).decode()
    headers = {"x-ms-date": moment, "x-ms-version": version}
    headers["authorization"] = f"SharedKey {_AZURITE}:{signature}"
    _put(f"{url}/{_AZURITE}/{name}?restype=container", headers)


def _sign(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _put(url: str, headers: Mapping[str, str]) -> None:
    request = urllib.request.Request(url, method="PUT", headers=dict(headers))
    urllib.request.urlopen(request, timeout=60).close()
