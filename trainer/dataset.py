"""Labelled texts with their classes: every row is taken or named with what is wrong with it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reviews.errors import InvalidMessage, WrongUse
from reviews.label import check_label_names
from trainer.data.labelled_rows import (
    LABEL_COLUMN,
    TEXT_COLUMN,
    LabelledRow,
    LabelledTable,
    read_labelled,
    written_label,
)
from trainer.data.table_rows import Mistake, shown_mistakes
from trainer.data.table_source import AS_FOUND, Form

_SHOWN_MISTAKES = 10
_SHOWN_CHARACTERS = 30
_CLASSES_PER_LABEL = 10  # a file may well lack classes, but hardly nine in ten
_MOST_DIGITS = 18
SENTIMENT_TASK = "sentiment"
SENTIMENTS = ("negative", "neutral", "positive")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Texts with their classes.

    Attributes:
        texts: The bodies.
        labels: Index of each text's class.
        names: Names of the classes.
        sha256: Hash of the file they came from.
        weights: How much each text counts in training, positive; None: all the same.
        form: How their file was read.

    Raises:
        WrongUse: If a name cannot be a label.
    """

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    names: tuple[str, ...]
    sha256: str
    weights: tuple[float, ...] | None = None
    form: Form = AS_FOUND

    def __post_init__(self) -> None:
        _as_labels(self.names)

    def __len__(self) -> int:
        return len(self.texts)


def read_dataset(
    path: Path,
    *,
    names: Sequence[str] | None = None,
    num_labels: int | None = None,
    task: str = "",
    text_column: str = TEXT_COLUMN,
    label_column: str = LABEL_COLUMN,
    form: Form = AS_FOUND,
) -> Dataset:
    """The labelled texts of a file (see :func:`trainer.data.tables.open_table`).

    Args:
        path: The file.
        names: The classes in order; a label is one of them, or its index. None: :func:`class_names`.
        num_labels: How many classes there have to be; None for as many as are found.
        task: What is asked; three numbered classes of ``sentiment`` have names.
        text_column: Where the texts stand.
        label_column: Where the labels stand.
        form: What is known of the file.

    Raises:
        WrongUse: If the file or a column is missing, or rows are wrong: each is named with its line.
    """
    table = read_labelled(path, text_column, label_column, form)
    known = (
        tuple(names)
        if names is not None
        else class_names((row.label for row in table.rows), num_labels, task)
    )
    rows, mistakes = with_classes(table, known)
    if mistakes:
        raise WrongUse(f"{path} has rows that cannot be used; mend or remove them:\n  {listed(mistakes)}")
    dataset = Dataset(
        tuple(row.text for row, _ in rows),
        tuple(label for _, label in rows),
        known,
        table.sha256,
        form=table.form,
    )
    _check_enough(dataset, path)
    return dataset


def with_classes(
    table: LabelledTable, names: Sequence[str]
) -> tuple[list[tuple[LabelledRow, int]], list[Mistake]]:
    """The rows with the index of their class, and every row that cannot be used, in order of their lines.

    Raises:
        WrongUse: If a name cannot be a label.
    """
    _as_labels(names)
    index_of = {str(index): index for index in range(len(names))}
    index_of.update((written_label(name), index) for index, name in enumerate(names))
    rows: list[tuple[LabelledRow, int]] = []
    mistakes: list[Mistake] = []
    for entry in table.entries:
        if isinstance(entry, Mistake):
            mistakes.append(entry)
        elif entry.label in index_of:
            rows.append((entry, index_of[entry.label]))
        else:
            said = f"The label {entry.label!r} is none of {', '.join(names)} and no index of one."
            mistakes.append(Mistake(entry.place, InvalidMessage("unknown_label", said)))
    return rows, mistakes


def class_names(labels: Iterable[str], num_labels: int | None = None, task: str = "") -> tuple[str, ...]:
    """Names for the classes that the labels name or count.

    Names are sorted. Three numbers of the task ``sentiment`` are negative, neutral and positive; other
    numbers are ``class_0``, ``class_1`` and so on, as in an adapter without names.

    Args:
        labels: As they are written.
        num_labels: How many classes there have to be; None for as many as are found.
        task: What is asked.

    Raises:
        WrongUse: If the labels are names, and not as many as asked for, or not fit to be labels; or numbers
            that count no classes.
    """
    distinct = sorted(set(labels))
    if not all(label.isdecimal() for label in distinct):
        if num_labels is not None and len(distinct) != num_labels:
            raise WrongUse(
                f"There are {len(distinct)} labels ({', '.join(distinct)}), not {num_labels}; "
                "mend the file, --num-labels, or name the classes with --labels."
            )
        return _as_labels(distinct)
    count = num_labels or max(map(_number, distinct), default=-1) + 1
    if num_labels is None and count > _CLASSES_PER_LABEL * (len(distinct) + 1):
        raise WrongUse(
            f"Numbers count the classes from 0, but one of the {len(distinct)} different labels is "
            f"{max(distinct, key=_number)[:_SHOWN_CHARACTERS]}; mend it, or name the classes with --labels."
        )
    if task == SENTIMENT_TASK and count == len(SENTIMENTS):
        return SENTIMENTS
    return tuple(f"class_{index}" for index in range(count))


def _as_labels(names: Sequence[str]) -> tuple[str, ...]:
    try:
        check_label_names(names)
    except ValueError as err:
        raise WrongUse(f"The classes cannot be the labels of an adapter: {err}.") from err
    return tuple(names)


def own_names(labels: Iterable[str]) -> tuple[str, ...]:
    """The labels' own names, each once: sorted, and where all are numbers, by their size."""
    distinct = sorted(set(labels))
    return tuple(sorted(distinct, key=_number) if all(map(str.isdecimal, distinct)) else distinct)


def class_counts(dataset: Dataset) -> dict[str, int]:
    """How many rows each class has, by name."""
    counts = Counter(dataset.labels)
    return {name: counts.get(index, 0) for index, name in enumerate(dataset.names)}


def listed(mistakes: Sequence[Mistake]) -> str:
    """The first mistakes, one a line, and how many more there are."""
    more = ": 'reviewloop data validate' lists them all" if len(mistakes) > _SHOWN_MISTAKES else ""
    return "\n  ".join(shown_mistakes(mistakes, _SHOWN_MISTAKES)) + more


def _number(label: str) -> int:
    """What the digits say; those that are too many for a number of anything, the largest there is."""
    return int(label) if len(label) < _MOST_DIGITS else 10**_MOST_DIGITS


def _check_enough(dataset: Dataset, path: Path) -> None:
    present = len(set(dataset.labels))
    if present < 2:
        raise WrongUse(f"{path} holds {present} class(es) in {len(dataset)} row(s); at least 2 are needed.")
    if len(dataset) < len(dataset.names):
        raise WrongUse(
            f"{path} holds {len(dataset)} rows for {len(dataset.names)} classes; add rows, or name fewer."
        )
