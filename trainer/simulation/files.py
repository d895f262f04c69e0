"""The labelled files of a stream as rows, one file after the other."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from reviews.errors import WrongUse
from trainer.dataset import Dataset, read_dataset
from trainer.near_duplicates import duplicate_groups
from trainer.simulation.stream import Indices


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """What is replayed.

    Attributes:
        rows: Of all files, one after the other, with the classes of the first.
        files: int64 (rows), rising: the number of the file that each row is of.
        groups: The group of near-duplicates that each row is in.
    """

    rows: Dataset
    files: Indices
    groups: tuple[int, ...]


def read_stream(files: Sequence[Path], task: str, most: int | tuple[int, ...] | None = None) -> Stream:
    """The rows of all files, one after the other, with the classes of the first.

    Args:
        files: Labelled files.
        task: What they are about.
        most: Rows beyond are left out: of all files together, or of each, a number a file.

    Raises:
        WrongUse: If there is no file, one is not as it should be, or there is not a number for each.
    """
    if not files:
        raise WrongUse("There is nothing to replay: name labelled files, or an experiment that does.")
    if isinstance(most, tuple) and len(most) != len(files):
        raise WrongUse(f"stream_rows has {len(most)} numbers for {len(files)} files: name one for each.")
    first = read_dataset(files[0], task=task)
    parts = [first, *(read_dataset(file, names=first.names, task=task) for file in files[1:])]
    of_each = most if isinstance(most, tuple) else (None,) * len(parts)
    of_all = None if isinstance(most, tuple) else most
    texts = [part.texts[:rows] for part, rows in zip(parts, of_each, strict=True)]
    labels = [part.labels[:rows] for part, rows in zip(parts, of_each, strict=True)]
    # Adapters in caches are named by this hash.
    sha256 = hashlib.sha256(f"{[part.sha256 for part in parts]} {most}".encode()).hexdigest()
    rows = Dataset(
        tuple(chain.from_iterable(texts))[:of_all],
        tuple(chain.from_iterable(labels))[:of_all],
        first.names,
        sha256,
    )
    files_of = np.repeat(np.arange(len(parts)), [len(part) for part in texts])
    return Stream(rows, files_of[:of_all], tuple(duplicate_groups(rows.texts)))
