"""Kafka records as people name them on the command line."""

from reviews.errors import WrongUse


def parse_place(place: str) -> tuple[str, int, int]:
    """Topic, partition and offset of ``TOPIC:PARTITION:OFFSET``.

    Raises:
        WrongUse: If it does not look like that.
    """
    topic, _, rest = place.partition(":")
    partition, _, offset = rest.partition(":")
    if not (topic and _is_number(partition, 2**31) and _is_number(offset, 2**40)):
        raise WrongUse(f"'{place}' names no record: give TOPIC:PARTITION:OFFSET, for example reviews:0:42.")
    return topic, int(partition), int(offset)


def _is_number(digits: str, end: int) -> bool:
    return digits.isascii() and digits.isdecimal() and len(digits) <= 13 and int(digits) < end
