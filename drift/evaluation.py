"""Evaluates all measures of a window against its reference, with one verdict and an attribution."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from drift.attribution import Attribution, attribute, choose_to_label
from drift.measures import class_shares, confidence, language_share, text_length, unknown_words, vocabulary
from drift.performance import Calibration, Performance, calibrate, expected_performance
from drift.rows import UNKNOWN, Floats, Integers, ReviewRows
from drift.settings import DriftSettings
from drift.strata import Pair, SeenHours
from drift.vectors import Separation, Vectors, classifier_test, mean_discrepancy, vectors
from drift.verdict import Finding, Judged, Outcome, Subject, judge, moved_subjects

_EDGE = 0.02
_VECTOR_ROWS = 2_000
_TO_LABEL = 100
_TEXTS: tuple[Callable[[Pair], Finding], ...] = (text_length, unknown_words, vocabulary, language_share)
_ANSWERS: tuple[Callable[[Pair], Finding], ...] = (class_shares, confidence)


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The result of comparing two windows.

    Attributes:
        verdict: ``unknown`` where there are too few reviews.
        compared: int64: the rows of the window that were compared, of hours that the reference has seen.
        saw_week: Whether the reference has seen a whole week; all rows were then compared.
        calibration: How audit labels of the reference calibrate the probabilities.
        expected: Accuracy and macro-F1 to expect: of the reference, of the window.
        judged: Each measure's answer.
        moved: What moved: texts, classes, confidence. Where classes moved, texts count only if those of the
            same class differ.
        within_classes: The measures of texts once more, within classes; empty where texts did not move.
        since_row: The window's row at which the stream changed; None without drift.
        attribution: What makes up the shift; None without drift.
        to_label: int64: records to label next because of it.
    """

    verdict: Outcome
    compared: Integers
    saw_week: bool
    calibration: Calibration
    expected: tuple[Performance, Performance]
    judged: tuple[Judged, ...] = ()
    moved: tuple[Subject, ...] = ()
    within_classes: tuple[Judged, ...] = ()
    since_row: int | None = None
    attribution: Attribution | None = None
    to_label: Integers = field(default_factory=lambda: np.zeros(0, np.int64))


def evaluate(
    reference: ReviewRows, window: ReviewRows, settings: DriftSettings, least_reviews: int | None = None
) -> Evaluation:
    """Compare a window with its reference.

    Args:
        reference: The stream since the promotion.
        window: The reviews in question, in the order of the stream.
        settings: The false-alarm rate, and how many reviews are enough.
        least_reviews: Instead of the settings' own.
    """
    audit_labels = np.where(reference.audited, reference.truth, UNKNOWN)
    calibration = calibrate(reference.probabilities, audit_labels, reference.draw_weights)
    expected = (_expected(reference, calibration), _expected(window, calibration))
    seen = SeenHours.of(reference)
    compared = np.flatnonzero(seen.cover(window))
    values = (compared, seen.saw_week, calibration, expected)
    if min(len(reference), len(compared)) < (least_reviews or settings.least_reviews):
        return Evaluation("unknown", *values)
    window = window.take(compared)
    pair = Pair.of(reference, window, settings.seed)
    findings = [measure(pair) for measure in (*_TEXTS, *_ANSWERS)]
    both = vectors(pair, _VECTOR_ROWS)
    separation = classifier_test(both, settings.seed)
    judged = judge(
        [*findings, mean_discrepancy(both, settings.seed), separation.finding], settings.false_alarm_rate
    )
    moved = moved_subjects(judged)
    within: list[Judged] = []
    if "texts" in moved:
        within = _within_classes(reference, window, settings)
        moved = unexplained(moved, within)
    if not moved:
        return Evaluation("stable", *values, tuple(judged))
    attribution, to_label = _explain(reference, window, both, separation, settings)
    return Evaluation(
        "drift",
        *values,
        tuple(judged),
        tuple(moved),
        tuple(within),
        int(compared[_since(pair, both, separation, moved)]),
        replace(attribution, new_rows=compared[attribution.new_rows]),
        to_label,
    )


def unexplained(moved: Sequence[Subject], within_classes: Sequence[Judged]) -> list[Subject]:
    """What moved, without texts where class shares explain them.

    More bad reviews bring more words of bad reviews. But only a shift of classes that was found explains
    that: within classes fewer rows are alike, so a change that is found over all texts may be missed there
    by chance.
    """
    explained = "classes" in moved and not any(item.is_drift for item in within_classes)
    return [subject for subject in moved if not (explained and subject == "texts")]


def _expected(rows: ReviewRows, calibration: Calibration) -> Performance:
    return expected_performance(calibration.apply(rows.probabilities), rows.labels)


def _within_classes(reference: ReviewRows, window: ReviewRows, settings: DriftSettings) -> list[Judged]:
    """Whether texts differ among reviews of the same class: if not, only the classes' shares moved."""
    pair = Pair.of(reference, window, settings.seed, by_class=True)
    both = vectors(pair, _VECTOR_ROWS)
    findings = [measure(pair) for measure in _TEXTS]
    findings += [mean_discrepancy(both, settings.seed), classifier_test(both, settings.seed).finding]
    return judge(findings, settings.false_alarm_rate)


def _since(pair: Pair, both: Vectors, separation: Separation, moved: list[Subject]) -> int:
    """The first row of the window at which the stream changes from that of the reference."""
    if "texts" in moved:
        row = _after(separation.reference_scores, separation.window_scores)
        return int(both.window_rows[row])
    if "classes" in moved:
        before, after = (
            np.bincount(side.labels, minlength=len(side.classes)) / len(side)
            for side in (pair.reference, pair.window)
        )
        most = int(np.abs(after - before).argmax())
        return _after(
            (pair.reference.labels == most).astype(np.float64),
            (pair.window.labels == most).astype(np.float64),
        )
    return _after(pair.reference.confidence, pair.window.confidence)


def _after(reference: Floats, window: Floats) -> int:
    """The window's row at which the series of both changes; 0 if it changed within the reference."""
    return min(len(window) - 1, max(0, change_point(np.concatenate([reference, window])) - len(reference)))


def _explain(
    reference: ReviewRows, window: ReviewRows, both: Vectors, separation: Separation, settings: DriftSettings
) -> tuple[Attribution, Integers]:
    attribution = attribute(reference, window, both, separation, settings.seed)
    # The audit slice is asked about at random and for no other reason: it is what tells the truth.
    new_rows = attribution.new_rows[~window.audited[attribution.new_rows]]
    place = np.searchsorted(both.window_rows, new_rows)
    rows = both.window[place]
    dense = np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows, np.float32)
    to_label = choose_to_label(new_rows, window.records, dense, _TO_LABEL, settings.seed)
    return attribution, to_label


def change_point(scores: Floats) -> int:
    """The row from which on the mean is another: the greatest standardised difference of both sides' means.

    The likelihood-ratio estimate for one change of a mean, Hinkley: Inference about the change-point in a
    sequence of random variables (Biometrika 1970). Edges of 2 % are left out, where a few rows decide.

    Args:
        scores: float64 (rows), in order; at least one.

    Returns:
        A row in [0, rows).
    """
    count = len(scores)
    edge = max(1, int(count * _EDGE))
    places = np.arange(edge, count - edge + 1)
    if len(places) < 1 or count < 2 * edge + 1:
        return 0
    sums = np.concatenate([[0.0], np.cumsum(scores - scores.mean())])
    statistic = np.abs(sums[places]) / (places * (count - places)) ** 0.5
    return int(places[statistic.argmax()])
