import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from classifier.base_model import locate, quiet_transformers
from classifier.interface import load
from classifier.model import load_base
from classifier.settings import ClassifierSettings
from classifier.tokenise import load_tokeniser
from reviews.errors import WrongUse
from tests.tiny import tiny_base
from trainer.data.dataset import Dataset
from trainer.fitting.fit import fit, train
from trainer.fitting.fit_data import FitRequest, Splits
from trainer.fitting.loop import class_weights, optimiser, set_rate, summed_loss
from trainer.fitting.outputs import Places
from trainer.fitting.recipe import adapt, peft_file, read_peft_file, target_modules
from trainer.fitting.run_directory import DirectoryRequest, run_in_directory
from trainer.settings import TrainerSettings

_NAMES = ("a-like", "b-like")


def _rows(count: int, seed: int) -> Dataset:
    random = np.random.default_rng(seed)
    labels = tuple(int(label) for label in random.integers(0, 2, count))
    texts = tuple("ab"[label] * 3 + "".join(random.choice(list("xyz"), 5)) for label in labels)
    return Dataset(texts, labels, _NAMES, "0" * 64)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def run(base):
    classifier = ClassifierSettings(base_model=str(base), device="cpu", precision="fp32", task="letters")
    settings = TrainerSettings(epochs=2, least_steps=0, learning_rate=1e-2)
    return FitRequest(Splits(_rows(120, 0), _rows(40, 1), _rows(40, 2)), classifier, settings)


def _with(run, **recipe):
    return FitRequest(run.splits, run.classifier, run.settings.model_copy(update=recipe))


@pytest.mark.parametrize(
    "recipe",
    [
        {"peft_method": "lora", "lora_dropout": 0.1, "base_dropout": True},
        {"peft_method": "rslora"},
        {"peft_method": "dora"},
        {"peft_method": "lora+", "learning_rate": 3e-3},
        {"peft_method": "none", "learning_rate": 3e-3},
        {"gradient_checkpointing": True, "accumulation_steps": 2, "batch_size": 8},
        {"class_weights": "balanced", "label_smoothing": 0.05},
    ],
    ids=lambda recipe: "-".join(map(str, recipe.values())),
)
def test_every_method_learns_what_tells_the_classes_apart(run, recipe):
    outcome = fit(_with(run, **recipe), lambda _: None)
    assert outcome.measured.metrics["test_accuracy"] > 0.9
    assert (outcome.manifest is None) == (recipe.get("peft_method") == "none")


def test_the_uppermost_layers_alone_are_adapted_and_continued_from(run, tmp_path):
    made = train(_with(run, adapted_layers=1), tmp_path, lambda _: None)
    config = json.loads((made.directory / "adapter_config.json").read_text())
    assert config["layers_to_transform"] == [1]
    tensors = safetensors.torch.load_file(made.directory / "adapter_model.safetensors")
    assert any(".layer.1." in name for name in tensors)
    assert not any(".layer.0." in name for name in tensors)
    assert made.manifest.metrics["test_accuracy"] > 0.9

    further = replace(run, continues_from=made.directory)
    again = train(further, tmp_path, lambda _: None)
    assert again.manifest.training["recipe"]["adapted_layers"] == 1
    assert safetensors.torch.load_file(again.directory / "adapter_model.safetensors").keys() == tensors.keys()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"adapted_layers": 3}, "roberta has 2 numbered layers; adapted_layers asks for 3"),
        ({"adapted_layers": 1, "peft_method": "ia3"}, "adapted_layers needs a kind of LoRA; ia3"),
        ({"adapted_layers": 1, "peft_method": "none"}, "adapted_layers needs a kind of LoRA; none"),
    ],
)
def test_layers_that_cannot_be_adapted_alone_are_refused(run, recipe, message):
    with pytest.raises(WrongUse, match=message):
        fit(_with(run, **recipe), lambda _: None)


def test_ia3_learns_where_the_head_is_one_layer_and_is_refused_elsewhere(run, tmp_path):
    with pytest.raises(WrongUse, match="IA³ needs a head of one layer; roberta's classifier has several"):
        fit(_with(run, peft_method="ia3"), lambda _: None)
    bert = run.classifier.model_copy(update={"base_model": str(tiny_base(tmp_path, "bert"))})
    settings = run.settings.model_copy(update={"peft_method": "ia3", "learning_rate": 3e-2, "epochs": 4})
    outcome = fit(FitRequest(run.splits, bert, settings), lambda _: None)
    assert outcome.measured.metrics["test_accuracy"] > 0.9


def test_the_adapter_directory_works_in_plain_peft_as_it_stands(run, base, tmp_path):
    places = Places(tmp_path / "outputs", tmp_path / "adapters")
    done = run_in_directory(DirectoryRequest(run, places, {}), lambda _: None)
    with quiet_transformers():
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
        adapted = PeftModel.from_pretrained(model, str(places.adapter)).eval()
        tokeniser = AutoTokenizer.from_pretrained(places.adapter)
    said = [
        int(adapted(**tokeniser(text, return_tensors="pt")).logits.argmax()) for text in run.splits.test.texts
    ]
    accuracy = np.mean(np.array(said) == run.splits.test.labels)
    assert accuracy == pytest.approx(done["metrics"]["test_accuracy"])
    names = {path.name for path in places.output.iterdir() if not path.name.startswith(".")}
    assert names == {"run.json", "report.html", "confusion_matrix.png", "reliability.png", "course.png"}


def test_a_record_repeats_its_run(run, tmp_path):
    done = run_in_directory(DirectoryRequest(run, Places(tmp_path / "a", tmp_path / "b"), {}), lambda _: None)
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert record == json.loads(json.dumps(done))
    again = FitRequest(
        run.splits, ClassifierSettings(**record["classifier"]), TrainerSettings(**record["recipe"])
    )
    assert fit(again, lambda _: None).manifest.version == record["adapter"]["version"]


def test_early_stopping_ends_a_run_that_gains_nothing(run):
    epochs = []
    outcome = fit(
        _with(run, epochs=12, patience_epochs=2),
        lambda step: epochs.append(step.epoch) if step.validation else None,
    )
    assert len(epochs) == outcome.position.best_epoch + 2 < 12


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("roberta", ["query", "value", "dense"]),
        ("bert", ["query", "value", "dense"]),
        ("distilbert", ["q_lin", "v_lin", "out_lin", "lin1", "lin2"]),
        ("deberta-v2", ["query_proj", "value_proj", "dense"]),
        ("modernbert", ["Wqkv", "Wo", "Wi"]),
        ("gpt2", ["c_attn", "c_proj", "c_fc"]),
        ("qwen2", ["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
        ("bart", ["q_proj", "v_proj", "out_proj", "fc1", "fc2"]),
        ("t5", ["q", "v", "o", "wi", "wo"]),
    ],
)
def test_layers_named_for_roberta_are_found_in_other_architectures(architecture, expected, tmp_path):
    model = load_base(locate(str(tiny_base(tmp_path, architecture))), 3)
    assert target_modules(model, ["query", "value", "dense"]) == expected
    with pytest.raises(WrongUse, match=f"{architecture} has no layer named nothing; it has "):
        target_modules(model, ["nothing"])
    with quiet_transformers():
        adapted = adapt(model, TrainerSettings(target_modules=("query", "value", "dense")))
    touched = [name for name, _ in adapted.named_parameters() if "lora_" in name]
    assert touched
    assert not any(part in name for name in touched for part in ("pooler", "classifier", "head"))


@pytest.mark.parametrize(
    ("architecture", "targets"),
    [
        ("gpt2", None),
        ("qwen2", None),
        ("bart", None),
        ("xlnet", ("layer_1",)),
        ("fnet", ("dense",)),
        ("deberta-v2", None),
    ],
)
def test_bases_of_other_kinds_are_fitted_and_answer_as_they_were_measured(
    run, architecture, targets, tmp_path
):
    base = str(tiny_base(tmp_path / "base", architecture))
    classifier = run.classifier.model_copy(update={"base_model": base})
    settings = run.settings.model_copy(update={"epochs": 1, "target_modules": targets or ()})
    trained = train(replace(run, classifier=classifier, settings=settings), tmp_path / "out", lambda _: None)
    rows = run.splits.validation
    said = load(base, trained.directory, classifier).predict(rows.texts)
    hits = np.mean([one.label == rows.names[label] for one, label in zip(said, rows.labels, strict=True)])
    assert hits == pytest.approx(trained.manifest.metrics["validation_accuracy"])
    with quiet_transformers():
        peft = PeftModel.from_pretrained(load_base(locate(base), 2), trained.directory).eval()
    row = torch.from_numpy(load_tokeniser(locate(base), 64).encode(rows.texts[:1]).row(0))[None].long()
    expected = torch.softmax(peft(row).logits[0].detach() / trained.manifest.temperature, 0)
    np.testing.assert_allclose(said[0].probabilities, expected, atol=1e-4)


def test_balanced_weights_let_every_class_count_as_much():
    labels = np.array([0] * 6 + [1] * 2 + [2])
    weights = class_weights(labels, 4, "balanced")
    totals = [weights[label] * (labels == label).sum() for label in range(3)]
    assert totals == pytest.approx([3, 3, 3])
    assert weights[labels].mean() == pytest.approx(1)
    assert class_weights(labels, 4, "none").tolist() == [1, 1, 1, 1]


def test_the_loss_is_pytorchs_where_nothing_is_weighted_and_doubles_with_the_weights():
    logits, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 2, 1])
    plain = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=0.1)
    ones = torch.ones(5)
    assert summed_loss(logits, targets, ones, 0.1) / 5 == pytest.approx(float(plain), rel=1e-6)
    assert summed_loss(logits, targets, 2 * ones, 0.1) / 5 == pytest.approx(2 * float(plain), rel=1e-6)


def test_lora_plus_lets_b_learn_faster():
    weights = {name: torch.nn.Parameter(torch.ones(2)) for name in ("x.lora_A.w", "x.lora_B.w", "head.w")}
    adamw = optimiser(weights, TrainerSettings(peft_method="lora+", loraplus_ratio=8))
    set_rate(adamw, 0.5)
    rates = {id(value): group["lr"] for group in adamw.param_groups for value in group["params"]}
    assert [rates[id(value)] for value in weights.values()] == [0.5, 4.0, 0.5]


def test_peft_config_json_becomes_settings(tmp_path):
    path = tmp_path / "peft_config.json"
    path.write_text(
        '{"r": 4, "lora_alpha": 8, "lora_dropout": 0.2, "target_modules": ["query"], "task_type": "SEQ_CLS"}'
    )
    assert read_peft_file(path) == {
        "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.2, "target_modules": ("query",),
    }  # fmt: skip
    for method in ("rslora", "dora", "ia3"):
        path.write_text(peft_file(method, {"r": 8, "target_modules": ["query"]}))
        assert read_peft_file(path)["peft_method"] == method


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"task_type": "CAUSAL_LM"}', "task type CAUSAL_LM"),
        ('{"rank": 8}', "rank: Extra inputs"),
        ('{"r": 0}', "r: Input should be greater than 0"),
        ("{", "Invalid JSON"),
        ('{"use_dora": true, "use_rslora": true}', "choose one"),
    ],
)
def test_a_peft_config_that_asks_for_something_else_is_refused(tmp_path, content, message):
    (tmp_path / "peft_config.json").write_text(content)
    with pytest.raises(WrongUse, match=message):
        read_peft_file(tmp_path / "peft_config.json")
