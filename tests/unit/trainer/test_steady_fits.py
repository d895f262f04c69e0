"""Fits on few rows take enough steps, and keep no epoch that is the best by chance."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from classifier.base_model import locate, quiet_transformers
from classifier.calibration import softmax
from classifier.engine.general import Padding
from classifier.model import load_base
from classifier.settings import ClassifierSettings
from classifier.tokenise import load_tokeniser
from tests.tiny import tiny_base
from trainer.data.dataset import Dataset
from trainer.fitting import recipe
from trainer.fitting.features import FrozenFeatures
from trainer.fitting.fit import fit
from trainer.fitting.fit_data import FitRequest, Position, Splits
from trainer.fitting.head import STRENGTHS
from trainer.fitting.head_start import fitted_head
from trainer.fitting.loop import FittingLoop, Rows, standard_error
from trainer.fitting.recipe import adapt, in_shape
from trainer.settings import TrainerSettings

LABELS = ("no", "yes")


def _texts(count: int, seed: int) -> Dataset:
    random = np.random.default_rng(seed)
    labels = tuple(int(label) for label in random.integers(0, 2, count))
    texts = tuple("ab"[label] * 3 + "".join(random.choice(list("xyz"), 5)) for label in labels)
    return Dataset(texts, labels, LABELS, f"{seed:064}")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def run(base) -> FitRequest:
    classifier = ClassifierSettings(base_model=str(base), device="cpu", precision="fp32", task="letters")
    settings = TrainerSettings(
        epochs=2,
        learning_rate=1e-2,
        save_precision="fp32",
        checkpoint_steps=3,
        least_steps=0,
    )
    return FitRequest(Splits(_texts(64, 0), _texts(16, 1)), classifier, settings)


def _loop(base, settings: TrainerSettings) -> tuple[FittingLoop, torch.nn.Module, list[Rows]]:
    torch.manual_seed(0)
    found = locate(str(base))
    with quiet_transformers():
        model = adapt(load_base(found, 2), settings)
    tokeniser = load_tokeniser(found, 32)
    rows = [
        Rows(tokeniser.encode(split.texts), np.array(split.labels, np.int64))
        for split in (_texts(64, 0), _texts(16, 1))
    ]
    return FittingLoop(model, settings, Padding(model.config)), model, rows


def test_a_resumed_fit_of_few_rows_ends_as_one_that_was_not_interrupted(run, tmp_path):
    few = replace(run, settings=run.settings.model_copy(update={"least_steps": 10}))
    whole = fit(few, lambda _: None)
    assert whole.position.steps == 12

    class Killed(Exception):
        pass

    def kill(step) -> None:
        if step.step == 10:
            raise Killed

    with pytest.raises(Killed):
        fit(few, kill, tmp_path / "checkpoint")
    assert fit(few, lambda _: None, tmp_path / "checkpoint").files == whole.files


def test_a_fresh_fit_that_reads_the_mean_begins_with_the_head_of_the_base_whatever_its_seed(base, run):
    still = {"pooling": "mean", "learning_rate": 1e-9, "epochs": 1}
    head = fitted_head(run, locate(str(base)))
    texts = run.splits.validation.texts
    expected = head.logits(FrozenFeatures(locate(str(base)), run.classifier, 256)(texts))
    for seed in (0, 1):
        settings = run.settings.model_copy(update={**still, "seed": seed})
        said = fit(replace(run, settings=settings), lambda _: None).measured
        np.testing.assert_allclose(
            said.predictions["validation"].probabilities, softmax(expected, said.temperature), atol=1e-3
        )


def test_the_first_head_is_chosen_by_folds_that_divide_no_near_duplicates(base, run):
    texts, random = _texts(40, 0).texts, np.random.default_rng(5)
    labels = tuple(random.integers(0, 2, 40).tolist())  # they mean nothing, but each is there twice
    train = Dataset(texts + texts, labels + labels, LABELS, "0" * 64)
    head = fitted_head(replace(run, splits=replace(run.splits, train=train)), locate(str(base)))
    assert head.strength == STRENGTHS[0]


def test_unset_the_head_reads_the_mean_of_few_rows_where_the_base_embeds_sentences_by_it(
    run, base, tmp_path, monkeypatch
):
    sentences = tmp_path / "sentences"
    shutil.copytree(base, sentences)
    (sentences / "1_Pooling").mkdir()
    (sentences / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    found = locate(str(sentences))
    assert in_shape(run, locate(str(base))).settings.pooling == "first"
    assert in_shape(run, found).settings.pooling == "mean"
    with monkeypatch.context() as patched:
        patched.setattr(recipe, "MANY_ROWS", len(run.splits.train))
        assert in_shape(run, found).settings.pooling == "first"
    full = replace(run, settings=run.settings.model_copy(update={"peft_method": "none"}))
    assert in_shape(full, found).settings.pooling == "first", (
        "a full model is written as its architecture has it"
    )
    chosen = replace(run, settings=run.settings.model_copy(update={"pooling": "first"}))
    assert in_shape(chosen, found).settings.pooling == "first"
    (sentences / "1_Pooling" / "config.json").write_text("[")
    assert not found.embeds_by_mean


def test_few_rows_are_passed_over_until_there_are_enough_steps():
    settings = TrainerSettings(epochs=3, least_steps=100)
    assert [settings.epochs_for(steps) for steps in (1, 6, 33, 34, 278)] == [100, 17, 4, 3, 3]
    assert TrainerSettings(epochs=2, least_steps=0).epochs_for(1) == 2


def test_the_last_epoch_is_kept_unless_it_is_clearly_worse_than_the_best(base, run, monkeypatch):
    settings = run.settings.model_copy(update={"epochs": 4})
    loop, model, rows = _loop(base, settings)
    scores = iter([0.5, 0.8, 0.8 - 0.9 * standard_error(0.8, 16), 0.8 - 1.1 * standard_error(0.8, 16)])
    monkeypatch.setattr("trainer.fitting.loop.evaluate", lambda *_: {"macro_f1": next(scores)})
    after: list[torch.Tensor] = []
    head = next(
        value for name, value in model.named_parameters() if "classifier" in name and value.requires_grad
    )
    position = loop.run(*rows, lambda step: after.append(head.detach().clone()) if step.validation else None)
    assert (position.best_epoch, position.kept_epoch) == (2, 3)
    assert isinstance(position, Position)
    assert len(after) == 4
