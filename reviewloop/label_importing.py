"""From the rows of a file to labels: defaults filled in, names checked, each row marked as itself."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from reviewloop.label_files import LabelFileRow, LabelRow
from reviews.errors import InvalidMessage
from reviews.label import Label, LatestAnswer, UnpinnedLabel, Vocabularies, labelled_to_come, resolve_label
from trainer.data.table_rows import Mistake

SOURCE = "import"


class Defaults(NamedTuple):
    """What a row has that does not say it itself.

    Attributes:
        task: The task.
        annotator: Who labelled it; None: each row has to say it.
        labelled_at: When it was said: now (UTC).
        tolerance: By how much clocks may differ; rows that are dated later than now by more are no labels.
    """

    task: str
    annotator: str | None
    labelled_at: datetime
    tolerance: timedelta = timedelta(0)

    def moment(self, stated: datetime | None) -> datetime:
        """When an answer was given.

        Raises:
            InvalidMessage: If that is to come.
        """
        if stated is not None and stated > self.labelled_at + self.tolerance:
            raise labelled_to_come()
        return stated or self.labelled_at


@dataclass(slots=True)
class Import:
    """What a file holds.

    Attributes:
        dated: Labels whose rows have a time, in order.
        undated: The others, which are said now.
        mistakes: The rows that are no labels.
        silent: How many rows say nothing about what is asked.
    """

    dated: list[Label | UnpinnedLabel] = field(default_factory=list)
    undated: list[Label | UnpinnedLabel] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    silent: int = 0


def to_labels(
    rows: Iterable[LabelFileRow],
    defaults: Defaults,
    vocabularies: Vocabularies,
    unknown_records: Collection[int] = (),
) -> Import:
    """The labels in the rows of a file.

    Args:
        rows: As read.
        defaults: For what a row leaves out.
        vocabularies: The labels of each task that has an adapter.
        unknown_records: Records in the rows that are no reviews.
    """
    found = Import()
    for row in rows:
        try:
            if row.error is not None:
                raise row.error
            if row.row is None:
                found.silent += 1
            else:
                labels = found.undated if row.row.labelled_at is None else found.dated
                labels.append(_to_label(row.row, defaults, vocabularies, unknown_records))
        except InvalidMessage as err:
            found.mistakes.append(Mistake(row.place, err))
    return found


def _to_label(
    row: LabelRow,
    defaults: Defaults,
    vocabularies: Vocabularies,
    unknown_records: Collection[int],
) -> Label | UnpinnedLabel:
    annotator = row.annotator or defaults.annotator
    if annotator is None:
        raise InvalidMessage("missing_annotator", "It does not say who labelled it: give --annotator.")
    if row.record in unknown_records:
        raise InvalidMessage("unknown_record", "There is no review with this record.")
    task = row.task or defaults.task
    label = resolve_label(row.label, vocabularies.get(task))
    what = (task, label, annotator, SOURCE, defaults.moment(row.labelled_at))
    name = row.record if row.record is not None else row.review_id or ""
    mark = _mark(name, task, label, annotator, row.labelled_at and row.labelled_at.isoformat())
    return Label(name, *what, mark) if isinstance(name, int) else UnpinnedLabel(name, *what, mark)


def later_answers(
    undated: Sequence[Label | UnpinnedLabel], latest: Sequence[LatestAnswer | None]
) -> list[Label | UnpinnedLabel]:
    """The answers without a time that are news: the file that is imported later is the later answer.

    What an annotator says of a review in one file is one statement. If it ends with the answer that counts
    already, the file says nothing new; else all of it is said now, in the order of the rows.

    Args:
        undated: All with the time of the import.
        latest: What the annotator of each said last about its review.

    Returns:
        Those to be written, each with a mark that it gets again if another import says the same at the same
        turn of things.
    """
    final = {_subject(label): label.label for label in undated}
    turns: Counter[tuple[object, ...]] = Counter()
    news: list[Label | UnpinnedLabel] = []
    for label, before in zip(undated, latest, strict=True):
        subject = _subject(label)
        if before is not None and not before.is_taken_back and before.label == final[subject]:
            continue
        turn, repeats = turns[subject], turns[(*subject, label.label)]
        turns.update([subject, (*subject, label.label)])
        moment = label.labelled_at + timedelta(microseconds=turn)
        since = () if before is None else (before.labelled_at.isoformat(),)
        again = (repeats, *since) if repeats or since else ()
        mark = _mark(label[0], label.task, label.label, label.annotator, None, *again)
        news.append(label._replace(labelled_at=moment, origin=mark))
    return news


def _subject(label: Label | UnpinnedLabel) -> tuple[object, ...]:
    return label[0], label.task, label.annotator


def _mark(*content: object) -> int:
    """A negative number that the same row has again when its file is imported again (62 bits of SHA-256).

    A row without a time is the same row again whenever it is imported: hence the time that it has, and not
    the one that it is given.
    """
    digest = hashlib.sha256(json.dumps(content).encode()).digest()
    return -1 - (int.from_bytes(digest[:8], "big") >> 2)
