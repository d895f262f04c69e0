"""Labelled texts from CSV: every row is taken or named with what is wrong with it."""

import csv
import gzip
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reviews.errors import WrongUse

_SHOWN_PROBLEMS = 10


@dataclass(frozen=True, slots=True)
class Dataset:
    """Texts with their classes.

    Attributes:
        texts: The bodies.
        labels: Index of each text's class.
        names: Names of the classes.
        sha256: Hash of the file they came from.
    """

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    names: tuple[str, ...]
    sha256: str

    def __len__(self) -> int:
        return len(self.texts)


def read_csv(
    path: Path,
    *,
    names: Sequence[str] | None = None,
    text_column: str = "text",
    label_column: str = "label",
) -> Dataset:
    """The labelled texts of a CSV file (UTF-8, ``.gz`` too).

    Args:
        path: The file; its first row names the columns.
        names: The classes in order; a label is one of them, or its index. None: the labels found, sorted.
        text_column: Where the texts stand.
        label_column: Where the labels stand.

    Raises:
        WrongUse: If the file or a column is missing, or rows are wrong: each is named with its line.
    """
    content = _content(path)
    rows = list(_rows(path, content, text_column, label_column))
    problems = [f"line {line}: the text is empty" for line, text, _ in rows if not text.strip()]
    known = tuple(names) if names is not None else _found(label for _, _, label in rows)
    index_of = {str(index): index for index in range(len(known))} | {name: i for i, name in enumerate(known)}
    problems += [
        f"line {line}: the label {label!r} is none of {', '.join(known)} and no index of one"
        for line, _, label in rows
        if label not in index_of
    ]
    if problems:
        shown = "\n  ".join(problems[:_SHOWN_PROBLEMS])
        more = f"\n  and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
        raise WrongUse(f"{path} has rows that cannot be used; mend or remove them:\n  {shown}{more}")
    labels = tuple(index_of[label] for _, _, label in rows)
    if len(set(labels)) < 2:
        raise WrongUse(
            f"{path} holds {len(set(labels))} class(es) in {len(rows)} row(s); at least 2 are needed."
        )
    return Dataset(tuple(text for _, text, _ in rows), labels, known, hashlib.sha256(content).hexdigest())


def class_counts(dataset: Dataset) -> dict[str, int]:
    """How many rows each class has, by name."""
    counts = Counter(dataset.labels)
    return {name: counts.get(index, 0) for index, name in enumerate(dataset.names)}


def _found(labels: Iterator[str]) -> tuple[str, ...]:
    """The distinct labels; numbers 0 to n become class_0 to class_n, as an adapter without names has them."""
    distinct = sorted(set(labels))
    if all(label.isdecimal() for label in distinct) and distinct:
        return tuple(f"class_{index}" for index in range(max(map(int, distinct)) + 1))
    return tuple(distinct)


def _content(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except FileNotFoundError as err:
        raise WrongUse(f"There is no file {path}.") from err
    except OSError as err:
        raise WrongUse(f"{path} cannot be read: {err.strerror or err}.") from err


def _rows(path: Path, content: bytes, text_column: str, label_column: str) -> Iterator[tuple[int, str, str]]:
    """Line number, text and label of each row."""
    try:
        decoded = content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise WrongUse(f"{path} is not UTF-8 (byte {err.start}); save it as UTF-8.") from err
    reader = csv.DictReader(io.StringIO(decoded, newline=""))
    missing = [name for name in (text_column, label_column) if name not in (reader.fieldnames or ())]
    if missing:
        found = ", ".join(reader.fieldnames or ()) or "none"
        raise WrongUse(f"{path} has no column {' and no column '.join(missing)}; its columns: {found}.")
    try:
        for row in reader:
            yield reader.line_num, row[text_column] or "", (row[label_column] or "").strip()
    except csv.Error as err:
        raise WrongUse(f"{path} is no valid CSV near line {reader.line_num}: {err}.") from err
