"""The simulated runs: score, choose, label, fit, judge, promote, as the product does each night.

Answers are dealt to the slices of the product by a hash of the review, candidates are planned, fitted and
compared by the code of a nightly run, and the gate judges what it would judge there. A night's labels are all
answers of that night: those to the strategy's questions, and those of the audit slice.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from classifier.calibration import Floats
from reviews.label import LabelledReview
from reviews.slices import slice_of
from trainer.gate.evidence import Evidence, Scorer
from trainer.gate.judge import gain_interval, judge
from trainer.gate.verdict import Verdict
from trainer.metrics import evaluate
from trainer.nightly.cross_checks import HeldOutByFolds
from trainer.nightly.held_out import gather
from trainer.nightly.snapshot import Snapshot, freeze, missing, weighting
from trainer.selection.audit_draw import AuditCandidates, audit_choices
from trainer.selection.choice import as_labels_come, choose
from trainer.selection.cost import expected_seconds
from trainer.selection.pool import Pool
from trainer.settings import SelectionSettings, TrainerSettings
from trainer.simulation.stream import Indices, StreamReplay
from trainer.simulation.watch import Detect, DriftFollower

_FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_DAY_SECONDS = 86_400
_DIGITS = 6


class Model(Scorer, Protocol):
    """A fitted classifier: it scores rows of the stream."""

    def __call__(self, rows: Indices, /) -> Floats:
        """float64 (rows, labels): probabilities, rows sum to 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Fits:
    """What the fits of a night came to.

    Attributes:
        candidate: The best of them.
        recipe: What it was fitted by.
        checks: What cross-checks held out, see :mod:`trainer.nightly.cross_checks`.
    """

    candidate: Model
    recipe: str
    checks: HeldOutByFolds


class FitNight(Protocol):
    """Fits the plan of a night."""

    def __call__(self, snapshot: Snapshot, active: Model | None, seed: int, /) -> Fits | None:
        """The best candidate; None where no recipe of the plan can be fitted on these labels."""


@dataclass(frozen=True, slots=True)
class Loop:
    """What stays the same in all nights of one strategy and seed.

    Attributes:
        replay: The stream.
        labels: Names of the classes.
        start: The first active model; None for a cold start from labels.
        start_labels: Labels drawn at random before the first night, of such a cold start.
        fit: Fits the plan of a night.
        is_zero_shot: Whether the first active model is made from descriptions of the labels.
        selection: The strategy, and the one of the first draws.
        settings: The nightly run and the gate.
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
    fit: FitNight
    is_zero_shot: bool
    selection: SelectionSettings
    settings: TrainerSettings
    texts: tuple[str, ...]
    embeddings: npt.NDArray[np.float16] | None
    seed: int
    detect: Detect
    clock: Callable[[], float] = time.perf_counter

    def review_id(self, row: int) -> str:
        """The id by which a row gets its slice: another with each seed."""
        return f"{self.seed}/{row}"


def nights(loop: Loop) -> Iterator[dict[str, Any]]:
    """One line of results a night, night 0 being the active model before the first.

    The candidate is measured on the held-back rows, beside the active adapter after the gate's verdict; where
    nothing could be fitted yet, the active one stands for it. The first adapter of a cold start from labels
    is not judged.

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


@dataclass(frozen=True, slots=True, eq=False)
class _Scored:
    """Rows that are there and unlabelled, with what the active model says of them.

    Attributes:
        rows: int64 (rows).
        places: int64 (rows): their places in the pool.
        said: float64 (rows, labels).
        is_audit: bool (rows): of the audit slice.
    """

    rows: Indices
    places: Indices
    said: Floats
    is_audit: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _State:
    active: Model
    answered: tuple[LabelledReview, ...]
    trained_on: Collection[int]
    watch: DriftFollower
    attempts: int = 0
    line: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a night's fits came to, and what the gate says; None where nothing was fitted or judged."""

    fits: Fits | None = None
    evidence: Evidence | None = None
    verdict: Verdict = field(default_factory=lambda: Verdict(()))


def _begin(loop: Loop) -> _State:
    answered: tuple[LabelledReview, ...] = ()
    active, trained_on = loop.start, frozenset[int]()
    if active is None:
        # The backlog is in random order already.
        answered = tuple(_answer(loop, int(row), 0) for row in loop.replay.pool[: loop.start_labels])
        snapshot = _snapshot(loop, answered, trained_on)
        fits = loop.fit(snapshot, None, loop.seed)
        if fits is None:
            raise ValueError("The labels of the cold start are too few for any recipe.")
        active, trained_on = fits.candidate, _trained_on(snapshot)
    measured = _measures(loop, active)
    line = _line(loop, 0, answered, answered) | {"candidate": measured, "active": measured}
    watch = DriftFollower(loop.texts, loop.labels, loop.replay.size.reference_rows, loop.detect)
    return _State(active, answered, trained_on, watch, line=line)


def _night(loop: Loop, state: _State, night: int) -> _State:
    began = loop.clock()
    scored = _scored(loop, state, night)
    selection = as_labels_come(
        loop.selection, len(state.answered), is_zero_shot=loop.is_zero_shot and state.active is loop.start
    )
    asked = _asked(loop, scored, night, selection)
    answered = (*state.answered, *asked)
    chose = loop.clock()
    drift = _drift(loop, state.watch, scored, night)
    watched = loop.clock()
    snapshot = _snapshot(loop, answered, state.trained_on)
    judged = _judged(loop, state, snapshot, night)
    verdict, candidate = judged.verdict, judged.fits.candidate if judged.fits else state.active
    active = candidate if verdict.promote else state.active
    line = _line(loop, night, answered, asked) | {
        "candidate": _measures(loop, candidate),
        "active": _measures(loop, active),
        "before": _measures(loop, state.active),
        "change": _change(loop, state.active, active) if verdict.promote else None,
        "recipe": judged.fits.recipe if judged.fits else None,
        "evidence": _compared(judged.evidence),
        "promoted": verdict.promote,
        "failed": [check.name for check in verdict.checks if not check.passed],
        "drift": drift,
        "seconds": {
            "choose": round(chose - began, 3),
            "watch": round(watched - chose, 3),
            "fit": round(loop.clock() - watched, 3),
        },
    }
    attempts = 0 if verdict.promote else state.attempts + verdict.is_attempt
    state = replace(state, active=active, answered=answered, attempts=attempts, line=line)
    if not verdict.promote:
        return state
    state.watch.begin()
    return replace(state, trained_on=_trained_on(snapshot))


def _scored(loop: Loop, state: _State, night: int) -> _Scored:
    labelled = np.array([review.record for review in state.answered], np.int64)
    rows = loop.replay.there(night, labelled)
    shares = loop.settings.nightly.shares
    is_audit = np.array([slice_of(loop.review_id(int(row)), shares) == "audit" for row in rows], np.bool_)
    return _Scored(rows, np.flatnonzero(np.isin(loop.replay.pool, rows)), state.active(rows), is_audit)


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


def _asked(loop: Loop, scored: _Scored, night: int, selection: SelectionSettings) -> list[LabelledReview]:
    """The night's answers: to the strategy's questions, and of the audit slice, as the settings say."""
    budget = loop.replay.size.labels_a_night
    items = selection.items_per_night + selection.audit_items_per_night
    audited = _audited(loop, scored, round(budget * selection.audit_items_per_night / max(1, items)), night)
    chosen = _chosen(loop, scored, budget - len(audited), night, selection)
    said = dict(zip(scored.rows.tolist(), scored.said, strict=True))
    return [
        *(_answer(loop, row, night, said[row]) for row in chosen.tolist()),
        *(_answer(loop, row, night, said[row], draw_weight) for row, draw_weight in audited),
    ]


def _chosen(loop: Loop, scored: _Scored, count: int, night: int, selection: SelectionSettings) -> Indices:
    """int64: the rows that the strategy asks labels for."""
    may = ~scored.is_audit
    there = scored.rows[may]
    pool = Pool(
        records=there,
        probabilities=scored.said[may].astype(np.float32),
        published_at=loop.replay.nights[scored.places[may]] * _DAY_SECONDS,
        embeddings=None if loop.embeddings is None else loop.embeddings[there],
        embedding_of=None if loop.embeddings is None else np.arange(len(there)),
        texts_of=lambda records: [loop.texts[int(record)] for record in records],
    )
    choices = choose(pool, count, selection, _seed(loop, night))
    return np.array([choice.record for choice in choices], np.int64)


def _audited(loop: Loop, scored: _Scored, count: int, night: int) -> list[tuple[int, float]]:
    """The rows of the audit slice that are asked about, and how much each counts among them.

    As in the product, a row is a candidate of one draw: that of the night in which it came.
    """
    is_new = scored.is_audit & (loop.replay.nights[scored.places] == night)
    rows = scored.rows[is_new]
    ids = [loop.review_id(int(row)) for row in rows]
    candidates = AuditCandidates(rows, ids, scored.said[is_new])
    choices = audit_choices(
        candidates,
        count,
        loop.settings.nightly.shares,
        _seed(loop, night),
        even_share=loop.selection.audit_even_share,
    )
    return [(choice.record, choice.draw_weight or 1.0) for choice in choices]


def _seed(loop: Loop, night: int) -> int:
    return int(np.random.SeedSequence((loop.seed, night)).generate_state(1)[0])


def _answer(
    loop: Loop, row: int, night: int, said: Floats | None = None, draw_weight: float | None = None
) -> LabelledReview:
    """A row with what the annotator says of it, what the model that served said (labels), and its draw."""
    moment = _FIRST_DAY + timedelta(days=night)
    review = LabelledReview(
        record=row,
        review_id=loop.review_id(row),
        text=loop.texts[row],
        product=None,
        source=None,
        published_at=moment,
        label=loop.labels[loop.replay.answers[row]],
        labelled_at=moment,
        first_labelled_at=moment,
        received_at=moment,
        is_drawn=draw_weight is not None,
        draw_weight=1.0 if draw_weight is None else draw_weight,
    )
    if said is None:
        return review
    best, second = np.sort(said)[::-1][:2]
    return review._replace(
        predicted=loop.labels[int(said.argmax())], probabilities=said.tolist(), margin=float(best - second)
    )


def _snapshot(loop: Loop, answered: tuple[LabelledReview, ...], trained_on: Collection[int]) -> Snapshot:
    nightly = loop.settings.nightly
    return freeze(answered, loop.labels, nightly.shares, weighting(nightly), trained_on)


def _trained_on(snapshot: Snapshot) -> frozenset[int]:
    """The records that a promoted adapter was trained on or chosen by, as a run's items say."""
    return frozenset(row.review.record for row in snapshot.of("train", "validation"))


def _judged(loop: Loop, state: _State, snapshot: Snapshot, night: int) -> _Judged:
    settings = loop.settings
    if missing(snapshot, settings.nightly, settings.gate):
        return _Judged()
    fits = loop.fit(snapshot, state.active, loop.seed)
    if fits is None:
        return _Judged()
    evidence = gather(snapshot, state.active, fits.candidate, fits.checks)
    verdict = judge(evidence, settings.gate, attempts_before=state.attempts, seed=night)
    return _Judged(fits, evidence, verdict)


def _compared(evidence: Evidence | None) -> dict[str, Any] | None:
    """How much the gate saw: rows, those that random audit draws gave, and rows on which both differ."""
    if evidence is None or evidence.active is None:
        return None
    differ = evidence.active.argmax(axis=1) != evidence.candidate.argmax(axis=1)
    return {"rows": len(evidence.truth), "audit": int(evidence.is_audit.sum()), "differ": int(differ.sum())}


def _measures(loop: Loop, model: Model) -> dict[str, float]:
    rows = loop.replay.held_back
    found = evaluate(model(rows), loop.replay.truth[rows])
    return {name: round(found[name], _DIGITS) for name in ("macro_f1", "accuracy")}


def _change(loop: Loop, before: Model, after: Model) -> list[float]:
    """The ends of the 95 % interval of a promotion's gain in macro-F1, paired on the held-back rows."""
    rows = loop.replay.held_back
    held_back = Evidence(
        truth=loop.replay.truth[rows],
        active=before(rows),
        candidate=after(rows),
        labels=loop.labels,
        is_audit=np.ones(len(rows), np.bool_),
    )
    ends = gain_interval(held_back, before(rows).argmax(axis=1), loop.settings.gate, loop.seed)
    return [round(end, _DIGITS) for end in ends]


def _line(
    loop: Loop, night: int, so_far: Sequence[LabelledReview], tonight: Sequence[LabelledReview]
) -> dict[str, Any]:
    """Answers so far and those of tonight, by class and as seconds of annotators."""
    characters = np.array([len(review.text) for review in so_far], np.int64)
    return {
        "night": night,
        "labels": len(so_far),
        "annotator_seconds": round(float(expected_seconds(characters, loop.selection).sum()), 1),
        "classes": _by_class(loop, so_far),
        "tonight": _by_class(loop, tonight),
    }


def _by_class(loop: Loop, answered: Sequence[LabelledReview]) -> list[int]:
    given = [loop.labels.index(review.label) for review in answered]
    return [given.count(index) for index in range(len(loop.labels))]
