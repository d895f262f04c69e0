"""Labelled texts with their classes: every row is taken, or named with what is wrong with it."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reviews.errors import InvalidMessage, WrongUse
from reviews.label import check_label_names, refuse_list, require_one_each
from reviews.task import SENTIMENT_TASK
from trainer.data.table_rows import Column, Mistake, TableRow, shown_mistakes, text_of
from trainer.data.table_source import AS_FOUND, STANDARD_INPUT, Form
from trainer.data.tables import Table, checked_rows, content_sha256, open_table

TEXT_COLUMN = "text"
LABEL_COLUMN = "label"
_WHOLE = re.compile(r"(-?[0-9]+)\.0+")
_SHOWN_MISTAKES = 10
_SHOWN_CHARACTERS = 30
_CLASSES_PER_LABEL = 10  # a file may well lack classes, but hardly nine in ten
_MOST_DIGITS = 18
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


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """One row that can be used.

    Attributes:
        place: Where it is in the file, such as ``line 3``.
        text: The body.
        label: The class as it is written there; a whole number without a fraction of zeros.
        values: Its columns by name, the two above included; all columns where they were asked for.
    """

    place: str
    text: str
    label: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LabelledTable:
    """A file's rows, the sound and the unsound.

    Attributes:
        path: The file.
        form: How it was read, with what was found out.
        columns: Names of its columns, in order, as rows have them.
        entries: Every row, in order: what can be used, or what is wrong with it.
        sha256: Hash of the content, unpacked.
    """

    path: Path
    form: Form
    columns: tuple[str, ...]
    entries: tuple[LabelledRow | Mistake, ...]
    sha256: str

    @property
    def rows(self) -> list[LabelledRow]:
        """What can be used."""
        return [entry for entry in self.entries if isinstance(entry, LabelledRow)]

    @property
    def mistakes(self) -> list[Mistake]:
        """What cannot."""
        return [entry for entry in self.entries if isinstance(entry, Mistake)]


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
        raise WrongUse(f"{path} has rows that cannot be used; correct or remove them:\n  {listed(mistakes)}")
    dataset = Dataset(
        tuple(row.text for row, _ in rows),
        tuple(label for _, label in rows),
        known,
        table.sha256,
        form=table.form,
    )
    _check_enough(dataset, path)
    return dataset


def read_labelled(
    path: Path,
    text_column: str = TEXT_COLUMN,
    label_column: str = LABEL_COLUMN,
    form: Form = AS_FOUND,
    *,
    keep_all: bool = False,
) -> LabelledTable:
    """The labelled texts of a table (see :func:`trainer.data.tables.open_table`).

    Raises:
        WrongUse: If the file or a column is missing, or the file is not of its kind.
    """
    columns = (Column(text_column, "--text-column"), Column(label_column, "--label-column"))
    with open_table(path, columns, form, keep_all=keep_all) as table:
        entries = tuple(_entry(row, text_column, label_column) for row in checked_rows(table, columns))
        return LabelledTable(path, table.form, _names(table, entries), entries, _sha256(path, entries))


def written_label(value: object) -> str:
    """A label as text; whole numbers may come with a fraction of zeros, as data frames write them.

    Returns:
        Nothing, if the value is no label.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, float) and not value.is_integer():
        return ""
    written = f"{value:.0f}" if isinstance(value, float) else str(value).strip()
    whole = _WHOLE.fullmatch(written)
    return whole[1] if whole else written


def _entry(row: TableRow, text_column: str, label_column: str) -> LabelledRow | Mistake:
    try:
        text = text_of(row.values, text_column)
        return LabelledRow(row.place, text, _label(row.values.get(label_column)), row.values)
    except InvalidMessage as err:
        return Mistake(row.place, err)


def _label(value: object) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise InvalidMessage("missing_label", "The label is empty.")
    try:
        refuse_list(value)
    except ValueError as err:
        raise InvalidMessage("bad_label", f"The label {err}.") from None
    if not (label := written_label(value)):
        raise InvalidMessage("bad_label", "The label is no name and no whole number.")
    return label


def _names(table: Table, entries: tuple[LabelledRow | Mistake, ...]) -> tuple[str, ...]:
    rows = (entry for entry in entries if isinstance(entry, LabelledRow))
    return tuple(dict.fromkeys(name for row in rows for name in row.values)) or table.columns or ()


def _sha256(path: Path, entries: tuple[LabelledRow | Mistake, ...]) -> str:
    if path != STANDARD_INPUT and path.is_file():
        return content_sha256(path)
    return hashlib.sha256(repr([str(entry) for entry in entries]).encode(errors="surrogatepass")).hexdigest()


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
                "correct the file, --num-labels, or name the classes with --labels."
            )
        return _as_labels(distinct)
    count = num_labels or max(map(_number, distinct), default=-1) + 1
    if num_labels is None and count > _CLASSES_PER_LABEL * (len(distinct) + 1):
        raise WrongUse(
            f"Numbers count the classes from 0, but one of the {len(distinct)} different labels is "
            f"{max(distinct, key=_number)[:_SHOWN_CHARACTERS]}; correct it, or name the classes with "
            "--labels."
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
    """The labels' own names, each once: sorted, and where all are numbers, by their size.

    Raises:
        WrongUse: If one of them is several others in one.
    """
    distinct = sorted(set(labels))
    require_one_each(distinct)
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
