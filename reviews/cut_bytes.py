"""Values from outside that are too long to keep: their beginning, and what identifies the whole."""

import hashlib
from typing import Final

KEPT_BYTES: Final = 64 * 1024
"""How much of a value that is too long is kept."""


class CutBytes(bytes):
    """The beginning of a value that was too long to be kept.

    Attributes:
        full_bytes: How many bytes the whole value has.
        sha256: The SHA-256 of the whole value, in hexadecimal digits.
    """

    full_bytes: int
    sha256: str

    def __new__(cls, beginning: bytes, full_bytes: int, sha256: str) -> "CutBytes":
        """The beginning of a value, and what identifies the whole."""
        value = super().__new__(cls, beginning)
        value.full_bytes = full_bytes
        value.sha256 = sha256
        return value


def cut(value: bytes, kept_bytes: int = KEPT_BYTES) -> bytes:
    """The beginning of a value, with what identifies the whole; the value itself where that is all of it."""
    if len(value) <= kept_bytes:
        return value
    sha256 = value.sha256 if isinstance(value, CutBytes) else hashlib.sha256(value).hexdigest()
    return CutBytes(value[:kept_bytes], full_bytes(value), sha256)


def full_bytes(value: bytes | None) -> int:
    """How many bytes the whole value has, also where it is cut; 0 for none."""
    if isinstance(value, CutBytes):
        return value.full_bytes
    return 0 if value is None else len(value)
