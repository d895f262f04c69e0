"""Rows that weigh more pull more, and an adapter goes on from another one where that one stopped."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from classifier.adapters.manifest import CONFIG
from classifier.base_model import locate
from classifier.interface import load
from classifier.model import load_base
from classifier.settings import ClassifierSettings
from reviews.errors import AdapterError, WrongUse
from tests.tiny import tiny_adapter, tiny_base
from trainer.data.dataset import Dataset
from trainer.fitting.fit import fit, train
from trainer.fitting.fit_data import FitRequest, Splits, fingerprint
from trainer.fitting.recipe import _shape, adapt, in_shape
from trainer.settings import TrainerSettings

LABELS = ("no", "yes")
_LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}


def _rows(count: int, seed: int) -> Dataset:
    random = np.random.default_rng(seed)
    labels = tuple(int(label) for label in random.integers(0, 2, count))
    texts = tuple("ab"[label] * 3 + "".join(random.choice(list("xyz"), 5)) for label in labels)
    return Dataset(texts, labels, LABELS, f"{seed:064}")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def parent(base, tmp_path_factory):
    return tiny_adapter(base, tmp_path_factory.mktemp("parent"), labels=LABELS, task="letters")


@pytest.fixture(scope="module")
def run(base, parent) -> FitRequest:
    classifier = ClassifierSettings(base_model=str(base), device="cpu", precision="fp32", task="letters")
    settings = TrainerSettings(
        epochs=1, least_steps=0, learning_rate=1e-7, save_precision="fp32", checkpoint_steps=2
    )
    return FitRequest(Splits(_rows(64, 0), _rows(16, 1)), classifier, settings, continues_from=parent)


def test_an_adapter_that_hardly_learns_answers_as_the_one_it_goes_on_from(run, parent, tmp_path):
    trained = train(run, tmp_path, lambda _: None)
    texts = ["aaaxyz", "bbbzyx", "something else"]
    before = load(run.classifier.base_model, parent, run.classifier)
    after = load(run.classifier.base_model, trained.directory, run.classifier)
    np.testing.assert_allclose(
        after.logits(after.encode(texts)), before.logits(before.encode(texts)), atol=1e-3
    )
    assert trained.manifest.parent == before.adapter_version
    assert trained.manifest.training["recipe"]["lora_r"] == 4, "the shape is that of the parent"
    fresh = train(replace(run, continues_from=None), tmp_path, lambda _: None)
    assert fresh.manifest.parent is None


def test_what_is_fitted_of_a_parent_is_in_fp32_with_the_dropout_of_the_recipe(run, parent, base):
    settings = run.settings.model_copy(update={"lora_dropout": 0.25})
    model = adapt(load_base(locate(str(base)), 2), settings, parent)
    fitted = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert {value.dtype for value in fitted.values()} == {torch.float32}
    assert any("classifier" in name for name in fitted)
    assert any("lora_A" in name for name in fitted)
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout) and m.p} >= {0.25}


def test_a_run_that_goes_on_is_the_same_each_time_and_continues_from_its_checkpoint(run, tmp_path):
    learning = replace(run, settings=run.settings.model_copy(update={"learning_rate": 1e-2, "epochs": 2}))
    whole = fit(learning, lambda _: None)

    class Killed(Exception):
        pass

    def kill(step):
        if step.step == 5:
            raise Killed

    with pytest.raises(Killed):
        fit(learning, kill, tmp_path / "checkpoint")
    assert fit(learning, lambda _: None, tmp_path / "checkpoint").files == whole.files
    with pytest.raises(WrongUse, match="belongs to a run"):
        fit(replace(learning, continues_from=None), lambda _: None, tmp_path / "checkpoint")


def test_other_classes_another_base_or_full_fine_tuning_do_not_go_on_from_an_adapter(run, tmp_path):
    other = tiny_base(tmp_path / "other", seed=5)
    foreign = tiny_adapter(other, tmp_path, labels=LABELS, task="letters")
    with pytest.raises(AdapterError, match="whose weights differ"):
        in_shape(replace(run, continues_from=foreign), locate(run.classifier.base_model))
    three = tiny_adapter(tmp_path / "other", tmp_path)
    with pytest.raises(WrongUse, match="has the classes negative, neutral, positive, the training rows no"):
        in_shape(replace(run, continues_from=three), locate(str(other)))
    full = replace(run, settings=run.settings.model_copy(update={"peft_method": "none"}))
    with pytest.raises(WrongUse, match="Full fine-tuning"):
        in_shape(full, locate(run.classifier.base_model))


@pytest.mark.parametrize(
    ("config", "asked", "shape"),
    [
        (_LORA | {"target_modules": ["q"], "modules_to_save": ["pooler"]}, "ia3",
         {"peft_method": "lora", "lora_r": 2, "lora_alpha": 4.0, "train_pooler": True}),
        (_LORA | {"target_modules": "q"},
         "lora+", {"peft_method": "lora+", "target_modules": ("q",), "train_pooler": False}),
        (_LORA | {"use_dora": True}, "lora", {"peft_method": "dora"}),
        (_LORA | {"use_rslora": True}, "lora", {"peft_method": "rslora"}),
        ({"peft_type": "IA3", "target_modules": ["key"]}, "lora", {"peft_method": "ia3"}),
    ],
)  # fmt: skip
def test_a_recipe_takes_the_shape_that_peft_wrote(config, asked, shape, tmp_path):
    (tmp_path / CONFIG).write_text(json.dumps(config))
    found = TrainerSettings().model_copy(update=_shape(tmp_path, TrainerSettings(peft_method=asked)))
    assert {name: getattr(found, name) for name in shape} == shape


def test_heavier_rows_decide_where_rows_contradict_each_other(run, base):
    texts = ("aaaxyz",) * 40
    labels = (0,) * 25 + (1,) * 15  # most say no, those that weigh more say yes
    weights = (1.0,) * 25 + (5.0,) * 15
    settings = TrainerSettings(epochs=4, least_steps=0, learning_rate=1e-2)

    def answer(weights):
        rows = Dataset(texts, labels, LABELS, "0" * 64, weights)
        outcome = fit(
            FitRequest(Splits(rows, _rows(16, 1)), run.classifier, settings), lambda _: None
        )  # fmt: skip
        return outcome.measured.predictions["validation"], outcome

    plain, heavy = answer(None)[1], answer(weights)[1]
    assert plain.fingerprint != heavy.fingerprint
    assert plain.files != heavy.files
    for outcome, wanted in ((plain, 0), (heavy, 1)):
        assert _said(outcome, run, "aaaxyz") == wanted


def _said(outcome, run, text) -> int:
    import tempfile
    from pathlib import Path

    from classifier.adapters.store import write_files

    with tempfile.TemporaryDirectory() as scratch:
        directory = write_files(outcome.files, Path(scratch), "letters")
        classifier = load(run.classifier.base_model, directory, run.classifier)
        return int(classifier.logits(classifier.encode([text]))[0].argmax())


def test_a_recipe_is_the_same_whatever_the_sections_around_it_say(run, base):
    settings = TrainerSettings()
    assert "lora_r" in settings.recipe()
    assert all(not isinstance(value, dict) for value in settings.recipe().values())
    plain = replace(run, continues_from=None)
    names = {fingerprint(plain, locate(str(base)), "float32"), fingerprint(run, locate(str(base)), "float32")}
    assert len(names) == 2
