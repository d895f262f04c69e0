"""Labels and their consensus, and reviews to be exported for labelling."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, select, text

from reviews.fields import MODEL_PREFIX
from reviews.label import Label, LabelledReview, LatestAnswer, UnpinnedLabel, Vocabularies, Vocabulary
from reviews.queue_item import AUDIT, LABEL_SET_SOURCE, TERMINAL_SOURCE, UNDO_SOURCE
from storage.database import Database
from storage.labels.annotation_queue import WRITE_ANSWER
from storage.labels.completion import close_answered
from storage.labels.rows import NEWEST_FIRST, AddedLabels, add_labels, pin
from storage.labels.vocabulary import label_now, read_vocabularies
from storage.plans import BY_INDEX, read_rows
from storage.queries.filters import matching
from storage.schema.adapters import adapter
from storage.schema.annotation_queue import label_task
from storage.schema.labels import BY_MODELS, BY_PEOPLE, label
from storage.schema.predictions import UNCERTAIN_MARGIN, prediction
from storage.schema.views import current_review

MOST_LABELLED = 50_000
"""So many labelled records are read at once: those that were labelled last."""
LATEST_ANSWERS = 100_000
"""Who agrees with whom is told by so many of the latest answers."""
_ANSWERS_OF_ONE = 5  # a record may have been answered so often, and is one labelled record
_PAGE = 1_000

_COLUMNS = "record, task, label, annotator, source, labelled_at, origin, seconds"
# Every answer about some records.
_ANSWERS = text(f"""
SELECT {_COLUMNS} FROM label
 WHERE task = :task AND record = ANY(:records) ORDER BY record, labelled_at, id
""")  # noqa: S608  nothing but the constant above
# The latest answer of each person.
_LATEST = text(f"""
SELECT {_COLUMNS}
  FROM (SELECT DISTINCT ON (record, annotator) *
          FROM (SELECT * FROM label WHERE task = :task AND {BY_PEOPLE}
                 ORDER BY received_at DESC LIMIT :most) newest
         ORDER BY record, annotator, labelled_at DESC, id DESC) latest
 WHERE source <> '{UNDO_SOURCE}' ORDER BY record, annotator
""")  # noqa: S608  the same
# What an annotator said last, by record or by the id of any version of the review; a label that waits for its
# review counts as well.
_LATEST_OF = text("""
SELECT said.label, said.labelled_at, said.source = :undo AS is_taken_back
  FROM unnest(CAST(:records AS bigint[]), CAST(:review_ids AS text[]), CAST(:tasks AS text[]),
              CAST(:annotators AS text[]))
       WITH ORDINALITY AS given (record, review_id, task, annotator, place)
  LEFT JOIN LATERAL (
        SELECT label, labelled_at, source, id FROM label l
         WHERE l.record = given.record AND l.task = given.task AND l.annotator = given.annotator
        UNION ALL
        SELECT l.label, l.labelled_at, l.source, l.id FROM review r JOIN label l ON l.record = r.record
         WHERE r.review_id = given.review_id AND l.task = given.task AND l.annotator = given.annotator
        UNION ALL
        SELECT label, labelled_at, source, id FROM waiting_label w
         WHERE w.review_id = given.review_id AND w.task = given.task AND w.annotator = given.annotator
         ORDER BY labelled_at DESC, id DESC LIMIT 1) said ON true
 ORDER BY given.place
""")
# A page of answers of any task, in the order of their ids, and whether each was taken back by the next one.
_HISTORY = text("""
SELECT l.id, r.review_id, l.record, l.task, l.label, l.annotator, l.source, l.labelled_at, l.origin,
       l.seconds,
       (SELECT n.source FROM label n
         WHERE n.record = l.record AND n.task = l.task AND n.annotator = l.annotator
           AND n.labelled_at >= l.labelled_at AND (n.labelled_at, n.id) > (l.labelled_at, l.id)
         ORDER BY n.labelled_at, n.id LIMIT 1) AS next_source
  FROM (SELECT * FROM label WHERE id > :after ORDER BY id LIMIT :page) l
  LEFT JOIN review r ON r.record = l.record
 ORDER BY l.id
""")
# The records that were labelled last, by people or by models.
_LAST = """
SELECT record FROM (SELECT record, received_at FROM label WHERE task = :task AND source <> :undo AND {by}
                     ORDER BY received_at DESC LIMIT :answers) newest
 GROUP BY record ORDER BY max(received_at) DESC, record LIMIT :most
"""
_LABELLED_LAST = _LAST.format(by=BY_PEOPLE)
# Reviews that people agree on, with the first label, the current prediction, and whether the audit drew them
# and with which weight.
# OFFSET 0 keeps each look-up by itself: PostgreSQL would rather judge all labels first.
_JUDGED = """
SELECT r.record, r.review_id, r.text, r.product, r.source, r.published_at,
       c.label, c.labelled_at, given.first_labelled_at, given.received_at,
       a.version, p.label, p.probabilities, p.margin,
       coalesce(asked.reason = :audit, false), coalesce(asked.draw_weight, 1)
  FROM ({last}) labelled
  CROSS JOIN LATERAL (SELECT min(labelled_at) AS first_labelled_at, min(received_at) AS received_at FROM label
                       WHERE record = labelled.record AND task = :task AND source <> :undo AND {by}
                      OFFSET 0) given
  CROSS JOIN LATERAL (SELECT label, labelled_at FROM {view}
                       WHERE record = labelled.record AND task = :task OFFSET 0) c
  JOIN published_review r ON r.record = labelled.record
  LEFT JOIN prediction p ON p.record = labelled.record AND p.task = :task
  LEFT JOIN adapter a ON a.id = p.adapter_id
  LEFT JOIN label_task asked ON asked.record = r.record AND asked.task = :task
 WHERE c.label IS NOT NULL AND {condition}
 ORDER BY r.record
"""
_LABELLED = text(_JUDGED.format(last=_LABELLED_LAST, by=BY_PEOPLE, view="label_consensus", condition="true"))
# Where a person answered, with "unsure" too, no model is asked.
_UNANSWERED = """(SELECT h.answers FROM label_consensus h
                    WHERE h.record = labelled.record AND h.task = :task) IS NULL"""
_LABELLED_BY_MODELS = text(
    _JUDGED.format(
        last=_LAST.format(by=BY_MODELS), by=BY_MODELS, view="model_consensus", condition=_UNANSWERED
    )
)
# How many of the records that were labelled last, and that people agree on, have no text any more.
_WITHOUT_TEXT = text(f"""
SELECT count(*) FROM ({_LABELLED_LAST}) labelled
 WHERE (SELECT r.record FROM review r WHERE r.record = labelled.record) IS NULL
   AND (SELECT c.label FROM label_consensus c WHERE c.record = labelled.record AND c.task = :task) IS NOT NULL
""")  # noqa: S608  the same
# The current versions of labelled reviews that say what no labelled version says.
_EDITED = text(f"""
SELECT newest.record
  FROM ({_LABELLED_LAST}) labelled
  JOIN review r ON r.record = labelled.record
  JOIN current_review newest ON newest.review_id = r.review_id
 WHERE EXISTS (SELECT FROM label_consensus c WHERE c.record = labelled.record AND c.task = :task OFFSET 0)
 GROUP BY newest.record
HAVING bool_and(r.text <> newest.text)
 ORDER BY newest.record
""")  # noqa: S608  the same
# What people agree on about some records.
_CONSENSUS = text("SELECT record, label FROM label_consensus WHERE task = :task AND record = ANY(:records)")
# The current version of one review, by one step in the index; the view compares each version with the others.
_CURRENT = text(f"SELECT record FROM review WHERE review_id = :review_id ORDER BY {NEWEST_FIRST} LIMIT 1")  # noqa: S608


class LabelStore:
    """Adds and reads answers; history is kept.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, labels: Sequence[Label | UnpinnedLabel]) -> AddedLabels:
        """Write answers in one transaction: pinned where the review is there, else waiting for it.

        Labelling again adds a row: the latest answer of an annotator counts, the others are history. The same
        answer of the same moment is there already, and so is one of the same origin.

        Args:
            labels: In the order in which they were given.
        """
        with self._database.begin() as connection:
            return add_labels(connection, labels)

    def answer(
        self, review_id: str, task: str, label: str | None, annotator: str, source: str = TERMINAL_SOURCE
    ) -> bool:
        """Write what somebody says now of the current version of a review; False where it is not stored.

        The answer follows everything that the annotator said of this version before, whatever time that has.

        Raises:
            LabelRetired: If the label was split since; nothing was stored.
        """
        with self._database.begin() as connection:
            record = connection.execute(_CURRENT, {"review_id": review_id}).scalar()
            if record is None:
                return False
            given = {"record": record, "task": task, "annotator": annotator, "source": source}
            said = {"label": label_now(connection, task, label), "seconds": None}  # nobody was asked
            connection.execute(WRITE_ANSWER, {**given, **said})
            close_answered(connection, task, [record])
        return True

    def answers(self, task: str, records: Sequence[int]) -> list[Label]:
        """Every answer about these records, history included, the oldest of each record first."""
        rows = self._database.fetch(_ANSWERS, {"task": task, "records": list(records)})
        return [Label(*row) for row in rows]

    def latest_answers(self, task: str, most: int = LATEST_ANSWERS) -> list[Label]:
        """The answer of each person that counts, "unsure" included, in order of records.

        Among so many of the latest answers.
        """
        return [Label(*row) for row in self._database.fetch(_LATEST, {"task": task, "most": most})]

    def latest_of(self, labels: Sequence[Label | UnpinnedLabel]) -> list[LatestAnswer | None]:
        """What the annotator of each label said last about its review and task; None: nothing yet."""
        given = {
            "records": [label.record if isinstance(label, Label) else None for label in labels],
            "review_ids": [None if isinstance(label, Label) else label.review_id for label in labels],
            "tasks": [label.task for label in labels],
            "annotators": [label.annotator for label in labels],
            "undo": UNDO_SOURCE,
        }
        rows = self._database.fetch(_LATEST_OF, given)
        return [None if row.labelled_at is None else LatestAnswer(*row) for row in rows]

    def unknown_records(self, records: Sequence[int]) -> set[int]:
        """Which of these are no reviews."""
        query = text("SELECT record FROM review WHERE record = ANY(:records)")
        found = self._database.fetch_values(query, {"records": list(set(records))})
        return set(records) - set(found)

    def judged(self, review_id: str, moment: datetime) -> int | None:
        """The version of a review that somebody judged at a moment; None where it is not stored."""
        with self._database.begin() as connection:
            return pin(connection, [review_id], [moment])[0]

    def all_answers(self, task: str) -> Iterator[tuple[str, Label]]:
        """Every answer with its review's id, history included, but for what was taken back; in order.

        Page by page, so that nothing is held while somebody reads.
        """
        after = 0
        while rows := self._database.fetch(_HISTORY, {"after": after, "page": _PAGE}):
            for row in rows:
                after = row.id
                # An answer that a changed label follows is there under its new name.
                is_kept = row.source != UNDO_SOURCE and row.next_source not in {UNDO_SOURCE, LABEL_SET_SOURCE}
                if row.task == task and is_kept and row.review_id is not None:
                    yield row.review_id, Label(*row[2:10])

    def vocabularies(self) -> Vocabularies:
        """The labels of every task that has an adapter or declared labels."""
        with self._database.begin() as connection:
            return read_vocabularies(connection)

    def consensus(self, task: str, records: Sequence[int]) -> dict[int, str | None]:
        """What annotators agree on, by record; None for a tie, and no entry where nobody answered."""
        rows = self._database.fetch(_CONSENSUS, {"task": task, "records": list(records)})
        return {record: label for record, label in rows}  # noqa: C416  rows are no pairs to mypy

    def labelled(self, task: str, most: int = MOST_LABELLED) -> list[LabelledReview]:
        """The records that people agree on, in order of records; old versions of edited reviews as well.

        Args:
            task: Of which task.
            most: Of more than so many labelled records, those that were labelled last.
        """
        with self._database.begin() as connection:
            connection.execute(BY_INDEX)
            rows = connection.execute(_LABELLED, {**_last(task, most), "audit": AUDIT}).all()
        return [LabelledReview(*row) for row in rows]

    def labelled_by_models(self, task: str, most: int = MOST_LABELLED) -> list[LabelledReview]:
        """The records that models agree on and about which no person said anything, in order of records.

        Args:
            task: Of which task.
            most: Of more such records, those that models answered last.
        """
        with self._database.begin() as connection:
            connection.execute(BY_INDEX)
            rows = connection.execute(_LABELLED_BY_MODELS, {**_last(task, most), "audit": AUDIT}).all()
        return [LabelledReview(*row)._replace(by_models=True) for row in rows]

    def without_text(self, task: str, most: int = MOST_LABELLED) -> int:
        """How many records have a consensus and no text any more, as labels may be kept for longer.

        Args:
            task: Of which task.
            most: Counted among so many of the records that were labelled last.
        """
        with self._database.begin() as connection:
            connection.execute(BY_INDEX)
            return int(connection.execute(_WITHOUT_TEXT, _last(task, most)).scalar_one())

    def edited_since_label(self, task: str, most: int = MOST_LABELLED) -> list[int]:
        """The current versions of labelled reviews that say what no labelled version says.

        Args:
            task: Of which task.
            most: Looked for among so many of the records that were labelled last.
        """
        with self._database.begin() as connection:
            connection.execute(BY_INDEX)
            return list(connection.execute(_EDITED, _last(task, most)).scalars())

    def vocabulary(self, task: str) -> Vocabulary | None:
        """The labels of a task; None where it has no adapter yet, and none were declared."""
        with self._database.begin() as connection:
            return read_vocabularies(connection, task).get(task)


def _last(task: str, most: int) -> dict[str, Any]:
    return {"task": task, "undo": UNDO_SOURCE, "most": most, "answers": _ANSWERS_OF_ONE * most}


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """Which current reviews to take; None means any.

    Attributes:
        task: The task to be decided.
        queued: Only what waits in the queue, the most urgent first.
        unlabelled: Only what no person has labelled.
        label: The model's label.
        product: The product, exactly.
        source: The source, exactly.
        since: Scored at or after this moment.
        until: Scored before this moment.
        uncertain: Only predictions whose two best labels are close.
        limit: At most so many; None for all of them.
    """

    task: str
    queued: bool = False
    unlabelled: bool = False
    label: str | None = None
    product: str | None = None
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    uncertain: bool = False
    limit: int | None = None


def find_items(database: Database, wanted: ItemFilter) -> Iterator[dict[str, Any]]:
    """The reviews that match: by priority where they are queued, else the latest scored first.

    Yields:
        One mapping per review: record, review_id, text, product, source, published_at, label, confidence,
        margin and adapter_version. What people said is not among it: nobody sees it before their own answer.
    """
    open_item = and_(
        label_task.c.record == prediction.c.record,
        label_task.c.task == prediction.c.task,
        label_task.c.state == "open",
    )
    query = (
        select(
            current_review.c.record,
            current_review.c.review_id,
            current_review.c.text,
            current_review.c.product,
            current_review.c.source,
            current_review.c.published_at,
            prediction.c.label,
            prediction.c.confidence,
            prediction.c.margin,
            adapter.c.version.label("adapter_version"),
        )
        .select_from(prediction)
        .join(current_review, current_review.c.record == prediction.c.record)
        .join(adapter, adapter.c.id == prediction.c.adapter_id)
        .where(*_conditions(wanted))
    )
    if wanted.queued:
        query = query.join(label_task, open_item).order_by(label_task.c.priority.desc(), label_task.c.record)
    else:
        query = query.order_by(prediction.c.scored_at.desc(), prediction.c.record)
    yield from read_rows(database, query, wanted.limit)


def _conditions(wanted: ItemFilter) -> Iterator[ColumnElement[bool]]:
    equal = {
        prediction.c.task: wanted.task,
        prediction.c.label: wanted.label,
        current_review.c.product: wanted.product,
        current_review.c.source: wanted.source,
    }
    yield from matching(equal, prediction.c.scored_at, wanted.since, wanted.until)
    if wanted.unlabelled:
        yield ~exists().where(
            label.c.record == prediction.c.record,
            label.c.task == prediction.c.task,
            ~func.starts_with(label.c.annotator, MODEL_PREFIX),
        )
    if wanted.uncertain:
        yield prediction.c.margin < UNCERTAIN_MARGIN
