"""Reviews that are like another one, by the embeddings that were kept."""

from datetime import datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import text

from reviews.record_id import OFFSET_BITS
from storage.copying import BIGINT, Columns, copy_columns
from storage.database import Database
from storage.schema.labels import BY_PEOPLE

SEARCHED_VECTORS = 2_000
"""How many of the latest embeddings are compared."""
_DTYPE = np.dtype("<f2")

_VECTOR = text("""
SELECT e.vector, e.adapter_id FROM embedding e WHERE e.record = :record AND e.task = :task
""")
# The latest of one partition, whose records are in the order of their arrival. A statement for each, with
# constants: PostgreSQL then follows the key backwards and stops, however many are kept.
_LATEST = """
SELECT record, vector
  FROM (SELECT record, adapter_id, vector FROM embedding
         WHERE record >= %(first)s AND record < %(next)s AND task = %(task)s
         ORDER BY record DESC LIMIT %(limit)s) latest
 WHERE adapter_id = %(adapter_id)s AND record <> %(record)s AND octet_length(vector) = %(bytes)s
"""
_PARTITIONS = text("SELECT id FROM stream_partition ORDER BY id DESC LIMIT 100")
# Only current versions; where that is asked for, only what nobody has labelled, nor leased to do so.
_SHOWN = text(f"""
SELECT r.record, r.review_id, r.text, r.product, r.source, r.published_at, p.label, p.confidence
  FROM current_review r
  JOIN prediction p ON p.record = r.record AND p.task = :task
 WHERE r.record = ANY(:records)
   AND (NOT :unlabelled
        OR NOT EXISTS (SELECT FROM label l WHERE l.record = r.record AND l.task = :task AND {BY_PEOPLE})
       AND NOT EXISTS (SELECT FROM label_task q WHERE q.record = r.record AND q.task = :task
                          AND q.lease_expires_at > clock_timestamp()))
""")  # noqa: S608  the constant above


class SimilarReview(NamedTuple):
    """A review that is like another one.

    Attributes:
        record: The number that names it.
        review_id: The publisher's id.
        text: The body.
        product: What is reviewed.
        source: Where it comes from.
        published_at: When it was published (UTC).
        label: The model's label.
        confidence: Its calibrated probability.
        similarity: The cosine of the two embeddings, in [-1, 1].
    """

    record: int
    review_id: str
    text: str
    product: str | None
    source: str | None
    published_at: datetime
    label: str
    confidence: float
    similarity: float


class Similar(NamedTuple):
    """What a search found.

    Attributes:
        reviews: The most similar first.
        searched: Among how many embeddings; 0 where the review's own was not kept.
    """

    reviews: list[SimilarReview]
    searched: int


def find_similar(
    database: Database, task: str, record: int, limit: int = 10, *, unlabelled: bool = False
) -> Similar:
    """The most similar reviews among the latest whose embedding was kept, of the same adapter.

    Args:
        database: Where from.
        task: Whose adapter made the embeddings.
        record: The review to compare with.
        limit: At most so many.
        unlabelled: Only reviews that nobody has labelled for the task, and that no annotator has at present.
    """
    own = database.fetch_one(_VECTOR, {"record": record, "task": task})
    if own is None:
        return Similar([], 0)
    others = _latest(database, task, record, own.adapter_id, len(own.vector))
    cosines = _cosines(own.vector, others["vector"])
    # Twice as many: old versions, and labelled ones where they are not wanted, are left out.
    nearest = np.argsort(-cosines, kind="stable")[: 2 * limit]
    by_record = {int(others["record"][place]): float(cosines[place]) for place in nearest}
    given = {"task": task, "records": list(by_record), "unlabelled": unlabelled}
    found = [SimilarReview._make([*row, by_record[row.record]]) for row in database.fetch(_SHOWN, given)]
    found.sort(key=lambda review: -review.similarity)
    return Similar(found[:limit], len(cosines))


def _latest(database: Database, task: str, record: int, adapter_id: int, width_bytes: int) -> Columns:
    """The latest embeddings of an adapter, from every partition alike, but for that of one record."""
    given = {"task": task, "record": record, "adapter_id": adapter_id, "bytes": width_bytes}
    types = {"record": BIGINT, "vector": np.dtype(f"V{width_bytes}")}
    partitions = database.fetch_values(_PARTITIONS)
    given["limit"] = -(-SEARCHED_VECTORS // len(partitions))
    found = []
    with database.begin() as connection:
        for number in partitions:
            ends = {"first": number << OFFSET_BITS, "next": (number + 1) << OFFSET_BITS}
            found.append(copy_columns(connection, _LATEST, {**given, **ends}, types))
    return {name: np.concatenate([columns[name] for columns in found]) for name in types}


def _cosines(own: bytes, others: npt.NDArray[np.void]) -> npt.NDArray[np.float32]:
    """float32 (others): the cosine of each with one vector; 0 where one of both has no length."""
    vector = np.frombuffer(own, _DTYPE).astype(np.float32)
    matrix = np.frombuffer(others.tobytes(), _DTYPE).astype(np.float32).reshape(len(others), len(vector))
    lengths = np.linalg.norm(matrix, axis=1) * np.linalg.norm(vector)
    cosines = np.zeros(len(others), np.float32)
    np.divide(matrix @ vector, lengths, out=cosines, where=lengths > 0)
    return cosines
