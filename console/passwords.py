"""Passwords: argon2id hashes, and checks that take as long for an account that does not exist."""

from functools import lru_cache
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from reviews.errors import WrongUse

SHORTEST, LONGEST = 10, 512
# Each check takes 64 MiB: many at once would take a machine's memory.
_AT_ONCE = BoundedSemaphore(2)
_HASHER = PasswordHasher()  # RFC 9106, the second recommended choice


def hash_password(password: str) -> str:
    """The argon2id hash of a password.

    Raises:
        WrongUse: If it is too short or too long.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise WrongUse(f"A password has {SHORTEST} to {LONGEST} characters.")
    with _AT_ONCE:
        return _HASHER.hash(password)


def is_right(password: str, stored: str | None) -> bool:
    """Whether a password is the one of this hash; where there is no hash, False after the same time."""
    with _AT_ONCE:
        try:
            _HASHER.verify(stored or _nobodys(), password[:LONGEST])
        except (VerificationError, InvalidHashError):
            return False
    return stored is not None


@lru_cache(maxsize=1)
def _nobodys() -> str:
    return _HASHER.hash("the password of nobody")
