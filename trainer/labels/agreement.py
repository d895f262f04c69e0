"""Krippendorff's alpha: how much annotators agree beyond chance."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reviews.label import Label

MISSING = -1

_RESAMPLES = 1_000


@dataclass(frozen=True, slots=True)
class AnswerMatrix:
    """Who said what about which record.

    Attributes:
        records: The records, ascending.
        annotators: Their names, in order of the alphabet.
        labels: The names of the labels that were given, in order of the alphabet.
        answers: int64 (records, annotators), numbers of labels; -1 where there is no answer or it was unsure.
        unsure: How often each annotator was unsure.
    """

    records: tuple[int, ...]
    annotators: tuple[str, ...]
    labels: tuple[str, ...]
    answers: npt.NDArray[np.int64]
    unsure: tuple[int, ...]


class Alpha(NamedTuple):
    """Krippendorff's alpha of some answers.

    Attributes:
        value: 1: complete agreement, 0: as if by chance, below 0: systematic disagreement. None where nothing
            can be said: no record with two answers, or only one label was ever given.
        low: Lower end of the 95 % interval; None as above.
        high: Upper end of it; None as above.
        records: How many records have two answers at least, and so count.
        answers: How many answers those have.
    """

    value: float | None
    low: float | None
    high: float | None
    records: int
    answers: int


class AnnotatorAgreement(NamedTuple):
    """How one annotator compares with the others.

    Attributes:
        annotator: The name.
        answers: How many labels they gave.
        unsure: How often they could not tell.
        compared: How many of their labels are about records on which the others agree on a label.
        agreeing: How many of those are that label.
    """

    annotator: str
    answers: int
    unsure: int
    compared: int
    agreeing: int


def answer_matrix(answers: Sequence[Label]) -> AnswerMatrix:
    """A matrix of the answers that count."""
    records = sorted({answer.record for answer in answers})
    annotators = sorted({answer.annotator for answer in answers})
    labels = sorted({answer.label for answer in answers if answer.label is not None})
    row = {record: number for number, record in enumerate(records)}
    column = {name: number for number, name in enumerate(annotators)}
    number_of = {name: number for number, name in enumerate(labels)}
    matrix = np.full((len(records), len(annotators)), MISSING, np.int64)
    for answer in answers:
        if answer.label is not None:
            matrix[row[answer.record], column[answer.annotator]] = number_of[answer.label]
    unsure = Counter(answer.annotator for answer in answers if answer.label is None)
    return AnswerMatrix(
        tuple(records), tuple(annotators), tuple(labels), matrix, tuple(unsure[name] for name in annotators)
    )


def krippendorff_alpha(answers: npt.NDArray[np.int64], seed: int = 0) -> Alpha:
    """Alpha for names without an order, with missing answers, and its bootstrap interval over records.

    Krippendorff: Computing Krippendorff's Alpha-Reliability (2011), section C. The interval is the percentile
    bootstrap over units (Efron, Tibshirani 1993, chapter 13), without the resamples of one label alone.

    Args:
        answers: int64 (records, annotators), numbers of labels; -1 is missing.
        seed: Of the resampling.
    """
    counts = _counts(answers)
    counts = counts[counts.sum(axis=1) >= 2]
    if len(counts) == 0:
        return Alpha(None, None, None, 0, 0)
    total = int(counts.sum())
    disagreement = _disagreement(counts)
    value = _alpha(disagreement.sum(keepdims=True), counts.sum(axis=0, keepdims=True))[0]
    if np.isnan(value):
        return Alpha(None, None, None, len(counts), total)
    drawn = np.random.default_rng(seed).multinomial(
        len(counts), np.full(len(counts), 1 / len(counts)), _RESAMPLES
    )  # (resamples, records): how often each was drawn
    samples = _alpha(drawn @ disagreement, drawn @ counts)
    low, high = np.nanpercentile(samples, (2.5, 97.5))
    return Alpha(float(value), float(low), float(high), len(counts), total)


def _counts(answers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many annotators gave each label: int64 (records, labels)."""
    labels = int(answers.max(initial=MISSING)) + 1
    counts = np.zeros((len(answers), labels), np.int64)
    rows, columns = np.nonzero(answers != MISSING)
    np.add.at(counts, (rows, answers[rows, columns]), 1)
    return counts


def _disagreement(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Each record's part of the coincidences off the diagonal: float64 (records)."""
    given = counts.sum(axis=1)
    unlike: npt.NDArray[np.float64] = (given**2 - (counts**2).sum(axis=1)) / (given - 1)
    return unlike


def _alpha(observed: npt.NDArray[np.float64], totals: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Alpha of several samples at once; NaN where only one label was ever given.

    Args:
        observed: float64 (samples), coincidences off the diagonal.
        totals: int64 (samples, labels), how often each label was given.
    """
    answers = totals.sum(axis=1)
    expected = (answers**2 - (totals**2).sum(axis=1)).astype(np.float64)
    ratio = np.divide(
        (answers - 1) * observed, expected, out=np.full(len(expected), np.nan), where=expected > 0
    )
    alpha: npt.NDArray[np.float64] = 1 - ratio
    return alpha


def compare_annotators(matrix: AnswerMatrix) -> list[AnnotatorAgreement]:
    """Each annotator beside the plurality of the others; ties of the others are not compared."""
    counts = _counts(matrix.answers)
    found = []
    for number, name in enumerate(matrix.annotators):
        rows = np.flatnonzero(matrix.answers[:, number] != MISSING)
        own = matrix.answers[rows, number]
        others = counts[rows].copy()
        others[np.arange(len(rows)), own] -= 1
        agreed, label = _plurality(others)
        found.append(
            AnnotatorAgreement(
                name,
                len(rows),
                matrix.unsure[number],
                int(agreed.sum()),
                int((agreed & (label == own)).sum()),
            )
        )
    return found


def _plurality(counts: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Whether one label has the most votes, and which: (records), (records)."""
    if counts.shape[1] == 0:
        return np.zeros(len(counts), np.bool_), np.zeros(len(counts), np.int64)
    most = counts.max(axis=1)
    is_clear = (most > 0) & ((counts == most[:, None]).sum(axis=1) == 1)
    return is_clear, counts.argmax(axis=1)
