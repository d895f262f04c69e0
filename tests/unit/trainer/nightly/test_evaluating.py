"""What the gate's rows weigh, by the scores they were chosen by."""

import numpy as np
import pytest

from tests.unit.trainer.nightly.rows import review
from trainer.nightly.evaluating import weights
from trainer.nightly.snapshot import Row

AUDITED = 60
SCORES = ((0.9, 0.1), (0.2, 0.8))


def row(number, score, slice_):
    margin = None if score is None else abs(score[0] - score[1])
    return Row(review(number, probabilities=score, margin=margin), slice_, 1, 1.0, is_new=True)


def test_rows_that_nothing_had_scored_weigh_what_their_share_of_the_audit_rows_says():
    audit = [None] * 20 + [SCORES[0]] * 20 + [SCORES[1]] * 20
    drawn = [None] * 10 + [SCORES[0]] * 80 + [SCORES[1]] * 30
    rows = [row(number, score, "audit") for number, score in enumerate(audit)]
    rows += [row(AUDITED + number, score, "test") for number, score in enumerate(drawn)]
    found = weights(rows, np.arange(len(rows)) < AUDITED)
    for kind in (None, *SCORES):
        of_kind = np.array([score == kind for score in audit + drawn])
        assert found[of_kind].sum() / len(rows) == pytest.approx(1 / 3)


def test_rows_of_which_none_was_scored_count_once():
    rows = [row(number, None, "audit") for number in range(AUDITED)]
    assert weights(rows, np.ones(AUDITED, bool)) is None
