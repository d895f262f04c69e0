"""What the gate's rows weigh, by the scores they were chosen by."""

from dataclasses import replace

import numpy as np
import pytest

from reviews.prediction import Prediction
from tests.unit.trainer.nightly.rows import NAMES, review
from trainer.nightly.held_out import gather, weights
from trainer.nightly.snapshot import Row, Snapshot

AUDITED = 60
SCORES = (("good", 0.8), ("bad", 0.6))
NOTHING = (None, None)
ORDERS = ((0.9, 0.1), (0.1, 0.9))
SLICES = ("audit", "test")


def row(number, score, slice_):
    predicted, margin = score
    return Row(
        review(number, predicted=predicted, margin=margin),
        slice_,
        1,
        1.0,
        is_new=True,
        duplicate_group=number,
    )


class Undecided:
    labels = NAMES

    def predict(self, texts):
        return [Prediction("t", "no", 0.5, (0.5, 0.5), 0.0, 0.69, False, "v")] * len(texts)


def test_a_labelled_row_of_the_audit_slice_is_audit_truth_only_if_the_draw_asked_about_it():
    rows = tuple(
        Row(review(number, is_drawn=is_drawn), slice_, 1, 1.0, is_new=True, duplicate_group=number)
        for number, (slice_, is_drawn) in enumerate([("audit", True), ("audit", False), ("test", False)])
    )
    evidence = gather(Snapshot(NAMES, rows, {}), None, Undecided())
    assert evidence.is_audit.tolist() == [True, False, False]


def test_rows_that_nothing_had_scored_weigh_what_their_share_of_the_audit_rows_says():
    audit = [NOTHING] * 20 + [SCORES[0]] * 20 + [SCORES[1]] * 20
    drawn = [NOTHING] * 10 + [SCORES[0]] * 80 + [SCORES[1]] * 30
    rows = [row(number, score, "audit") for number, score in enumerate(audit)]
    rows += [row(AUDITED + number, score, "test") for number, score in enumerate(drawn)]
    found = weights(rows, np.arange(len(rows)) < AUDITED)
    for kind in (NOTHING, *SCORES):
        of_kind = np.array([score == kind for score in audit + drawn])
        assert found[of_kind].sum() / len(rows) == pytest.approx(1 / 3, abs=0.015)


def test_the_order_in_which_the_scoring_adapter_lists_its_labels_says_nothing():
    rows = [row(number, SCORES[number % 3 % 2], SLICES[number % 2]) for number in range(150)]
    is_audit = np.array([one.slice == "audit" for one in rows])
    turned = [
        replace(one, review=one.review._replace(probabilities=ORDERS[number % 5 % 2]))
        for number, one in enumerate(rows)
    ]
    assert weights(turned, is_audit) == pytest.approx(weights(rows, is_audit))


def test_rows_of_which_none_was_scored_count_once():
    rows = [row(number, NOTHING, "audit") for number in range(AUDITED)]
    assert weights(rows, np.ones(AUDITED, bool)) is None
