"""Adapters whose head reads the mean over the tokens: every engine computes it, older programs refuse it."""

import json

import numpy as np
import pytest
import torch

from classifier.adapters.manifest import MANIFEST, read_manifest
from classifier.base_model import locate
from classifier.engine.pooling import mean_of_tokens
from classifier.host import Host
from classifier.interface import load
from classifier.model import load_base, merge
from classifier.settings import ClassifierSettings
from classifier.tokenise import load_tokeniser
from reviews.errors import AdapterError, ModelError
from tests.tiny import (
    MAX_LENGTH,
    SENTIMENTS,
    save_adapter,
    tiny_adapter,
    tiny_base,
    tiny_peft_model,
    with_probes,
)

TEXTS = [
    "Good.",
    "A rather long sentence about a kettle that leaks.",
    "No",
    "Zwei Wochen gewartet.",
    "x" * 40,
]


def mean_adapter(base, root, seed=1, labels=SENTIMENTS):
    """An adapter whose head reads the mean, with matrices and a head that are drawn."""
    model = tiny_peft_model(base, len(labels), seed, pooling="mean")
    fields = {"task": "sentiment", "labels": labels, "base_model": str(base), "pooling": "mean"}
    return save_adapter(model, root, fields | {"base_sha256": locate(str(base)).weights_sha256})


def by_hand(base, adapter):
    """float32 (texts, labels), and what the head read: each text alone, from the base's own states."""
    manifest = read_manifest(adapter)
    model = merge(load_base(locate(str(base)), len(manifest.labels), "mean"), adapter, manifest)
    encoded = load_tokeniser(locate(str(base)), MAX_LENGTH).encode(TEXTS)
    means = []
    with torch.inference_mode():
        for index in range(len(TEXTS)):
            ids = torch.from_numpy(encoded.text(index))[None].long()
            means.append(model.base_model(input_ids=ids).last_hidden_state[0].mean(0))
        read = torch.stack(means)
        return (read @ model.classifier.weight.T + model.classifier.bias).numpy(), read.numpy()


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
@pytest.mark.parametrize("mode", ["merged", "shared"])
def test_the_packed_engine_reads_the_mean_over_the_tokens(tmp_path, architecture, mode):
    base = tiny_base(tmp_path / "base", architecture)
    adapter = mean_adapter(base, tmp_path)
    expected, read = by_hand(base, adapter)
    settings = ClassifierSettings(device="cpu", precision="fp32", adapters=mode, max_length_tokens=MAX_LENGTH)
    one = load(str(base), adapter, settings)
    assert one.execution.engine == "packed"
    encoded = one.encode(TEXTS)
    assert np.allclose(one.logits(encoded), expected, atol=1e-3)
    assert np.allclose(one.score_and_embed(encoded)[1], read, atol=1e-4)


@pytest.mark.parametrize(
    "architecture", ["bert", "roberta", "distilbert", "deberta-v2", "modernbert", "fnet", "gpt2"]
)
def test_the_general_engine_reads_the_mean_of_any_model(tmp_path, architecture):
    base = tiny_base(tmp_path / "base", architecture)
    adapter = mean_adapter(base, tmp_path)
    expected, read = by_hand(base, adapter)
    settings = ClassifierSettings(
        device="cpu", precision="fp32", engine="general", max_length_tokens=MAX_LENGTH
    )
    one = load(str(base), adapter, settings)
    encoded = one.encode(TEXTS)
    assert np.allclose(one.logits(encoded), expected, atol=1e-3)
    assert np.allclose(one.score_and_embed(encoded)[1], read, atol=1e-4)


def test_a_model_with_a_decoder_beside_its_encoder_has_no_mean(tmp_path):
    base = locate(str(tiny_base(tmp_path / "base", "bart")))
    with pytest.raises(ModelError, match="encoder with a decoder"):
        load_base(base, 3, "mean")


def test_int8_reads_the_mean_too(tmp_path):
    base = tiny_base(tmp_path / "base", "bert")
    adapter = mean_adapter(base, tmp_path)
    expected, _ = by_hand(base, adapter)
    settings = ClassifierSettings(device="cpu", precision="int8", max_length_tokens=MAX_LENGTH)
    one = load(str(base), adapter, settings)
    assert one.execution.number_format == "int8"
    found = one.logits(one.encode(TEXTS))
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_adapters_of_both_kinds_share_a_base(tmp_path):
    base = tiny_base(tmp_path / "base", "bert")
    adapters = [
        tiny_adapter(base, tmp_path),
        mean_adapter(base, tmp_path),
        with_probes(base, tiny_adapter(base, tmp_path, seed=2)),
        with_probes(base, mean_adapter(base, tmp_path, seed=3)),
    ]
    alone = ClassifierSettings(device="cpu", precision="fp32", max_length_tokens=MAX_LENGTH)
    host = Host(str(base), alone.model_copy(update={"adapters": "shared"}))
    for adapter in adapters:
        expected, found = load(str(base), adapter, alone), host.load(adapter)
        assert "shared base" in found.execution.engine_reason
        encoded = found.encode(TEXTS)
        assert np.allclose(found.logits(encoded), expected.logits(encoded), atol=1e-4)


def test_a_manifest_that_names_the_mean_is_refused_by_programs_that_would_overlook_it(tmp_path):
    base = tiny_base(tmp_path / "base")
    said = json.loads((mean_adapter(base, tmp_path) / MANIFEST).read_text())
    assert (said["format"], said["pooling"]) == (2, "mean")  # those programs know format 1 alone
    assert read_manifest(tiny_adapter(base, tmp_path)).format == 1


def test_a_manifest_of_the_old_format_cannot_name_the_mean(tmp_path):
    base = tiny_base(tmp_path / "base")
    directory = mean_adapter(base, tmp_path)
    said = json.loads((directory / MANIFEST).read_text())
    (directory / MANIFEST).write_text(json.dumps(said | {"format": 1}))
    with pytest.raises(AdapterError, match="does not go with"):
        read_manifest(directory)


def test_padding_counts_for_nothing_in_a_mean():
    states = torch.arange(12.0).view(2, 3, 2)
    found = mean_of_tokens(states, torch.tensor([[1, 1, 0], [1, 1, 1]]))
    assert found.tolist() == [[1.0, 2.0], [8.0, 9.0]]
