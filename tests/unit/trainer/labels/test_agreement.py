"""Krippendorff's alpha against the examples of his paper, and what holds of it whatever people answer."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reviews.label import Label
from trainer.labels.agreement import MISSING, answer_matrix, compare_annotators, krippendorff_alpha

AT = datetime(2026, 3, 1, tzinfo=UTC)


def _matrix(*annotators: str) -> np.ndarray:
    """One text per annotator, one character per unit; a dot is missing."""
    names = sorted(set("".join(annotators)) - {"."})
    columns = [[names.index(name) if name != "." else MISSING for name in row] for row in annotators]
    return np.array(columns, np.int64).T


@pytest.mark.parametrize(
    ("annotators", "alpha"),
    [
        # Section A: binary, two observers.
        (("0100000010", "1110010000"), 0.095),
        # Section B: nominal, two observers.
        (("aabbdcccedda", "babbbccceddd"), 0.692),
        # Section C: nominal, any number of observers, missing answers.
        (("123321412...", "1233224125.3", ".3332342251.", "12332441251."), 0.743),
    ],
)
def test_the_examples_of_the_paper_come_out(annotators: tuple[str, ...], alpha: float):
    found = krippendorff_alpha(_matrix(*annotators))
    assert found.value == pytest.approx(alpha, abs=0.0005)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high


def test_records_with_one_answer_do_not_count():
    assert krippendorff_alpha(_matrix("ab.", "ab.", "..b"))[3:] == (2, 4)
    assert krippendorff_alpha(_matrix("abc", "...")) == (None, None, None, 0, 0)
    assert krippendorff_alpha(np.zeros((0, 0), np.int64)).value is None


def test_nothing_can_be_said_where_everybody_always_says_the_same():
    assert krippendorff_alpha(_matrix("aaaa", "aaaa")).value is None


_ANSWERS = arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(2, 4)), elements=st.integers(-1, 3))


@settings(max_examples=60, deadline=None)
@given(_ANSWERS, st.randoms(use_true_random=False))
def test_alpha_knows_neither_the_names_of_labels_nor_the_order_of_annotators_and_records(answers, random):
    value = krippendorff_alpha(answers).value
    assume(value is not None)
    assert -1 <= value <= 1 + 1e-12
    names = np.array(random.sample(range(4), 4))
    renamed = np.where(answers == MISSING, MISSING, names[answers])
    rows, columns = (random.sample(range(size), size) for size in answers.shape)
    shuffled = renamed[rows][:, columns]
    assert krippendorff_alpha(shuffled).value == pytest.approx(value)
    nobody = np.full((len(answers), 1), MISSING)
    assert krippendorff_alpha(np.hstack([answers, nobody])).value == pytest.approx(value)


@settings(max_examples=60, deadline=None)
@given(_ANSWERS)
def test_alpha_is_what_its_definition_by_pairs_says(answers):
    """The coincidence matrix, pair by pair, as the paper builds it."""
    coincidences = np.zeros((4, 4))
    for row in answers:
        said = row[row != MISSING]
        for first in range(len(said)):
            for second in range(len(said)):
                if first != second:
                    coincidences[said[first], said[second]] += 1 / (len(said) - 1)
    totals = coincidences.sum(axis=1)
    number = totals.sum()
    expected = number**2 - (totals**2).sum()
    found = krippendorff_alpha(answers)
    if expected < 1e-9:
        assert found.value is None
    else:
        unlike = number - np.trace(coincidences)
        assert found.value == pytest.approx(1 - (number - 1) * unlike / expected)
        assert found.answers == pytest.approx(number)


def test_guessing_annotators_agree_as_if_by_chance_and_the_interval_says_so():
    answers = np.random.default_rng(3).integers(0, 3, (400, 3))
    alpha = krippendorff_alpha(answers)
    assert alpha.low is not None
    assert alpha.high is not None
    assert alpha.low < 0 < alpha.high
    assert alpha.high - alpha.low < 0.15


def _label(record: int, annotator: str, label: str | None) -> Label:
    return Label(record, "sentiment", label, annotator, "test", AT)


def test_each_annotator_is_compared_with_what_the_others_agree_on():
    answers = [
        _label(1, "ann", "a"), _label(1, "bea", "a"), _label(1, "cem", "b"),
        _label(2, "ann", "a"), _label(2, "bea", "b"), _label(2, "cem", None),
        _label(3, "ann", "a"),
    ]  # fmt: skip
    matrix = answer_matrix(answers)
    assert matrix.records == (1, 2, 3)
    assert matrix.labels == ("a", "b")
    assert matrix.answers.tolist() == [[0, 0, 1], [0, 1, MISSING], [0, MISSING, MISSING]]
    assert compare_annotators(matrix) == [
        # The others of ann are tied on record 1.
        ("ann", 3, 0, 1, 0),
        ("bea", 2, 0, 1, 0),
        ("cem", 1, 1, 1, 0),
    ]
    assert compare_annotators(answer_matrix([_label(1, "ann", None)])) == [("ann", 0, 1, 0, 0)]
    assert compare_annotators(answer_matrix([])) == []
