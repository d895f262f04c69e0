"""Two adapters with other labels, on the held-out rows whose truth both know."""

import numpy as np
import pytest

from reviews.label_set import LabelChange, LabelSet
from reviews.prediction import Prediction
from tests.unit.trainer.nightly.rows import review
from trainer.nightly.held_out import about_common, gather, on_common_labels
from trainer.nightly.snapshot import Row, Snapshot

OLD = ("bad", "so-so", "good")


class Says:
    """Says the same of every text."""

    def __init__(self, labels, probabilities):
        self.labels = labels
        self._said = Prediction("t", labels[0], 0.5, probabilities, 0.0, 0.69, False, "v")

    def predict(self, texts):
        return [self._said] * len(texts)


def _snapshot(names):
    rows = tuple(
        Row(review(number), "test", number % len(names), 1.0, is_new=True, duplicate_group=number)
        for number in range(2 * len(names))
    )
    return Snapshot(names, rows, {})


def _common(names, change, of_candidate):
    label_set = LabelSet(OLD, first=OLD).changed(change)
    assert label_set.labels == names
    snapshot, old = _snapshot(names), Says(OLD, (0.2, 0.3, 0.5))
    evidence = gather(snapshot, old, Says(names, of_candidate))
    assert evidence.active is None, "it has other labels"
    return on_common_labels(snapshot, evidence, old, label_set)


def test_of_a_split_label_the_parts_are_one_class_and_their_probabilities_are_added():
    split = LabelChange("split", ("so-so",), ("mixed", "none"))
    found = _common(("bad", "mixed", "none", "good"), split, (0.1, 0.2, 0.3, 0.4))
    assert found.labels == ("bad", "mixed or none", "good")
    assert found.truth.tolist() == [0, 1, 1, 2] * 2
    np.testing.assert_allclose(found.active[0], [0.2, 0.3, 0.5])
    np.testing.assert_allclose(found.candidate[0], [0.1, 0.5, 0.4])


def test_of_a_merge_the_old_labels_are_one_class():
    merge = LabelChange("merge", ("bad", "so-so"), ("not good",))
    found = _common(("not good", "good"), merge, (0.9, 0.1))
    assert found.labels == ("not good", "good")
    np.testing.assert_allclose(found.active[0], [0.5, 0.5])
    np.testing.assert_allclose(found.candidate[0], [0.9, 0.1])


def test_rows_of_an_added_label_are_left_out_and_counted_and_to_say_it_elsewhere_is_wrong():
    added = LabelChange("add", (), ("spam",))
    found = _common((*OLD, "spam"), added, (0.1, 0.1, 0.1, 0.7))
    assert (len(found.truth), found.left_out) == (6, 2)
    assert 3 not in found.truth.tolist()
    np.testing.assert_allclose(found.candidate.sum(axis=1), 1)
    assert found.candidate.argmax(axis=1).tolist() == [3] * 6
    assert about_common(found)["candidate"]["accuracy"] == 0


@pytest.mark.parametrize("names", [("x", "y"), ("bad", "y")])
def test_where_both_have_no_two_classes_in_common_there_is_nothing_to_compare(names):
    snapshot, old = _snapshot(names), Says(OLD, (0.2, 0.3, 0.5))
    evidence = gather(snapshot, old, Says(names, (0.5, 0.5)))
    assert on_common_labels(snapshot, evidence, old, None) is None


def test_with_the_same_labels_in_another_order_both_are_in_the_evidence_itself():
    names = ("good", "so-so", "bad")
    snapshot, old = _snapshot(names), Says(OLD, (0.2, 0.3, 0.5))
    evidence = gather(snapshot, old, Says(names, (0.5, 0.3, 0.2)))
    np.testing.assert_allclose(evidence.active[0], [0.5, 0.3, 0.2])
    assert on_common_labels(snapshot, evidence, old, None) is None
