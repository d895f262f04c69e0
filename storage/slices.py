"""The audit slice in SQL: the same hash and the same border as ``reviews.slices``, where the rows are."""

_HASH_BYTES = 7
_POSITIONS = 1 << (8 * _HASH_BYTES)


def audit_condition(share: float) -> str:
    r"""SQL that is true of a row ``r`` with a ``review_id`` of the audit slice.

    The hash of ``reviews.slices.hash_position`` compared as bytes, which is in order of the numbers that they
    spell.

    Args:
        share: The audit slice's share of all reviews, in [0, 1].
    """
    border = _first_outside(share)
    if border == _POSITIONS:
        return "true"
    digest = r"sha256('reviewloop slice\000'::bytea || convert_to(r.review_id, 'UTF8'))"
    return f"substr({digest}, 1, {_HASH_BYTES}) < '\\x{border.to_bytes(_HASH_BYTES, 'big').hex()}'::bytea"


def _first_outside(share: float) -> int:
    """The least hash whose position, rounded to a float as in ``hash_position``, is not below the share."""
    low, high = 0, _POSITIONS
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle / _POSITIONS < share else (low, middle)
    return low
