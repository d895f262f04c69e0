"""Copies of an adapter in other labels: what it knew of the old ones is there from the beginning."""

import numpy as np
import pytest

from classifier.adapters.manifest import read_manifest
from classifier.interface import load
from classifier.settings import ClassifierSettings
from reviews.label_set import LabelChange, LabelSet
from tests.tiny import save_adapter, tiny_base, tiny_peft_model
from trainer.fitting.relabelled import named_parent, relabelled

OLD = ("bad", "fine", "good")
TEXTS = ["It broke.", "A kettle.", "I like it very much, all of it.", "aaa", "zzz zzz"]


@pytest.fixture(params=[("roberta", "first"), ("bert", "mean"), ("gpt2", "first")])
def adapter(request, tmp_path):
    """An adapter with three labels: a head of two layers, of one, and one without a bias."""
    architecture, pooling = request.param
    base = tiny_base(tmp_path / "base", architecture)
    model = tiny_peft_model(base, len(OLD), pooling=pooling)
    fields = {"task": "t", "labels": OLD, "base_model": str(base), "temperature": 1.5, "pooling": pooling}
    return base, save_adapter(model, tmp_path / "adapters", fields), architecture != "gpt2"


def _said(base, directory):
    """float (texts, labels), and the labels."""
    settings = ClassifierSettings(device="cpu", precision="fp32")
    classifier = load(str(base), directory, settings)
    found = np.array([one.probabilities for one in classifier.predict(TEXTS)])
    return dict(zip(classifier.labels, found.T, strict=True))


def _changed(*changes):
    labels = LabelSet(OLD)
    for change in changes:
        labels = labels.changed(LabelChange(*change))
    return labels


def test_a_renamed_label_is_answered_as_before_and_the_copy_names_the_adapter_as_parent(adapter, tmp_path):
    base, directory, _ = adapter
    copy = relabelled(directory, _changed(("rename", ("fine",), ("mixed",))), tmp_path / "copies")
    before, after = _said(base, directory), _said(base, copy)
    assert list(after) == ["bad", "mixed", "good"]
    assert after["mixed"] == pytest.approx(before["fine"], abs=1e-6)
    assert named_parent(read_manifest(copy)) == read_manifest(directory).version
    assert named_parent(read_manifest(directory)) == read_manifest(directory).version


def test_the_parts_of_a_split_label_share_its_probability(adapter, tmp_path):
    base, directory, has_bias = adapter
    copy = relabelled(directory, _changed(("split", ("fine",), ("mixed", "none"))), tmp_path / "copies")
    before, after = _said(base, directory), _said(base, copy)
    assert after["mixed"] == pytest.approx(after["none"], abs=1e-6)
    if has_bias:
        assert after["mixed"] + after["none"] == pytest.approx(before["fine"], abs=1e-5)
        assert after["good"] == pytest.approx(before["good"], abs=1e-5)


def test_a_merged_label_has_the_mean_of_its_parts_times_their_number(adapter, tmp_path):
    base, directory, has_bias = adapter
    copy = relabelled(directory, _changed(("merge", ("bad", "fine"), ("poor",))), tmp_path / "copies")
    before, after = _said(base, directory), _said(base, copy)
    raised = (2 if has_bias else 1) * np.sqrt(before["bad"] * before["fine"])
    assert after["poor"] / after["good"] == pytest.approx(raised / before["good"], rel=1e-4)


def test_an_added_label_begins_in_the_middle_and_leaves_the_others_as_they_were(adapter, tmp_path):
    base, directory, _ = adapter
    copy = relabelled(directory, _changed(("add", (), ("spam",))), tmp_path / "copies")
    before, after = _said(base, directory), _said(base, copy)
    assert after["bad"] / after["good"] == pytest.approx(before["bad"] / before["good"], rel=1e-4)
    others = np.stack([after[label] for label in OLD])
    assert (others.min(axis=0) < after["spam"]).all()
    assert (after["spam"] < others.max(axis=0)).all()


def test_labels_that_have_nothing_to_do_with_the_old_ones_have_no_copy(adapter, tmp_path):
    _, directory, _ = adapter
    assert relabelled(directory, LabelSet(("yes", "no")), tmp_path / "copies") is None
