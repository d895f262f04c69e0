"""The held-out sample that travels with an adapter, to judge faster number formats. Imports no torch."""

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, model_validator

from classifier.adapters.files import read_directory
from reviews.errors import AdapterError

SAMPLE = "held_out.json"
MAX_TEXTS = 400
_MAX_CHARACTERS = 2000


class HeldOutSample(BaseModel):
    """Labelled texts that the adapter was not trained on.

    Attributes:
        texts: At most 400, each of at most 2,000 characters.
        labels: The index of each one's label among the adapter's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    texts: tuple[str, ...] = Field(max_length=MAX_TEXTS)
    labels: tuple[NonNegativeInt, ...]

    @model_validator(mode="after")
    def _check(self) -> "HeldOutSample":
        if len(self.texts) != len(self.labels):
            raise ValueError("each text needs one label")
        if any(len(text) > _MAX_CHARACTERS or not text.strip() for text in self.texts):
            raise ValueError(f"a text is blank or has more than {_MAX_CHARACTERS:,} characters")
        return self


def sample_file(texts: Sequence[str], labels: Sequence[int], most: int = MAX_TEXTS) -> bytes:
    """The file with a sample of these rows, evenly spaced over them; longer texts are cut."""
    count = min(most, MAX_TEXTS, len(texts))
    chosen = [index * len(texts) // count for index in range(count)]
    rows = [(texts[index][:_MAX_CHARACTERS], int(labels[index])) for index in chosen]
    rows = [row for row in rows if row[0].strip()]
    sample = {"texts": [text for text, _ in rows], "labels": [label for _, label in rows]}
    return (json.dumps(sample, ensure_ascii=False, indent=0) + "\n").encode()


def read_sample(directory: Path, labels: int) -> HeldOutSample | None:
    """The sample of an adapter directory; None where it has none.

    Args:
        directory: The adapter, verified already.
        labels: How many the adapter has.

    Raises:
        AdapterError: If the file cannot be read.
    """
    source = read_directory(directory)
    if SAMPLE not in source.names():
        return None
    try:
        sample = HeldOutSample.model_validate_json(source.read(SAMPLE))
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]["msg"]
        raise AdapterError(f"{directory}/{SAMPLE} cannot be read ({first}); fit the adapter again.") from err
    if any(label >= labels for label in sample.labels):
        raise AdapterError(f"{directory}/{SAMPLE} names a label that the adapter has not; fit it again.")
    return sample
