"""Two adapters side by side: the stored predictions of both on the same reviews.

Both scored a review where one of them scores the live stream and the other was on trial, or where stored
reviews were scored again. Only the latest of an adapter's kept predictions are looked at, so that the price
of a look does not grow with the table.
"""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import text

from reviews.label_set import common_labels, same_pairs
from storage.database import Database
from storage.labels.vocabulary import read_label_sets
from storage.plans import BY_INDEX

LOOKED_AT = 3_000
"""At most so many kept predictions of each adapter are looked at."""
_MOST_LABELS_OF = 2_000

_ADAPTERS = text("SELECT version, id, labels FROM adapter WHERE version = ANY(:versions)")
# A review has one current prediction; what others said of it is in the history.
_PAIRS = text("""
WITH first AS MATERIALIZED (
    SELECT record, label, confidence FROM prediction_history
     WHERE adapter_id = :first AND task = :task ORDER BY record DESC LIMIT :limit
), second AS MATERIALIZED (
    SELECT record, label, confidence FROM prediction_history
     WHERE adapter_id = :second AND task = :task ORDER BY record DESC LIMIT :limit
)
SELECT f.record, f.label, f.confidence, p.label, p.confidence
  FROM first f JOIN prediction p ON p.record = f.record AND p.task = :task AND p.adapter_id = :second
UNION ALL
SELECT s.record, p.label, p.confidence, s.label, s.confidence
  FROM second s JOIN prediction p ON p.record = s.record AND p.task = :task AND p.adapter_id = :first
UNION ALL
SELECT f.record, f.label, f.confidence, s.label, s.confidence FROM first f JOIN second s USING (record)
""")
_HUMAN = text("SELECT record, label FROM label_consensus WHERE task = :task AND record = ANY(:records)")
_TEXTS = text("SELECT record, review_id, text FROM published_review WHERE record = ANY(:records)")


class DisputedPair(NamedTuple):
    """A review that two adapters call differently.

    Attributes:
        review_id: The publisher's id.
        text: The review.
        first_label: What the first adapter says.
        first_confidence: Its calibrated probability.
        second_label: What the second adapter says.
        second_confidence: Its calibrated probability.
        human_label: What people say; None where nobody was asked, or they do not agree.
    """

    review_id: str
    text: str
    first_label: str
    first_confidence: float
    second_label: str
    second_confidence: float
    human_label: str | None


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Two adapters on the same reviews.

    Attributes:
        pairs: How often each pair of labels was given: the first adapter's, the second's.
        examples: Reviews that they call differently: those with a human label first, then those of which
            both are most certain.
        judged: Of the disagreements how many people labelled.
        first_right: Of these in how many the first adapter says what people say.
        second_right: The same of the second.
        same: Pairs of different labels that mean the same, after the labels of the task changed.
        left_out: Further disagreements that people gave a label which only one of the adapters knows.
    """

    pairs: Mapping[tuple[str, str], int]
    examples: Sequence[DisputedPair]
    judged: int = 0
    first_right: int = 0
    second_right: int = 0
    same: Set[tuple[str, str]] = frozenset()
    left_out: int = 0

    @property
    def reviews(self) -> int:
        """How many reviews both scored, of those that were looked at."""
        return sum(self.pairs.values())

    @property
    def agreed(self) -> int:
        """How many of them both call the same."""
        return sum(count for pair, count in self.pairs.items() if pair[0] == pair[1] or pair in self.same)


class _Pair(NamedTuple):
    record: int
    first_label: str
    first_confidence: float
    second_label: str
    second_confidence: float


def side_by_side(database: Database, task: str, first: str, second: str, examples: int = 20) -> SideBySide:
    """Compare two adapters of a task by what both say of the same stored reviews.

    Args:
        database: Where everything is.
        task: The task of both.
        first: The version of one.
        second: The version of the other.
        examples: At most so many disagreements are shown.
    """
    with database.begin() as connection:
        rows = connection.execute(_ADAPTERS, {"versions": [first, second]})
        adapters = {row.version: row for row in rows}
        one, other = adapters[first], adapters[second]
        label_set = read_label_sets(connection, task).get(task)
        values = {"task": task, "first": one.id, "second": other.id, "limit": LOOKED_AT}
        connection.execute(BY_INDEX)
        found = {row[0]: _Pair(*row) for row in connection.execute(_PAIRS, values)}
    same = frozenset(same_pairs(one.labels, other.labels, label_set))
    pairs = Counter((pair.first_label, pair.second_label) for pair in found.values())
    disputed = sorted(
        (pair for pair in found.values() if not _says_the_same(pair, same)),
        key=lambda pair: min(pair.first_confidence, pair.second_confidence),
        reverse=True,
    )
    human = _human_labels(database, task, disputed[:_MOST_LABELS_OF])
    disputed.sort(key=lambda pair: pair.record not in human)  # stable: the most certain of both kinds first
    class_of = common_labels(one.labels, other.labels, label_set).class_of
    judged = [pair for pair in disputed if human.get(pair.record) in class_of]
    return SideBySide(
        pairs,
        _with_texts(database, disputed[:examples], human),
        judged=len(judged),
        first_right=sum(_is_right(pair.first_label, human[pair.record], class_of) for pair in judged),
        second_right=sum(_is_right(pair.second_label, human[pair.record], class_of) for pair in judged),
        same=same,
        left_out=len(human) - len(judged),
    )


def _says_the_same(pair: _Pair, same: Set[tuple[str, str]]) -> bool:
    return pair.first_label == pair.second_label or (pair.first_label, pair.second_label) in same


def _is_right(said: str, truth: str, class_of: Mapping[str, int]) -> bool:
    return class_of.get(said) == class_of[truth]


def _human_labels(database: Database, task: str, pairs: Sequence[_Pair]) -> dict[int, str]:
    values = {"task": task, "records": [pair.record for pair in pairs]}
    return {row[0]: row[1] for row in database.fetch(_HUMAN, values) if row[1] is not None}


def _with_texts(
    database: Database, pairs: Sequence[_Pair], human: Mapping[int, str]
) -> tuple[DisputedPair, ...]:
    rows = database.fetch(_TEXTS, {"records": [pair.record for pair in pairs]})
    texts = {row[0]: (row[1], row[2]) for row in rows}
    return tuple(
        DisputedPair(*texts[pair.record], *pair[1:], human.get(pair.record))
        for pair in pairs
        if pair.record in texts
    )
