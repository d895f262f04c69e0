"""Which reviews are meant by what they have in common, found in steps of bounded size."""

from typing import Any

from sqlalchemy import text

from reviews.erasure import MOST_REVIEWS
from reviews.errors import WrongUse
from storage.database import Database

_ROWS_AT_ONCE = 20_000
_COLUMNS = ("product", "source")
_NEXT = """
SELECT max(record), array_agg(DISTINCT review_id) FILTER (WHERE {condition})
  FROM (SELECT * FROM review WHERE record > :after ORDER BY record LIMIT :limit) part
"""


def ids_with(database: Database, name: str, value: str) -> list[str]:
    """The ids of all reviews of which any version has this product, source or attribute.

    It walks through all reviews: about a second for a million.

    Args:
        database: Where from.
        name: ``product``, ``source``, or the name of an attribute.
        value: Exactly.

    Raises:
        WrongUse: If there are more than one erasure takes.
    """
    condition = f"{name} = :value" if name in _COLUMNS else "attributes ->> :name = :value"
    query, after, found = text(_NEXT.format(condition=condition)), -1, set[str]()
    given: dict[str, Any] = {"value": value, "limit": _ROWS_AT_ONCE}
    if name not in _COLUMNS:
        given["name"] = name
    while True:
        last, ids = database.fetch(query, {**given, "after": after})[0]
        if last is None:
            return sorted(found)
        found.update(ids or ())
        if len(found) > MOST_REVIEWS:
            raise WrongUse(
                f"More than {MOST_REVIEWS:,} reviews have {name}={value}: one erasure takes fewer."
            )
        after = last
