"""Labels as rows: one per answer, attached to a version of its review, or waiting for it.

The time of receipt is by the database's clock, like the runs and promotions that it is compared with. The
clock is read when the row is written, not when the transaction began: that may have waited for a lock since.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from reviews.label import Label, UnpinnedLabel
from storage.labels.completion import close_answered
from storage.labels.label_sets import follow
from storage.labels.vocabulary import read_label_sets

NEWEST_FIRST = "published_at DESC, timestamp_ms DESC, received_at DESC, record DESC"
"""The order in which the current version of a review comes first, as in the view ``current_review``."""

# Of the versions that were there when somebody judged, the current one; before the first, the first. Of those
# with one time of publication, the ones that Kafka had by then come first.
_PIN = text(f"""
SELECT coalesce(
    (SELECT r.record FROM review r
      WHERE r.review_id = given.review_id AND r.published_at <= given.labelled_at
      ORDER BY r.published_at DESC,
               r.timestamp_ms <= extract(epoch FROM given.labelled_at) * 1000 DESC,
               {NEWEST_FIRST} LIMIT 1),
    (SELECT r.record FROM review r
      WHERE r.review_id = given.review_id
      ORDER BY published_at, timestamp_ms, received_at, record LIMIT 1))
  FROM unnest(CAST(:review_ids AS text[]), CAST(:moments AS timestamptz[]))
       WITH ORDINALITY AS given (review_id, labelled_at, place)
 ORDER BY given.place
""")  # noqa: S608  nothing but names of columns

# An answer is known if record, task, annotator, label and time are equal, whatever its source. Rows are
# inserted in the given order, as ids break ties between answers of one moment.
_INSERT = text("""
INSERT INTO label (record, task, label, annotator, source, labelled_at, received_at, origin, seconds)
SELECT record, task, label, annotator, source, labelled_at, clock_timestamp(), origin, seconds
  FROM (SELECT DISTINCT ON (record, task, annotator, label, labelled_at) *
          FROM unnest(CAST(:subjects AS bigint[]), CAST(:tasks AS text[]), CAST(:labels AS text[]),
                      CAST(:annotators AS text[]), CAST(:sources AS text[]),
                      CAST(:moments AS timestamptz[]), CAST(:origins AS bigint[]),
                      CAST(:seconds AS real[]))
               WITH ORDINALITY
               AS given (record, task, label, annotator, source, labelled_at, origin, seconds, place)
         ORDER BY record, task, annotator, label, labelled_at, place) given
 WHERE NOT EXISTS (
         SELECT FROM label known
          WHERE known.record = given.record AND known.task = given.task
            AND known.annotator = given.annotator AND known.labelled_at = given.labelled_at
            AND known.label IS NOT DISTINCT FROM given.label)
 ORDER BY place
ON CONFLICT (origin) DO NOTHING
RETURNING id
""")

_WAIT = text("""
INSERT INTO waiting_label
       (review_id, task, label, annotator, source, labelled_at, received_at, origin, seconds)
SELECT review_id, task, label, annotator, source, labelled_at, clock_timestamp(), origin, seconds
  FROM unnest(CAST(:subjects AS text[]), CAST(:tasks AS text[]), CAST(:labels AS text[]),
              CAST(:annotators AS text[]), CAST(:sources AS text[]),
              CAST(:moments AS timestamptz[]), CAST(:origins AS bigint[]), CAST(:seconds AS real[]))
       WITH ORDINALITY
       AS given (review_id, task, label, annotator, source, labelled_at, origin, seconds, place)
 WHERE NOT EXISTS (SELECT FROM label known WHERE known.origin = given.origin)
 ORDER BY place
ON CONFLICT (origin) DO NOTHING
RETURNING id
""")


class AddedLabels(NamedTuple):
    """What became of labels that came in together.

    Attributes:
        added: How many are new answers.
        waiting: How many wait for their review, and did not before.
        known: How many were there already.
    """

    added: int
    waiting: int
    known: int


def add_labels(connection: Connection, labels: Sequence[Label | UnpinnedLabel]) -> AddedLabels:
    """Write answers in order: each pinned where its review is there, else kept until it is.

    A label judged the version of its review that was current at that moment; one that is older than every
    version judged the first. Closes the queue items that the new answers complete.
    """
    unpinned = [label for label in labels if isinstance(label, UnpinnedLabel)]
    ids, moments = ([getattr(label, name) for label in unpinned] for name in ("review_id", "labelled_at"))
    records = iter(pin(connection, ids, moments))
    pinned: list[Label] = []
    waiting: list[UnpinnedLabel] = []
    for label in labels:
        if isinstance(label, Label):
            pinned.append(label)
        elif (record := next(records)) is not None:
            pinned.append(Label(record, *label[1:]))
        else:
            waiting.append(label)
    added = _insert(connection, _INSERT, pinned)
    _follow_labels(connection, pinned)
    for task in {label.task for label in pinned}:
        close_answered(connection, task, [label.record for label in pinned if label.task == task])
    kept = _insert(connection, _WAIT, waiting)
    return AddedLabels(added, kept, len(labels) - added - kept)


def _follow_labels(connection: Connection, labels: Sequence[Label]) -> None:
    """Answers under names of before, such as those that waited for their review, count under those of now."""
    label_sets = read_label_sets(connection) if labels else {}
    for task, label_set in label_sets.items():
        retired = set(label_set.retired)
        old = [one.record for one in labels if one.task == task and one.label in retired]
        if old:
            follow(connection, task, label_set, old)


def pin(connection: Connection, review_ids: Sequence[str], moments: Sequence[datetime]) -> list[int | None]:
    """The record that was judged at each moment; None where the review is not there."""
    if not review_ids:
        return []
    given = {"review_ids": list(review_ids), "moments": list(moments)}
    return list(connection.execute(_PIN, given).scalars())


def _insert(connection: Connection, statement: Any, labels: Sequence[Label | UnpinnedLabel]) -> int:
    """Write the labels that are not there yet; how many."""
    if not labels:
        return 0
    names = ("subjects", "tasks", "labels", "annotators", "sources", "moments", "origins", "seconds")
    columns = dict(zip(names, map(list, zip(*labels, strict=True)), strict=True))
    return len(connection.execute(statement, columns).all())
