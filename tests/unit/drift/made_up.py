"""Reviews of two small made-up domains, and rows of them."""

import dataclasses
import random
from typing import Any

import numpy as np

from drift.rows import UNKNOWN, ReviewRows

CLASSES = ("negative", "positive")
_OPENERS = ("I bought this", "My sister got the", "We ordered a", "This is a lovely", "Sadly the")
_CLOTHES = ("dress", "skirt", "sweater", "coat", "blouse", "pair of jeans", "scarf", "jacket")
_CLOTHES_ENDS = (
    "and the fabric feels soft on the skin",
    "but the sleeves are far too long for me",
    "and it fits true to size after one wash",
    "because the colour looked right for summer",
    "yet the zipper broke within a week of wearing it",
    "and people keep asking where it is from",
)
_FILM_OPENERS = ("The director", "A clumsy script", "This film", "The plot", "Every scene", "Its actors")
_FILM_ENDS = (
    "wastes a fine cast",
    "never earns its ending",
    "turns grief into comedy",
    "makes the plot sing",
    "drags scene after scene",
    "lets the actors shine",
)


def clothing_review(number: int) -> dict[str, Any]:
    """A message about clothes, long."""
    drawn = random.Random(f"clothes {number}")
    parts = [
        f"{drawn.choice(_OPENERS)} {drawn.choice(_CLOTHES)} {drawn.choice(_CLOTHES_ENDS)}"
        for _ in range(drawn.randint(2, 4))
    ]
    text = ". ".join(parts) + "." * drawn.randint(1, 2)
    return {"id": f"c{number}", "text": text, "product": f"dress-{number % 3}", "source": "shop"}


def film_review(number: int) -> dict[str, Any]:
    """A message about films, short."""
    drawn = random.Random(f"film {number}")
    text = f"{drawn.choice(_FILM_OPENERS)} {drawn.choice(_FILM_ENDS)}." + "." * drawn.randint(0, 1)
    return {"id": f"f{number}", "text": text, "product": f"film-{number % 2}", "source": "cinema"}


def rows_of(
    messages: list[dict[str, Any]],
    positive: float = 0.8,
    seed: int = 0,
    first: int = 0,
    seconds: int = 600,
) -> ReviewRows:
    """Scored reviews, ten minutes apart; so many of them positive, whatever their texts say.

    Args:
        messages: The reviews.
        positive: The share of the class "positive".
        seed: Of classes and probabilities.
        first: The place of the first one in the stream.
        seconds: Between two reviews.
    """
    random_ = np.random.default_rng(seed)
    count = len(messages)
    sure = random_.uniform(0.55, 0.99, count)
    chance = np.where(random_.random(count) < positive, sure, 1 - sure)
    times = (first + np.arange(count, dtype=np.int64)) * seconds
    return ReviewRows(
        CLASSES,
        first + np.arange(count, dtype=np.int64),
        times * 1_000_000,
        times,
        [message["text"] for message in messages],
        [message["product"] for message in messages],
        [message["source"] for message in messages],
        np.stack([1 - chance, chance], axis=1).astype(np.float32),
        np.full(count, UNKNOWN, np.int64),
        np.zeros(count, np.bool_),
    )


def with_embeddings(rows: ReviewRows, values: np.ndarray[Any, Any]) -> ReviewRows:
    """The rows with embeddings of as many of them, drawn by chance, as there are values."""
    places = np.sort(np.random.default_rng(1).choice(len(rows), len(values), replace=False))
    return dataclasses.replace(rows, embeddings=values.astype(np.float32), embedded=places)


def clothes(count: int, first: int = 0, **options: Any) -> ReviewRows:
    """Rows about clothes."""
    messages = [clothing_review(number) for number in range(first, first + count)]
    return rows_of(messages, first=first, **options)


def films(count: int, first: int = 0, **options: Any) -> ReviewRows:
    """Rows about films."""
    return rows_of([film_review(number) for number in range(first, first + count)], first=first, **options)
