"""From the rows of a file to labels: defaults filled in, names checked, each row marked as itself."""

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from reviewloop.label_files import LabelFileRow, LabelRow
from reviews.errors import InvalidMessage
from reviews.label import Label, UnpinnedLabel, Vocabularies, labelled_to_come, resolve_label
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
        labels: To be written, in order.
        mistakes: The rows that are no labels.
        silent: How many rows say nothing about what is asked.
    """

    labels: list[Label | UnpinnedLabel] = field(default_factory=list)
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
                found.labels.append(_to_label(row.row, defaults, vocabularies, unknown_records))
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
    mark = _mark(row, task, label, annotator)
    if row.record is not None:
        return Label(row.record, *what, mark)
    return UnpinnedLabel(row.review_id or "", *what, mark)


def _mark(row: LabelRow, task: str, label: str | None, annotator: str) -> int:
    """A negative number that the same row has again when its file is imported again (62 bits of SHA-256).

    A row without a time is the same row again whenever it is imported: hence the time that it has, and not
    the one that it is given.
    """
    moment = row.labelled_at and row.labelled_at.isoformat()
    name = row.record if row.record is not None else row.review_id
    content = json.dumps([name, task, label, annotator, moment])
    return -1 - (int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big") >> 2)
