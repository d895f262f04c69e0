"""Reviews made up for speed: the shape of real ones, any number of them, the same for the same seed."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

MESSAGE_BYTES = 220
PRODUCTS = tuple(f"product-{number}" for number in range(1000))
SOURCES = ("web", "app", "mail", "shop", "partner")

_WORDS = (
    *("the", "fit", "is", "great", "and", "it", "looks", "lovely", "but", "fabric", "feels", "thin", "after"),
    *("one", "wash", "so", "I", "sent", "this", "back", "size", "runs", "small", "would", "buy", "again"),
    *("color", "as", "shown", "very", "soft", "quality", "price", "perfect", "length", "sleeves", "comfort"),
)
_START = datetime(2026, 1, 1, tzinfo=UTC)


def made_up_text(random_: random.Random, length: int) -> str:
    """Words, of exactly so many characters."""
    return " ".join(random_.choices(_WORDS, k=length // 4 + 1))[:length].ljust(length, "!")


def made_up_messages(count: int, seed: int = 1) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of so many messages, each of 220 bytes."""
    random_ = random.Random(seed)
    for number in range(count):
        review = {
            "id": f"r{number:08d}",
            "text": "",
            "product": random_.choice(PRODUCTS),
            "source": random_.choice(SOURCES),
            "published_at": (_START + timedelta(seconds=number)).isoformat(),
        }
        room = MESSAGE_BYTES - len(json.dumps(review))
        yield str(review["id"]).encode(), json.dumps({**review, "text": made_up_text(random_, room)}).encode()
