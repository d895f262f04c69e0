"""The two halves of a stream: settings are chosen on one, and results are those of the other."""

import hashlib
from typing import Literal

Half = Literal["even", "odd"]


def half_of(text: str) -> Half:
    """Which half of a stream a text belongs to, by a hash of it: the same in every experiment."""
    last_byte = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[-1]
    return "odd" if last_byte & 1 else "even"
