"""The number of a record: its partition's stored id and its offset in one bigint."""

OFFSET_BITS = 40
MAX_OFFSET = (1 << OFFSET_BITS) - 1


def record_id(partition_id: int, offset: int) -> int:
    """The one number that names a Kafka record everywhere: ``partition_id << 40 | offset``.

    Raises:
        ValueError: If the offset does not fit into 40 bits (a trillion records in one partition).
    """
    if not 0 <= offset <= MAX_OFFSET:
        raise ValueError(f"Offset {offset} is outside 0 to {MAX_OFFSET}.")
    return partition_id << OFFSET_BITS | offset
