"""DKIM: a mail that was signed, and what becomes of it."""

from __future__ import annotations

import base64
import builtins
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("dkim", reason="dkimpy is not installed")
pytest.importorskip("cryptography")
import dkim  # type: ignore[import-untyped] # it has no types
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from mailhandlers import StoredMessage
from mailhandlers.message.signature import faults

CONTENT = (
    b"From: Eva <eva@example.com>\r\nTo: bob@example.org\r\nSubject: Welcome,\r\n to  Bob\r\n"
    b"Date: Mon, 30 Nov 2026 08:48:00 +0000\r\nMessage-ID: <4711@example.com>\r\n\r\n"
    b"Hello  Bob \r\n\tHello\t\r\n\r\n\r\n"
)


class Keys:
    """A private key, and the public one in each of its forms."""

    def __init__(self, folder: Path, size: int = 2048) -> None:
        key = rsa.generate_private_key(65537, size)
        self.private = key.private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
        )
        public = key.public_key()
        self.pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(der)
        self.path = folder / "dkim.txt"
        self.path.write_bytes(self.record)

    def signed(
        self,
        content: bytes = CONTENT,
        how: Sequence[bytes] = (b"relaxed", b"relaxed"),
        **options: Any,
    ) -> bytes:
        signature: bytes = dkim.sign(
            content, b"s1", b"example.com", self.private, canonicalize=how, **options
        )
        return signature + content


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


def problems(content: bytes, key: Path) -> list[str]:
    found = StoredMessage.parse(content).problems(dkim_key=key)
    return [problem.text for problem in found if problem.name == "no-dkim"]


@pytest.mark.parametrize("body", [b"simple", b"relaxed"])
@pytest.mark.parametrize("header", [b"simple", b"relaxed"])
def test_a_signature_is_valid(keys: Keys, header: bytes, body: bytes) -> None:
    signed = keys.signed(how=(header, body))
    assert problems(signed, keys.path) == []
    # As a store of another program has it.
    assert problems(signed.replace(b"\r\n", b"\n"), keys.path) == []


def test_a_relaxed_one_outlives_blanks(keys: Keys) -> None:
    changed = keys.signed().replace(b"Hello  Bob ", b"Hello Bob").replace(b"to  Bob", b"to Bob")
    assert problems(changed, keys.path) == []
    simple = keys.signed(how=(b"simple", b"simple"))
    assert problems(simple.replace(b"Hello  Bob ", b"Hello Bob"), keys.path)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"Hello  Bob", b"Hello  Tom", "the body is not the one that example.com signed"),
        (b"Welcome", b"Goodbye", "made with another key, or a header was changed since"),
        (b"From: Eva", b"From: a@example.net\r\nFrom: Eva", "a header was changed"),
        (b"DKIM-Signature: ", b"X-Signature: ", "(there is none)"),
        (b" v=1;", b" v=2;", "is wrong: v= value is not 1"),
        (b" v=1;", b" v=1; t=1;", "can't be read"),
        (b" v=1;", b" v=1; x=1;", "is past"),
        (b" v=1;", b" v=1; x=" + b"1" * 5000 + b";", "can't be read"),
        (b" v=1;", b" v=1;" + b" " * 200, "is too long"),
        (b" v=1;", b" v=1; z=" + b"a" * 9000 + b";", "is too long"),
        (b" h=", b" h=" + b"a:" * 200, "is too long"),
        (b" bh=", b" bh=!", ""),
        (b" b=", b" b=!", "b= value is not valid base64"),
    ],
)
def test_a_signature_is_not_valid(keys: Keys, old: bytes, new: bytes, why: str) -> None:
    signed = keys.signed()
    assert old in signed
    (text,) = problems(signed.replace(old, new, 1), keys.path)
    assert why in text


def test_another_key(keys: Keys, tmp_path: Path) -> None:
    other = Keys(tmp_path)
    assert problems(keys.signed(), other.path)
    # One of two is enough: a provider signs as well.
    assert problems(other.signed(keys.signed()), keys.path) == []
    assert problems(keys.signed(other.signed()), keys.path) == []


def test_a_short_key(tmp_path: Path) -> None:
    short = Keys(tmp_path, 1024)
    assert problems(short.signed(), short.path) == []


def test_the_forms_of_a_key(keys: Keys, tmp_path: Path) -> None:
    path = tmp_path / "key"
    zone = b's1._domainkey IN TXT ( "%b"\n  "%b" ) ; ----- DKIM key s1 for example.com\n'
    zone %= (keys.record[:200], keys.record[200:])
    for form in (keys.pem, keys.record + b"\n", zone):
        path.write_bytes(form)
        assert problems(keys.signed(), path) == [], form


def test_ed25519(tmp_path: Path) -> None:
    pytest.importorskip("nacl")
    key = ed25519.Ed25519PrivateKey.generate()
    raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    signature = dkim.sign(
        *(CONTENT, b"s1", b"example.com", base64.b64encode(raw)),
        signature_algorithm=b"ed25519-sha256",
    )
    path = tmp_path / "key.pem"
    path.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    assert problems(signature + CONTENT, path) == []
    assert problems(signature + CONTENT.replace(b"Hello", b"Bye"), path)


def test_what_is_no_key_is_said(keys: Keys, tmp_path: Path) -> None:
    path = tmp_path / "key"
    for text in ("", "hello", "p=", "p=hello!", "v=DKIM1; k=rsa; p=aGVsbG8=", '"p=', "é p=a"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match="key holds no key for DKIM"):
            faults(CONTENT, path)
    path.write_bytes(keys.pem.replace(b"MII", b"AAA"))
    with pytest.raises(ValueError, match="holds no key for DKIM"):
        faults(CONTENT, path)
    path.write_bytes(keys.private)
    with pytest.raises(ValueError, match="openssl pkey -in FILE -pubout"):
        faults(CONTENT, path)
    with pytest.raises(FileNotFoundError):
        faults(CONTENT, tmp_path / "none")


def test_without_dkimpy_one_hears_what_to_install(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **options: Mapping[str, Any]) -> ModuleType:
        if name == "dkim":
            raise ModuleNotFoundError(name)
        return real(name, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError, match=r"pip install 'mailhandlers\[check\]'"):
        faults(CONTENT, keys.path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b"DKIM-Signature:\r\n",
        b"DKIM-Signature: v=1; a=b; b=a\r\n\r\n",
        b"DKIM-Signature: v=1; v=1\r\n\r\n",
        b"DKIM-Signature: =\r\n\r\n",
        b" folded\r\nDKIM-Signature: v=1\r\n\r\n",
        b"DKIM-Signature: v=1; a=rsa-sha256; b=aaaa; bh=aaaa; d=\xff; h=\xff; s=\xff\r\n\r\n",
        b"DKIM-Signature: v=1; a=rsa-sha256; b=aaaa; bh=aaaaa; d=a; h=a; s=a; l=\r\n\r\n",
        b"DKIM-Signature: v=1; a=rsa-sha256; c=a/b/c; b=aaaa; bh=aaaa; d=a; h=a; s=a\r\n\r\n",
        b"DKIM-Signature: v=1; a=rsa-sha256; b=aaaa; bh=aaaa; d=a; h=a; s=a; i=\r\n\r\n",
        b"DKIM-Signature: v=1; a=ed25519-sha256; b=aaaa; bh=a===; d=a; h=a; s=a\r\n\r\n",
    ],
)
def test_no_message_makes_it_raise(keys: Keys, content: bytes) -> None:
    assert len(faults(content, keys.path)) == 1
