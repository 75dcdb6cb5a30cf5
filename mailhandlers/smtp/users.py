"""Who may log in, as the option ``auth`` says it. No message repeats a password."""

from __future__ import annotations

import hmac
import os

_CHOICES = (
    "any, user:password, @FILE (a file whose first line is user:password) "
    "or $NAME (a variable that holds user:password)"
)


def read_users(text: object) -> str:
    """Return ``any`` or ``user:password``: *text*, or what the file or variable it names holds.

    ``@FILE`` is a file whose first line counts, ``$NAME`` an environment variable: other
    users of the machine see a command's arguments. Raises TypeError or ValueError.
    """
    if not isinstance(text, str):
        raise TypeError(f"auth is {_CHOICES}; it is a string, not a {type(text).__name__}")
    if text.startswith("@"):
        users = _first_line(text[1:])
    elif text.startswith("$"):
        users = _variable(text[1:])
    elif text == "any":
        return text
    else:
        users = text
    user, colon, _ = users.partition(":")
    if not (user and colon):
        raise ValueError(f"auth is {_CHOICES}")
    return users


def _first_line(path: str) -> str:
    # Its name isn't repeated either: with a user called "@eva" it would be a password.
    try:
        with open(path, "rb") as file:
            line = file.readline()
    except (OSError, ValueError) as error:  # ValueError for a NUL in the name
        cause = getattr(error, "strerror", None) or "this is no name of a file"
        raise ValueError(
            f"the file of auth=@FILE can't be read ({cause}): "
            "name one whose first line is user:password"
        ) from None
    return os.fsdecode(line.rstrip(b"\r\n"))


def _variable(name: str) -> str:
    if name not in os.environ:
        raise ValueError(
            "the variable of auth=$NAME is not in the environment: export it as user:password"
        )
    return os.environ[name]


class Users:
    """Who may log in: everybody for ``any``, or one for ``user:password``."""

    def __init__(self, text: str) -> None:
        user, _, password = text.partition(":")
        self.is_anybody = text == "any"
        """Whether every user with every password is let in."""
        self._user, self._password = map(os.fsencode, (user, password))

    def know(self, user: bytes, password: bytes) -> bool:
        """Return whether *user* may log in with *password*."""
        # Both are compared whatever one says: no time tells whether a user exists.
        is_known = hmac.compare_digest(user, self._user)
        is_known &= hmac.compare_digest(password, self._password)
        return is_known or self.is_anybody

    def know_digest(self, user: bytes, challenge: bytes, digest: bytes) -> bool:
        """Return whether *user* answered *challenge* with the *digest* of RFC 2195."""
        expected = hmac.new(self._password, challenge, "md5").hexdigest().encode()
        is_known = hmac.compare_digest(user, self._user)
        is_known &= hmac.compare_digest(digest, expected)
        return is_known
