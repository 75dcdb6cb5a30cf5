"""Pure functions between a message and the bytes that stand for it in a store.

Each format has a module with its two directions, and with what tells a whole entry from
one that a crash cut short. Nothing here touches a disk.
"""


class FormatError(ValueError):
    """These bytes are no whole message in this format."""
