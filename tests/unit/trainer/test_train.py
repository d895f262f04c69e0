from itertools import pairwise

import numpy as np
import pytest

from classifier.interface import load
from classifier.settings import ClassifierSettings
from reviews.errors import WrongUse
from tests.tiny import tiny_base
from trainer.data.dataset import Dataset
from trainer.fitting.fit import train
from trainer.fitting.fit_data import FitRequest, Splits
from trainer.fitting.loop import rate_at
from trainer.settings import TrainerSettings


def _rows(count: int, seed: int) -> Dataset:
    """Texts that only their first letter tells apart."""
    random = np.random.default_rng(seed)
    labels = tuple(int(label) for label in random.integers(0, 2, count))
    texts = tuple("ab"[label] * 3 + "".join(random.choice(list("xyz"), 5)) for label in labels)
    return Dataset(texts, labels, ("a-like", "b-like"), "0" * 64)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> FitRequest:
    base = tiny_base(tmp_path_factory.mktemp("base"))
    classifier = ClassifierSettings(base_model=str(base), device="cpu", precision="fp32", task="letters")
    settings = TrainerSettings(epochs=4, least_steps=0, learning_rate=1e-2, lora_r=4)
    return FitRequest(Splits(_rows(200, 0), _rows(60, 1), _rows(60, 2)), classifier, settings)


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory):
    steps = []
    return train(run, tmp_path_factory.mktemp("out"), steps.append), steps


def test_an_adapter_learns_what_tells_the_classes_apart(trained):
    assert trained[0].manifest.metrics["test_accuracy"] > 0.95


def test_progress_counts_every_step_and_tells_validation_after_each_epoch(trained):
    steps = trained[1]
    assert [step.step for step in steps] == list(range(1, steps[-1].steps + 1))
    assert [step.epoch for step in steps if step.validation] == [1, 2, 3, 4]


def test_the_same_seed_gives_the_same_adapter_and_another_seed_another(run, trained, tmp_path):
    again = train(run, tmp_path, lambda _: None)
    assert again.manifest.version == trained[0].manifest.version
    other = FitRequest(run.splits, run.classifier, run.settings.model_copy(update={"seed": 1}))
    assert train(other, tmp_path, lambda _: None).manifest.version != again.manifest.version


def test_the_saved_adapter_answers_its_probes_as_it_says(run, trained):
    manifest = trained[0].manifest
    classifier = load(run.classifier.base_model, trained[0].directory, run.classifier)
    said = classifier.predict([probe.text for probe in manifest.probes])
    for probe, one in zip(manifest.probes, said, strict=True):
        np.testing.assert_allclose(one.probabilities, probe.probabilities, atol=1e-5)


def test_the_card_names_the_version_and_what_was_measured(trained):
    card = (trained[0].directory / "README.md").read_text()
    assert trained[0].manifest.version in card
    assert "test_macro_f1" in card


def test_a_layer_that_is_not_there_is_refused_with_the_valid_names(run, tmp_path):
    settings = run.settings.model_copy(update={"target_modules": ("q_proj",)})
    with pytest.raises(WrongUse, match=r"no layer named q_proj; it has dense, key, query, value"):
        train(FitRequest(run.splits, run.classifier, settings), tmp_path, lambda _: None)


def test_splits_with_other_classes_are_refused(run, tmp_path):
    other = Dataset(("a", "b"), (0, 1), ("x", "y"), "0" * 64)
    with pytest.raises(WrongUse, match="validation rows have the classes x, y"):
        train(
            FitRequest(Splits(run.splits.train, other), run.classifier, run.settings),
            tmp_path,
            lambda _: None,
        )


def test_the_rate_rises_to_its_peak_and_falls_towards_zero():
    settings = TrainerSettings(learning_rate=1.0, warmup_fraction=0.1)
    rates = [rate_at(step, 100, settings) for step in range(100)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert rates[10] == 1.0
    assert all(later < earlier for earlier, later in pairwise(rates[10:]))
    assert 0 < rates[-1] < 0.02
