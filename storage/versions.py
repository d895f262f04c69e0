"""Which version of a review is the current one, said once for every statement that asks.

A review id published again is a new row, and nothing is marked: the greatest row in this order is current.
The publisher's time decides; between two of one moment Kafka's time of the record does, then their arrival.
The record comes last and makes the order total: between two partitions it knows no time. The index
``review_current_idx`` has this order.
"""

_ORDER = ("published_at", "timestamp_ms", "received_at", "record")


def place(review: str) -> str:
    """A review's place among the versions of its id, as an SQL row; greater is newer.

    Args:
        review: The alias of the table in the statement.
    """
    return f"({', '.join(f'{review}.{column}' for column in _ORDER)})"


def newest_first(review: str) -> str:
    """What to order by so that the current version comes first."""
    return ", ".join(f"{review}.{column} DESC" for column in _ORDER)


def oldest_first(review: str) -> str:
    """What to order by so that the first version comes first."""
    return ", ".join(f"{review}.{column}" for column in _ORDER)


def is_superseded(review: str) -> str:
    """That a review has a newer version, as an SQL condition.

    Args:
        review: The alias of the table in the statement, other than ``newer``.
    """
    return (
        f"EXISTS (SELECT FROM review newer WHERE newer.review_id = {review}.review_id "
        f"AND {place('newer')} > {place(review)})"
    )
