"""Both adapters on the same frozen rows: what the gate judges by, and what is kept of it."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from reviews.prediction import Prediction
from trainer.gate.evidence import Booleans, Evidence, Floats
from trainer.gate.grouping import groups_of
from trainer.gate.weights import stream_weights
from trainer.metrics import evaluate
from trainer.nightly.snapshot import HELD_OUT, Row, Snapshot


class Scoring(Protocol):
    """What evaluation needs of a classifier."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""

    def predict(self, texts: Sequence[str], /) -> list[Prediction]:
        """One prediction per text."""


def gather(snapshot: Snapshot, active: Scoring | None, candidate: Scoring) -> Evidence:
    """Both adapters' answers to the frozen test and audit rows.

    Args:
        snapshot: Its held-out rows are read.
        active: What serves; None where nothing does.
        candidate: What wants to.
    """
    rows = snapshot.of(*HELD_OUT)
    is_audit = np.array([row.slice == "audit" and row.review.is_drawn for row in rows], np.bool_)
    return Evidence(
        truth=np.array([row.label for row in rows], np.int64),
        active=None if active is None else answers(active, rows, snapshot.names),
        candidate=answers(candidate, rows, snapshot.names),
        labels=snapshot.names,
        is_audit=is_audit,
        groups=groups(rows),
        weights=weights(rows, is_audit),
    )


def answers(scoring: Scoring, rows: Sequence[Row], names: Sequence[str]) -> npt.NDArray[np.float64]:
    """float64 (rows, labels): calibrated probabilities in the order of these names; rows sum to 1."""
    said = scoring.predict([row.review.text for row in rows])
    order = [scoring.labels.index(name) for name in names]
    found = np.array([one.probabilities for one in said], np.float64).reshape(len(rows), -1)
    return np.asarray(found[:, order] if len(rows) else np.empty((0, len(names))))


def groups(rows: Sequence[Row]) -> dict[str, list[str]]:
    """For each way to slice the rows, the slice of each: product, source, length and month."""
    reviews = [row.review for row in rows]
    return groups_of(
        [review.text for review in reviews],
        [review.product for review in reviews],
        [review.source for review in reviews],
        [review.published_at for review in reviews],
    )


def weights(rows: Sequence[Row], is_audit: Booleans) -> Floats | None:
    """float64 (rows): what makes the rows look like the stream; None where too few were audited."""
    # Rows labelled before anything scored them are of one kind: nobody knows how they were chosen.
    _, predicted = np.unique([row.review.predicted or "" for row in rows], return_inverse=True)
    margins = np.array([row.review.margin or 0.0 for row in rows], np.float64)
    return stream_weights(is_audit, predicted, margins)


def measures(evidence: Evidence) -> dict[str, dict[str, float]]:
    """Accuracy, macro-F1 and so on, of both adapters on all rows and on the audit rows."""
    found: dict[str, dict[str, float]] = {}
    for who, said in (("active", evidence.active), ("candidate", evidence.candidate)):
        if said is not None:
            audit = evaluate(said[evidence.is_audit], evidence.truth[evidence.is_audit])
            found[who] = evaluate(said, evidence.truth) | {
                f"audit_{name}": value for name, value in audit.items()
            }
    return found
