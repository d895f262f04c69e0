"""JSON output that loses nothing and holds no character that a terminal might obey."""

import json
from datetime import datetime
from typing import Any

from reviews.sanitise import KEPT


def to_json(value: object, *, indent: int | None = None) -> str:
    """The value as JSON that loses nothing: what is not printable is written as an escape.

    Times become ISO 8601, bytes that are not UTF-8 keep backslashes for what cannot be decoded.
    """
    return _escaped(json.dumps(value, default=plain, ensure_ascii=False, indent=indent))


def plain(value: Any) -> Any:
    """What JSON and CSV write for a value that they have no notation for."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _escaped(text: str) -> str:
    """JSON with each character that a terminal might obey as an escape; line feeds are those of an indent."""
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() or mark in KEPT else json.dumps(mark)[1:-1] for mark in text)
