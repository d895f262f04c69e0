"""The simulated runs: score, select, label, train, judge.

The drift detector looks at what the active model says of the rows as they come. As in service, its reference
is the first reviews that the active model scored since its promotion, and a promotion begins a new one. What
serves before the first night scores the backlog: its first rows are the reference, and the others are
watched. Reviews have no product and no time here: all are alike.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from classifier.calibration import Floats
from drift.online import Alarm, Detector, Threshold
from drift.rows import UNKNOWN, ReviewRows
from drift.settings import WatchSettings
from trainer.gate.evidence import Evidence
from trainer.gate.judge import judge
from trainer.metrics import evaluate
from trainer.selection.choice import choose
from trainer.selection.pool import Pool
from trainer.settings import GateSettings, SelectionSettings
from trainer.simulation.stream import Indices, StreamReplay

Detect = Callable[[ReviewRows], Detector]
"""Makes a detector of a reference."""
_DAY_SECONDS = 86_400
_DIGITS = 6


class Model(Protocol):
    """A fitted classifier: it scores rows of the stream."""

    def __call__(self, rows: Indices, /) -> Floats:
        """float64 (rows, labels): probabilities, rows sum to 1."""


class FitModel(Protocol):
    """Fits a candidate."""

    def __call__(self, rows: Indices, labels: Indices, active: Model | None, seed: int, /) -> Model:
        """The candidate from all labels so far; ``active`` may be continued from."""


@dataclass(frozen=True, slots=True)
class Loop:
    """What stays the same in all nights of one strategy and seed.

    Attributes:
        replay: The stream.
        labels: Names of the classes.
        start: The first active model; None for a cold start.
        start_labels: Labels drawn at random before the first night, of a cold start.
        fit: Fits a candidate.
        selection: The strategy.
        gate: How strict the gate is.
        texts: Of all rows.
        embeddings: float16 (rows, hidden), for strategies that want them; None where there are none.
        seed: Of everything that is drawn.
        detect: Makes a drift detector of a reference.
        clock: Seconds, from any beginning.
    """

    replay: StreamReplay
    labels: tuple[str, ...]
    start: Model | None
    start_labels: int
    fit: FitModel
    selection: SelectionSettings
    gate: GateSettings
    texts: tuple[str, ...]
    embeddings: npt.NDArray[np.float16] | None
    seed: int
    detect: Detect
    clock: Callable[[], float] = time.perf_counter


def nights(loop: Loop) -> Iterator[dict[str, Any]]:
    """One line of results a night, night 0 being the active model before the first.

    The candidate is fitted on all labels so far and measured on the held-back rows, beside the active adapter
    after the gate's verdict. The first adapter of a cold start is not judged.

    Args:
        loop: What is replayed.

    Yields:
        Plain numbers, ready for JSON.
    """
    state = _begin(loop)
    yield state.line
    for night in range(1, loop.replay.size.nights + 1):
        state = _night(loop, state, night)
        yield state.line


class Detectors:
    """Makes detectors; the threshold of a reference is found once, however many strategies share it."""

    def __init__(self, settings: WatchSettings) -> None:
        self._settings = settings
        self._thresholds: dict[str, Threshold] = {}

    def __call__(self, reference: ReviewRows) -> Detector:
        """A detector with this reference, of the same stream as all others."""
        content = reference.records.tobytes() + reference.probabilities.tobytes()
        key = hashlib.sha256(content).hexdigest()
        detector = Detector(reference, self._settings, threshold=self._thresholds.get(key))
        self._thresholds[key] = detector.threshold
        return detector


class DriftFollower:
    """Follows the reviews of one strategy and seed."""

    def __init__(
        self, texts: Sequence[str], labels: Sequence[str], reference_rows: int, detect: Detect
    ) -> None:
        self._texts = texts
        self._labels = labels
        self._reference_rows = reference_rows
        self._detect = detect
        self.begin()

    def begin(self) -> None:
        """Begin a new reference with the next reviews: another model is active."""
        self._detector: Detector | None = None
        self._places = self._rows = np.empty(0, np.int64)
        self._said = np.empty((0, len(self._labels)))

    def see(self, places: Indices, rows: Indices, said: Floats) -> dict[str, Any]:
        """How many of the next reviews were held against a reference, and the alarms; ready for JSON.

        Args:
            places: int64 (reviews), rising: how many had come before each.
            rows: int64 (reviews): which rows of the stream they are.
            said: float64 (reviews, labels), what the active model says of them.
        """
        self._places = np.concatenate((self._places, places))
        self._rows = np.concatenate((self._rows, rows))
        self._said = np.concatenate((self._said, said))
        if self._detector is None:
            if len(self._rows) < self._reference_rows:
                return {"watched": 0, "alarms": []}
            self._detector = self._detect(self._scored(slice(self._reference_rows)))
        seen = self._reference_rows + self._detector.seen
        alarms = self._detector.update(self._scored(slice(seen, None)))
        return {"watched": len(self._rows) - seen, "alarms": [self._raised(alarm) for alarm in alarms]}

    def _raised(self, alarm: Alarm) -> dict[str, Any]:
        """How many reviews had come by the alarm, and before its reference began; what moved."""
        last = self._places[self._reference_rows + alarm.after_reviews - 1]
        return {
            "after": int(last) + 1,
            "reference_after": int(self._places[0]),
            "kind": alarm.kind,
            "feature": alarm.feature,
        }

    def _scored(self, part: slice) -> ReviewRows:
        rows = self._rows[part]
        none, nothing = np.zeros(len(rows), np.int64), [None] * len(rows)
        return ReviewRows(
            classes=self._labels,
            records=rows,
            scored=none,
            published=none,
            texts=[self._texts[row] for row in rows],
            products=nothing,
            sources=nothing,
            probabilities=self._said[part].astype(np.float32),
            truth=np.full(len(rows), UNKNOWN, np.int64),
            audited=np.zeros(len(rows), np.bool_),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Scored:
    """Rows that are there and unlabelled, with what the active model says of them.

    Attributes:
        rows: int64 (rows).
        places: int64 (rows): their places in the pool.
        said: float64 (rows, labels).
    """

    rows: Indices
    places: Indices
    said: Floats


@dataclass(frozen=True, slots=True)
class _State:
    active: Model
    labelled: Indices
    watch: DriftFollower
    attempts: int = 0
    line: dict[str, Any] = field(default_factory=dict)


def _begin(loop: Loop) -> _State:
    asked, active = np.empty(0, np.int64), loop.start
    if active is None:
        # The backlog is in random order already.
        asked = loop.replay.pool[: loop.start_labels]
        active = loop.fit(asked, loop.replay.answers[asked], None, loop.seed)
    measured = _measures(loop, active)
    line = _line(loop, 0, asked, asked) | {"candidate": measured, "active": measured}
    watch = DriftFollower(loop.texts, loop.labels, loop.replay.size.reference_rows, loop.detect)
    return _State(active, asked, watch, line=line)


def _night(loop: Loop, state: _State, night: int) -> _State:
    began = loop.clock()
    scored = _scored(loop, state, night)
    chosen = _chosen(loop, scored, night)
    labelled = np.concatenate((state.labelled, chosen))
    chose = loop.clock()
    drift = _drift(loop, state.watch, scored, night)
    watched = loop.clock()
    candidate = loop.fit(labelled, loop.replay.answers[labelled], state.active, loop.seed)
    fitted = loop.clock()
    evidence = _evidence(loop, state.active, candidate)
    verdict = judge(evidence, loop.gate, attempts_before=state.attempts, seed=night)
    active = candidate if verdict.promote else state.active
    line = _line(loop, night, labelled, chosen) | {
        "candidate": _measures(loop, candidate),
        "active": _measures(loop, active),
        "before": _measures(loop, state.active),
        "audit": {"before": _audit(loop, state.active), "candidate": _audit(loop, candidate)},
        "promoted": verdict.promote,
        "failed": [check.name for check in verdict.checks if not check.passed],
        "drift": drift,
        "seconds": {
            "choose": round(chose - began, 3),
            "watch": round(watched - chose, 3),
            "fit": round(fitted - watched, 3),
        },
    }
    if verdict.promote:
        state.watch.begin()
    attempts = 0 if verdict.promote else state.attempts + verdict.is_attempt
    return replace(state, active=active, labelled=labelled, attempts=attempts, line=line)


def _scored(loop: Loop, state: _State, night: int) -> _Scored:
    rows = loop.replay.there(night, state.labelled)
    return _Scored(rows, np.flatnonzero(np.isin(loop.replay.pool, rows)), state.active(rows))


def _drift(loop: Loop, watch: DriftFollower, scored: _Scored, night: int) -> dict[str, Any]:
    """What the watch says of the rows that came this night, and where they are the first of another file.

    Rows that the first model of a cold start was fitted on have labels: they are no part of its reference.
    """
    came = loop.replay.nights[scored.places] == night
    changes = loop.replay.changes
    return {
        "arrived": int(np.sum(loop.replay.nights <= night)),
        "changes": changes[loop.replay.nights[changes] == night].tolist(),
        **watch.see(scored.places[came], scored.rows[came], scored.said[came]),
    }


def _chosen(loop: Loop, scored: _Scored, night: int) -> Indices:
    """int64: the rows that the strategy asks labels for."""
    there = scored.rows
    pool = Pool(
        records=there,
        probabilities=scored.said.astype(np.float32),
        published_at=loop.replay.nights[scored.places] * _DAY_SECONDS,
        embeddings=None if loop.embeddings is None else loop.embeddings[there],
        embedding_of=None if loop.embeddings is None else np.arange(len(there)),
        texts_of=lambda records: [loop.texts[int(record)] for record in records],
    )
    seed = int(np.random.SeedSequence((loop.seed, night)).generate_state(1)[0])
    choices = choose(pool, loop.replay.size.labels_a_night, loop.selection, seed)
    return np.array([choice.record for choice in choices], np.int64)


def _evidence(loop: Loop, active: Model, candidate: Model) -> Evidence:
    rows = loop.replay.audit
    return Evidence(
        truth=loop.replay.answers[rows],
        active=active(rows),
        candidate=candidate(rows),
        labels=loop.labels,
        is_audit=np.ones(len(rows), np.bool_),
    )


def _measures(loop: Loop, model: Model) -> dict[str, float]:
    rows = loop.replay.held_back
    found = evaluate(model(rows), loop.replay.truth[rows])
    return {name: round(found[name], _DIGITS) for name in ("macro_f1", "accuracy")}


def _audit(loop: Loop, model: Model) -> float:
    rows = loop.replay.audit
    return round(evaluate(model(rows), loop.replay.answers[rows])["macro_f1"], _DIGITS)


def _line(loop: Loop, night: int, labelled: Indices, chosen: Indices) -> dict[str, Any]:
    """Labels so far and those of tonight, in all and by class, as the annotator gave them."""
    so_far, tonight = (
        np.bincount(loop.replay.answers[rows], minlength=len(loop.labels)).tolist()
        for rows in (labelled, chosen)
    )
    return {"night": night, "labels": len(labelled), "classes": so_far, "tonight": tonight}
