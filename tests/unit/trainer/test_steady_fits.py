"""Fits on few rows take enough steps, and keep no epoch that is the best by chance."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from classifier.base_model import locate, quiet_transformers
from classifier.engine.general import Padding
from classifier.model import load_base
from classifier.settings import ClassifierSettings
from classifier.tokenise import load_tokeniser
from tests.tiny import tiny_base
from trainer.data.dataset import Dataset
from trainer.fitting.fit import fit
from trainer.fitting.fit_data import FitRequest, Position, Splits
from trainer.fitting.loop import FittingLoop, Rows, standard_error
from trainer.fitting.recipe import adapt
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
