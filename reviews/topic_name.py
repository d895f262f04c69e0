"""What Kafka takes as the name of a topic."""

import re

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


def topic_name(value: str) -> str:
    """The name of one topic.

    Raises:
        ValueError: If Kafka would not take it.
    """
    if not _TOPIC.fullmatch(value) or value in {".", ".."}:
        raise ValueError("must be the name of one topic: up to 249 letters, digits, '.', '_' and '-'")
    return value
