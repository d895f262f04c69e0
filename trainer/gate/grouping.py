"""Which slices a row belongs to."""

from collections.abc import Sequence
from datetime import UTC, datetime

_SHORT_CHARACTERS = 80
_LONG_CHARACTERS = 400


def groups_of(
    texts: Sequence[str],
    products: Sequence[str | None],
    sources: Sequence[str | None],
    published: Sequence[datetime],
) -> dict[str, list[str]]:
    """The slices of each row by ``product``, ``source``, ``length`` and ``month``; '' where it has none."""
    return {
        "product": [product or "" for product in products],
        "source": [source or "" for source in sources],
        "length": [length_group(text) for text in texts],
        "month": [f"{moment.astimezone(UTC):%Y-%m}" for moment in published],
    }


def length_group(text: str) -> str:
    """``short`` under 80 characters, ``long`` from 400 on, else ``medium``: about a line and a paragraph."""
    if len(text) < _SHORT_CHARACTERS:
        return "short"
    return "long" if len(text) >= _LONG_CHARACTERS else "medium"
