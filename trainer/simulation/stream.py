"""Labelled files as a stream: which rows are held back, which come when, what the annotator says."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reviews.errors import WrongUse
from trainer.data.dataset import Dataset, read_dataset
from trainer.data.near_duplicates import duplicate_groups
from trainer.simulation.experiment import Half, Size

Indices = npt.NDArray[np.int64]
_ORDER, _ORACLE = 1, 2  # streams of random numbers that do not touch each other


def half_of(text: str) -> Half:
    """Which half of a stream a text belongs to, by a hash of it: the same in every experiment."""
    last_byte = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[-1]
    return "odd" if last_byte & 1 else "even"


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


def read_stream(
    files: Sequence[Path], task: str, most: int | tuple[int, ...] | None = None, half: Half | None = None
) -> Stream:
    """The rows of all files, one after the other, with the classes of the first.

    Args:
        files: Labelled files.
        task: Whose labels.
        most: Only so many rows, the first, of all files or of each.
        half: Of these, only the rows of that half.

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
    sha256 = hashlib.sha256(f"{[part.sha256 for part in parts]} {most} {half}".encode()).hexdigest()
    all_texts = tuple(chain.from_iterable(texts))[:of_all]
    kept = [row for row, text in enumerate(all_texts) if half in (None, half_of(text))]
    all_labels = tuple(chain.from_iterable(labels))
    rows = Dataset(
        tuple(all_texts[row] for row in kept), tuple(all_labels[row] for row in kept), first.names, sha256
    )
    files_of = np.repeat(np.arange(len(parts)), [len(part) for part in texts])
    return Stream(rows, files_of[kept], tuple(duplicate_groups(rows.texts)))


@dataclass(frozen=True, slots=True)
class Annotator:
    """Knows the truth, and does not always say it.

    Attributes:
        classes: How many labels there are.
        noise: Share of the answers that are wrong.
    """

    classes: int
    noise: float = 0.0

    def answers(self, truth: Indices, random: np.random.Generator) -> Indices:
        """int64 (rows): the truth, but for a share of rows another label, each of them equally often."""
        is_wrong = random.random(len(truth)) < self.noise
        shift = random.integers(1, max(2, self.classes), len(truth))
        return np.where(is_wrong, (truth + shift) % self.classes, truth).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class StreamReplay:
    """One seed's view of the rows; all strategies see the same.

    Attributes:
        truth: int64 (rows), what is measured by.
        answers: int64 (rows), what the annotator says if asked.
        held_back: int64: rows that only measure, in the stream's own mix of labels.
        pool: int64: rows that may be labelled, in the order in which they come.
        nights: int64 (pool): the first night on which each is there, counted from 1.
        changes: int64: places in the pool at which another file begins.
        size: What is spent.
    """

    truth: Indices
    answers: Indices
    held_back: Indices
    pool: Indices
    nights: Indices
    changes: Indices
    size: Size

    def there(self, night: int, labelled: Indices) -> Indices:
        """int64: rows that have come by that night and have no label, in order."""
        come = self.pool[self.nights <= night]
        return come[~np.isin(come, labelled)]


def replay(
    groups: Sequence[int], truth: Indices, files: Indices, size: Size, annotator: Annotator, *, seed: int
) -> StreamReplay:
    """Deal out the rows of a stream.

    Held-back rows and pool are drawn at random from all rows, so that each has its share of every file; no
    near-duplicate of the former is in the pool, which comes one file after the other, each in random order.

    Raises:
        WrongUse: If there are too few rows.
    """
    order = np.random.default_rng((seed, _ORDER)).permutation(len(groups))
    held_back, rest = np.split(order, [size.held_back_rows])
    kept_apart = {groups[row] for row in held_back}
    pool = np.array([row for row in rest if groups[row] not in kept_apart], np.int64)
    pool = pool[: size.backlog_rows + size.arriving_rows]
    pool = pool[np.argsort(files[pool], kind="stable")]
    if len(pool) < size.nights * size.labels_a_night:
        raise WrongUse(
            f"The stream has {len(groups)} rows; {len(held_back)} are held back, and the other "
            f"{len(pool)} do not do for {size.nights} nights with {size.labels_a_night} labels each: replay "
            "more files, or lower held_back_rows or labels_a_night."
        )
    return StreamReplay(
        truth,
        annotator.answers(truth, np.random.default_rng((seed, _ORACLE))),
        np.sort(held_back),
        pool,
        _nights(len(pool), size),
        np.flatnonzero(np.diff(files[pool])) + 1,
        size,
    )


def _nights(rows: int, size: Size) -> Indices:
    """int64 (rows): the backlog on night 1, the others spread evenly over the nights after it."""
    late = np.arange(rows) - size.backlog_rows
    per_night = max(1, -(-size.arriving_rows // max(1, size.nights - 1)))
    return np.where(late < 0, 1, 2 + late // per_night).astype(np.int64)
