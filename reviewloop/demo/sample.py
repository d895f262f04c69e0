"""The bundled reviews with their own labels, and the bundled adapter."""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
REVIEWS_FILE = FOLDER / "reviews.jsonl"
ADAPTER_DIRECTORY = FOLDER / "adapter"
_ADAPTER_NAME = "demo"


class SampleReview(NamedTuple):
    """One bundled review: what it says, what it is labelled with, and what makes it easy or hard."""

    id: str
    text: str
    label: str
    trait: str


@cache
def sample_reviews() -> tuple[SampleReview, ...]:
    """Every bundled review, in the order of the file."""
    with REVIEWS_FILE.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return tuple(SampleReview(row["id"], row["text"], row["label"], row["trait"]) for row in rows)


def adapter_directory(named: Path) -> Path:
    """The directory of an adapter as a person names it: the word ``demo`` is the bundled one.

    A directory of that name is taken where it holds an adapter.
    """
    is_bundled = str(named) == _ADAPTER_NAME and not (named / "adapter_config.json").is_file()
    return ADAPTER_DIRECTORY if is_bundled else named
