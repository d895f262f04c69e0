"""All that is stored of one review: versions, withdrawals, what adapters and people said, dead letters."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text

from reviews.label import Label
from reviews.record_id import MAX_OFFSET, OFFSET_BITS
from storage.database import Database
from storage.labels.rows import NEWEST_FIRST
from storage.stream.withdrawals import StoredWithdrawal, find_withdrawals

MOST_VERSIONS = 50
MOST_ANSWERS = 500
SEARCHED_LETTERS = 1_000
"""Dead letters of a review are looked for among so many of the latest."""
_LONGEST_SEARCHED_BYTES = 16_384

_VERSIONS = text(f"""
SELECT r.record, r.review_id, r.text, r.product, r.source,
       coalesce(r.stars_given, r.stars::double precision) AS stars, r.published_at, r.received_at,
       s.topic, s.partition, r.record & {MAX_OFFSET},
       (SELECT p.record FROM published_review p WHERE p.record = r.record) IS NULL,
       r.attributes
  FROM review r JOIN stream_partition s ON s.id = (r.record >> {OFFSET_BITS})::integer
 WHERE r.review_id = :review_id ORDER BY {NEWEST_FIRST} LIMIT {MOST_VERSIONS}
""")  # noqa: S608  nothing but the constants above
_PREDICTIONS = text("""
SELECT said.record, said.task, a.version, said.label, said.confidence, said.margin, said.probabilities,
       a.labels, said.truncated, said.scored_at, said.kind
  FROM (SELECT record, task, adapter_id, label, confidence, margin, probabilities, truncated, scored_at,
               'current' AS kind
          FROM prediction WHERE record = ANY(:records)
        UNION ALL
        SELECT record, task, adapter_id, label, confidence, margin, probabilities, truncated, scored_at,
               reason AS kind
          FROM prediction_history WHERE record = ANY(:records)) said
  JOIN adapter a ON a.id = said.adapter_id
 ORDER BY said.record DESC, said.task, said.kind <> 'current', said.scored_at DESC
""")
_ANSWERS = text(f"""
SELECT record, task, label, annotator, source, labelled_at, origin, seconds FROM label
 WHERE record = ANY(:records) ORDER BY labelled_at DESC, id DESC LIMIT {MOST_ANSWERS}
""")  # noqa: S608  the same
_CONSENSUS = text("""
SELECT given.record, c.task, c.label
  FROM unnest(CAST(:records AS bigint[])) AS given (record)
  CROSS JOIN LATERAL (SELECT DISTINCT l.task FROM label l WHERE l.record = given.record) asked
  CROSS JOIN LATERAL (SELECT v.task, v.label FROM label_consensus v
                       WHERE v.record = given.record AND v.task = asked.task OFFSET 0) c
 WHERE c.label IS NOT NULL
""")
# The id as publishers write it, whichever way their JSON escapes it.
_LETTERS = text(f"""
SELECT s.topic, s.partition, d.record & {MAX_OFFSET}, d.stage, d.error, d.message, d.state, d.received_at
  FROM (SELECT record, stage, error, message, state, received_at, raw FROM dead_letter
         ORDER BY received_at DESC, record DESC LIMIT {SEARCHED_LETTERS}) d
  JOIN stream_partition s ON s.id = (d.record >> {OFFSET_BITS})::integer
 WHERE octet_length(d.raw) <= {_LONGEST_SEARCHED_BYTES}
   AND (position(CAST(:written AS bytea) IN d.raw) > 0 OR position(CAST(:escaped AS bytea) IN d.raw) > 0)
 ORDER BY d.received_at DESC
""")  # noqa: S608  the same


class ReviewVersion(NamedTuple):
    """One version of a review.

    Attributes:
        record: The number that names it.
        review_id: The publisher's id.
        text: The body.
        product: What is reviewed.
        source: Where it comes from.
        stars: The author's own rating; None where there is none.
        published_at: When it was published (UTC).
        received_at: When a worker received it (UTC).
        topic: Kafka's topic.
        partition: Kafka's partition.
        offset: Its offset there.
        is_withdrawn: Whether the publisher withdrew the review after this version.
        attributes: Further fields that its source names; None without any.
    """

    record: int
    review_id: str
    text: str
    product: str | None
    source: str | None
    stars: float | None
    published_at: datetime
    received_at: datetime
    topic: str
    partition: int
    offset: int
    is_withdrawn: bool
    attributes: Mapping[str, Any] | None


class VersionPrediction(NamedTuple):
    """What one adapter says of one version.

    Attributes:
        record: The version.
        task: The task.
        adapter_version: The adapter.
        label: The most probable label.
        confidence: Its calibrated probability.
        margin: Between the two best labels.
        probabilities: In the order of ``labels``.
        labels: The adapter's.
        truncated: Whether the model saw only a part of the text.
        scored_at: When (UTC).
        kind: ``current``; ``replaced`` by rescoring; ``shadow`` where the adapter was on trial.
    """

    record: int
    task: str
    adapter_version: str
    label: str
    confidence: float
    margin: float
    probabilities: Sequence[float]
    labels: Sequence[str]
    truncated: bool
    scored_at: datetime
    kind: str


class ReviewLetter(NamedTuple):
    """A dead letter whose value holds the review's id.

    Attributes:
        topic: Kafka's topic.
        partition: Kafka's partition.
        offset: Its offset there.
        stage: Where it failed.
        error: The reason.
        message: What was wrong.
        state: Whether it waits, was replayed, discarded or superseded.
        received_at: When a worker received it (UTC).
    """

    topic: str
    partition: int
    offset: int
    stage: str
    error: str
    message: str
    state: str
    received_at: datetime


class ReviewHistory(NamedTuple):
    """One review.

    Attributes:
        versions: The newest first; the latest fifty where there are more.
        withdrawals: The latest first; the latest fifty where there are more.
        predictions: Of these versions, the newest version's first.
        answers: About these versions, the latest first, answers that were taken back included.
        consensus: What people agree on, by record and task.
        letters: The latest dead letters with its id.
    """

    versions: list[ReviewVersion]
    withdrawals: list[StoredWithdrawal]
    predictions: list[VersionPrediction]
    answers: list[Label]
    consensus: dict[tuple[int, str], str]
    letters: list[ReviewLetter]


def find_history(database: Database, review_id: str) -> ReviewHistory | None:
    """All that is stored of a review; None where nothing is."""
    versions = find_versions(database, review_id)
    withdrawals = find_withdrawals(database, review_id)
    letters = find_letters(database, review_id)
    if not versions and not withdrawals and not letters:
        return None
    records = {"records": [version.record for version in versions]}
    return ReviewHistory(
        versions,
        withdrawals,
        [VersionPrediction(*row) for row in database.fetch(_PREDICTIONS, records)],
        [Label(*row) for row in database.fetch(_ANSWERS, records)],
        {(row[0], row[1]): row[2] for row in database.fetch(_CONSENSUS, records)},
        letters,
    )


def find_versions(database: Database, review_id: str) -> list[ReviewVersion]:
    """The versions of a review, the newest first; the latest fifty where there are more."""
    return [ReviewVersion(*row) for row in database.fetch(_VERSIONS, {"review_id": review_id})]


def find_letters(database: Database, review_id: str) -> list[ReviewLetter]:
    """The dead letters with this id, among the latest ones and those of ordinary size."""
    given = {
        "written": json.dumps(review_id, ensure_ascii=False).encode("utf-8", "surrogatepass"),
        "escaped": json.dumps(review_id).encode(),
    }
    return [ReviewLetter(*row) for row in database.fetch(_LETTERS, given)]
