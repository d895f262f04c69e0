"""Lists in pieces: each has a cursor that leads to the next one."""

import base64
import json
from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field

from reviews.errors import WrongUse

MOST_ITEMS = 500
Item = TypeVar("Item")
_LONGEST_CURSOR = 1000

Limit = Annotated[int, Query(ge=1, le=MOST_ITEMS, description="At most so many items.")]
Cursor = Annotated[
    str | None,
    Query(max_length=_LONGEST_CURSOR, description="The `next` of the piece before; without it, the first."),
]


class Piece(BaseModel, Generic[Item]):
    """A piece of a list.

    Attributes:
        items: In order.
        next: The cursor of the next piece; null at the end.
    """

    items: list[Item]
    next: str | None = Field(default=None, description="The cursor of the next piece; null at the end.")


def to_cursor(*position: Any) -> str:
    """A position in a list, in a form that programs pass on and do not read."""
    return base64.urlsafe_b64encode(json.dumps(position, default=str).encode()).decode().rstrip("=")


def from_cursor(cursor: str | None, kinds: Sequence[type]) -> tuple[Any, ...] | None:
    """The position that :func:`to_cursor` wrote; None at the beginning.

    Args:
        cursor: As it came.
        kinds: The type of each value: ``int``, ``float`` or ``str``.

    Raises:
        WrongUse: If it is none of this list.
    """
    if cursor is None:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        values = json.loads(base64.b64decode(padded.encode(), altchars=b"-_", validate=True))
    except (ValueError, RecursionError) as err:
        raise WrongUse("The cursor is not one of this list: leave it out to begin anew.") from err
    if not isinstance(values, list) or [type(value) for value in values] != list(kinds):
        raise WrongUse("The cursor is not one of this list: leave it out to begin anew.")
    return tuple(values)
