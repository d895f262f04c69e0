"""Adapters that do not meet their base: nothing is left out and nothing is drawn at random, unsaid."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file, save_file

from classifier.adapters.manifest import CONFIG, WEIGHTS, read_manifest
from classifier.base_model import locate, quiet_transformers
from classifier.interface import load
from classifier.model import attach, load_base
from reviews.errors import AdapterError, ModelError
from tests.tiny import tiny_base, tiny_peft_model

PREFIX = "base_model.model."
QUERY = f"{PREFIX}roberta.encoder.layer.1.attention.self.query.lora_A.weight"
HEAD = f"{PREFIX}classifier.out_proj.weight"


@pytest.fixture(scope="module")
def plain(base, tmp_path_factory):
    directory = tmp_path_factory.mktemp("plain")
    tiny_peft_model(base).save_pretrained(directory)
    return load_file(directory / WEIGHTS), json.loads((directory / CONFIG).read_text())


def _renamed(weights, old, new):
    return {name.replace(old, new): tensor for name, tensor in weights.items()}


def _without(weights, part):
    return {name: tensor for name, tensor in weights.items() if part not in name}


BROKEN = {
    "names that match nothing": (
        lambda w: _renamed(w, "roberta.encoder", "encoder"),
        r"it has no place for base_model.model.encoder.* more; the adapter lacks base_model.model.roberta",
    ),
    "a compiled model's names": (
        lambda w: _renamed(w, PREFIX, f"{PREFIX}_orig_mod."),
        r"_orig_mod\.classifier.* beneath torch.compile",
    ),
    "a layer missing": (lambda w: _without(w, "layer.0."), r"the adapter lacks .*layer\.0\..* and 2 more"),
    "a layer too many": (
        lambda w: w | {name.replace("layer.1.", "layer.7."): tensor.clone() for name, tensor in w.items()},
        r"it has no place for .*layer\.7\.",
    ),
    "fewer targets than its configuration says": (
        lambda w: _without(w, ".value."),
        r"the adapter lacks .*layer\.0\.attention\.self\.value\.lora_A",
    ),
    "one matrix of a pair": (lambda w: _without(w, "query.lora_B"), r"the adapter lacks .*query\.lora_B"),
    "a part of the head missing": (
        lambda w: _without(w, "classifier.dense"),
        r"the adapter lacks base_model\.model\.classifier\.dense\.bias",
    ),
    "another width": (
        lambda w: w | {QUERY: torch.zeros(4, 48)},
        rf"{QUERY} has the shape \(4, 48\), and the model .* has \(4, 32\)",
    ),
    "another rank": (
        lambda w: w | {QUERY: torch.zeros(6, 32)},
        rf"{QUERY} has the shape \(6, 32\), and the model .* has \(4, 32\)",
    ),
    "a number that is none": (
        lambda w: w | {QUERY: w[QUERY] / 0},
        rf"{QUERY}, whose values are not all finite",
    ),
    "whole numbers": (lambda w: w | {QUERY: w[QUERY].to(torch.int8)}, rf"{QUERY}, whose values"),
    "a head of another kind": (
        lambda w: _renamed(w, "classifier.", "score."),
        r"no place for base_model\.model\.score",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_an_adapter_that_does_not_meet_its_base_is_refused_with_the_names(
    base, plain, settings, tmp_path, kind
):
    (weights, config), (breaks, reason) = plain, BROKEN[kind]
    save_file(breaks(weights), tmp_path / WEIGHTS)
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(AdapterError, match=reason) as caught:
        load(str(base), tmp_path, settings)
    assert "\n" not in str(caught.value)


def test_the_same_adapter_unbroken_is_what_peft_makes_of_it(base, plain, tmp_path):
    weights, config = plain
    save_file(weights, tmp_path / WEIGHTS)
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with quiet_transformers():
        expected = PeftModel.from_pretrained(load_base(locate(str(base)), 3), tmp_path).eval()
    model = attach(load_base(locate(str(base)), 3), tmp_path, read_manifest(tmp_path))
    row = torch.arange(5, 30)[None]
    with torch.inference_mode():
        torch.testing.assert_close(model(input_ids=row).logits, expected(input_ids=row).logits)


@pytest.mark.parametrize("rank", [8, 2_000_000_000])
def test_a_rank_that_the_matrices_do_not_have_is_refused_with_both_shapes_before_it_is_allocated(
    base, plain, settings, tmp_path, rank
):
    weights, config = plain
    save_file(weights, tmp_path / WEIGHTS)
    (tmp_path / CONFIG).write_text(json.dumps(config | {"r": rank}))
    with pytest.raises(AdapterError, match=rf"lora_A.weight has the shape \(4, \d+\), not \({rank}, \d+\)"):
        load(str(base), tmp_path, settings)


STRANGE = [
    {"r": 0},
    {"r": "8"},
    {"r": None},
    {"lora_alpha": "x"},
    {"lora_alpha": 1e308},
    {"lora_dropout": 7},
    {"init_lora_weights": "loftq"},
    {"init_lora_weights": "corda"},
    {"init_lora_weights": "nonsense"},
    {"modules_to_save": "classifier"},
    {"bias": "some"},
    {"target_modules": []},
    {"target_modules": ["nothing.here"]},
    {"rank_pattern": {"query": -1}},
    {"layers_to_transform": "x"},
    {"layers_to_transform": [9]},
    {"trainable_token_indices": [10**9]},
    {"use_dora": True},
]


@pytest.mark.parametrize("strange", STRANGE, ids=str)
def test_a_configuration_that_makes_no_sense_is_refused_in_a_line(base, plain, settings, tmp_path, strange):
    weights, config = plain
    save_file(weights, tmp_path / WEIGHTS)
    (tmp_path / CONFIG).write_text(json.dumps(config | strange))
    with pytest.raises((AdapterError, ModelError)) as caught:
        load(str(base), tmp_path, settings)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_of_tensors_is_refused(base, plain, settings, tmp_path):
    weights, config = plain
    save_file(weights, tmp_path / WEIGHTS)
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:-100])
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(AdapterError, match="does not fit its base model"):
        load(str(base), tmp_path, settings)


def test_a_pooler_that_neither_base_nor_adapter_brings_is_refused(settings, tmp_path):
    base = tiny_base(tmp_path / "base", "deberta-v2")
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, target_modules=["query_proj"])
    with quiet_transformers():
        get_peft_model(load_base(locate(str(base)), 3), config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(AdapterError, match=r"both lack pooler\.dense\.bias, pooler\.dense\.weight, on which"):
        load(str(base), tmp_path / "adapter", settings)


@pytest.mark.parametrize("mode", ["merged", "shared"])
def test_a_pooler_missing_from_bert_is_refused_beside_others_too(settings, tmp_path, mode):
    base = tiny_base(tmp_path / "base", "bert")
    _remove(base, "pooler")
    with pytest.raises(AdapterError, match=r"both lack bert\.pooler\.dense\.bias"):
        load(str(base), _adapter_without_pooler(base, tmp_path / "adapter"), _in_mode(settings, mode))


def test_a_weight_that_no_answer_depends_on_may_be_missing(settings, tmp_path):
    base = tiny_base(tmp_path / "base", "big_bird")  # its head reads the first token, not its pooler
    _remove(base, "pooler")
    directory = _adapter_without_pooler(base, tmp_path / "adapter")
    said = [load(str(base), directory, settings).predict(["Good."])[0].probabilities for _ in range(2)]
    assert said[0] == said[1]


def test_weights_of_another_model_than_the_configuration_s_are_refused(tmp_path):
    base = tiny_base(tmp_path)
    weights = load_file(base / "model.safetensors")
    save_file(_renamed(weights, "embeddings", "x"), base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="of another model than its config"):
        load_base(locate(str(base)), 3)


def test_a_layer_missing_from_the_base_is_refused_by_name(base, adapter, settings, tmp_path):
    weights = load_file(base / "model.safetensors")
    part = "encoder.layer.1.output.dense.weight"
    other = tiny_base(tmp_path / "base")
    save_file(_without(weights, part), other / "model.safetensors", metadata={"format": "pt"})
    directory = tmp_path / "adapter"
    tiny_peft_model(base).save_pretrained(directory)
    with pytest.raises(AdapterError, match=rf"both lack roberta\.{part}"):
        load(str(other), directory, settings)


@pytest.mark.parametrize("problem", ["regression", "multi_label_classification"])
def test_a_base_that_gives_any_number_of_labels_is_refused_for_an_adapter_without_a_manifest(
    adapter, settings, tmp_path, problem
):
    base = tiny_base(tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"problem_type": problem}))
    load(str(base), adapter, settings)  # says itself that each text has one label
    tiny_peft_model(base).save_pretrained(tmp_path / "plain")
    with pytest.raises(AdapterError, match=f"problem_type {problem}"):
        load(str(base), tmp_path / "plain", settings)


def _in_mode(settings, mode):
    return settings.model_copy(update={"adapters": mode})


def _remove(base, part):
    weights = load_file(base / "model.safetensors")
    save_file(_without(weights, part), base / "model.safetensors", metadata={"format": "pt"})


def _adapter_without_pooler(base, directory):
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, target_modules=["query"])
    with quiet_transformers():
        get_peft_model(load_base(locate(str(base)), 3), config).save_pretrained(directory)
    return directory
