"""Bases of many architectures: what transformers and peft say of each text alone is what is answered."""

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification

from classifier.adapters.manifest import read_manifest
from classifier.base_model import locate, quiet_transformers
from classifier.engine.general import find_padding
from classifier.interface import load
from classifier.model import head_modules, load_base
from classifier.tokenise import load_tokeniser, longest_input_tokens
from reviews.errors import ModelError
from tests.tiny import DECODERS, MAX_LENGTH, tiny_base, tiny_peft_model

TEXTS = ["Good.", "A rather long sentence about a kettle, and more.", "x", "meh " * 9, "Fine.", "Long " * 70]
SIDES = {
    "albert": "right", "bart": "right", "convbert": "none", "data2vec-text": "right", "deberta-v2": "right",
    "electra": "right", "fnet": "none", "gpt2": "right", "llama": "right", "longformer": "right",
    "luke": "right", "mobilebert": "none", "mpnet": "right", "qwen2": "right",
    "roberta-prelayernorm": "right", "t5": "right", "xlm": "right", "xlnet": "left",
}  # fmt: skip
CAUSAL = (*DECODERS, "bart", "t5")


@pytest.fixture(params=SIDES)
def architecture(request):
    return request.param


def _alone(base, adapter, rows):
    """Logits (rows, labels) and last states of peft's model, one text at a time."""
    with quiet_transformers():
        model = PeftModel.from_pretrained(load_base(locate(str(base)), 3), adapter).eval()
    with torch.inference_mode():
        found = [
            model(input_ids=torch.from_numpy(row)[None].long(), output_hidden_states=True) for row in rows
        ]
    layers = [one.get("hidden_states") or one["decoder_hidden_states"] for one in found]
    return np.concatenate([one.logits.numpy() for one in found]), [one[-1][0].numpy() for one in layers]


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's own use of it
def test_every_text_gets_the_answer_that_transformers_and_peft_give_it_alone(
    architecture, settings, tmp_path
):
    base = tiny_base(tmp_path / "base", architecture, longest_tokens=10**6)
    adapter = tmp_path / "adapter"
    tiny_peft_model(base).save_pretrained(adapter)
    manifest = read_manifest(adapter)
    assert manifest.labels == ("class_0", "class_1", "class_2")
    cut = settings.model_copy(
        update={
            "long_texts": "truncate",
            "max_length_tokens": 1_000,
            "batch_tokens": 4_096,
            "engine": "general",
        }
    )
    classifier = load(str(base), adapter, cut)
    encoded = classifier.encode(TEXTS)
    expected, states = _alone(base, adapter, encoded.rows())
    np.testing.assert_allclose(classifier.logits(encoded), expected, rtol=1e-3, atol=1e-3)
    _, embeddings = classifier.score_and_embed(encoded)
    place = -1 if architecture in CAUSAL else 0
    np.testing.assert_allclose(embeddings, [one[place] for one in states], rtol=1e-3, atol=1e-3)
    limited = architecture not in ("t5", "xlnet")
    assert classifier.tokeniser.max_length_tokens == (MAX_LENGTH if limited else 1_000)


@pytest.mark.parametrize("kind", ["bert", "roberta", *SIDES])
def test_padding_goes_where_the_model_does_not_mind_it(kind, tmp_path):
    base = locate(str(tiny_base(tmp_path, kind)))
    padding = find_padding(load_base(base, 3), load_tokeniser(base, MAX_LENGTH).encode(TEXTS[:5]).rows())
    assert padding.side == SIDES.get(kind, "right")
    assert padding.is_causal == (kind in CAUSAL)


def test_a_text_that_writes_out_an_end_of_text_is_answered_among_others(settings, tmp_path):
    base = tiny_base(tmp_path / "base", "bart")
    adapter = tmp_path / "adapter"
    tiny_peft_model(base).save_pretrained(adapter)
    classifier = load(str(base), adapter, settings)
    texts = ["Fine.", "It says </s> in it.", "Good </s></s>!", "Bad."]
    encoded = classifier.encode(texts)
    expected, _ = _alone(base, adapter, encoded.rows())
    np.testing.assert_allclose(classifier.logits(encoded), expected, rtol=1e-3, atol=1e-3)


def test_a_model_without_padding_is_as_it_was_after_a_batch(tmp_path):
    base = locate(str(tiny_base(tmp_path, "gpt2")))
    model = load_base(base, 3)
    rows = load_tokeniser(base, MAX_LENGTH).encode(TEXTS).rows()
    padding = find_padding(model, rows)
    padding.run(model, rows, torch.device("cpu"))
    assert model.config.pad_token_id is None


def test_a_model_that_takes_no_text_is_refused_in_one_line(tmp_path):
    base = locate(str(tiny_base(tmp_path, "bart")))
    model = load_base(base, 3)
    rows = [np.arange(5, 5 + length, dtype=np.int32) for length in (4, 9)]  # without an end of text
    with pytest.raises(ModelError, match=r"BartForSequenceClassification does not take .*<eos>") as caught:
        find_padding(model, rows)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("roberta", {"max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ("roberta", {"max_position_embeddings": 514, "pad_token_id": 0}, 513),
        ("longformer", {"max_position_embeddings": 4098, "attention_window": 8}, 4096),
        ("luke", {"max_position_embeddings": 514}, 512),
        ("ibert", {"max_position_embeddings": 514}, 512),
        ("lilt", {"max_position_embeddings": 512, "pad_token_id": 0}, 511),
        ("nystromformer", {"max_position_embeddings": 510}, 510),
        ("opt", {"max_position_embeddings": 2048}, 2048),
        ("gpt2", {"n_positions": 300}, 300),
        ("bert", {}, 512),
        ("t5", {}, None),
        ("xlnet", {}, None),
    ],
)
def test_the_model_says_how_many_tokens_it_has_positions_for(kind, fields, expected, tmp_path):
    small = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
    config = AutoConfig.for_model(kind, **({} if kind in ("xlnet", "t5") else small), **fields)
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert longest_input_tokens(locate(str(tmp_path))) == expected


@pytest.mark.parametrize(
    ("kind", "heads"),
    [
        ("bart", ["classification_head"]),
        ("bert", ["classifier"]),
        ("deberta", ["pooler", "classifier"]),
        ("distilbert", ["pre_classifier", "classifier"]),
        ("modernbert", ["head", "classifier"]),
        ("qwen2", ["score"]),
        ("t5", ["classification_head"]),
        ("xlm", ["sequence_summary"]),
        ("xlnet", ["sequence_summary", "logits_proj"]),
    ],
)
def test_the_class_of_a_model_says_what_its_head_is(kind, heads):
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(kind))
    model.missing_weights = frozenset()
    assert head_modules(model) == heads


def test_a_base_without_its_pooler_has_it_fitted_with_the_head(tmp_path):
    from safetensors.torch import load_file, save_file

    base = tiny_base(tmp_path, "bert")
    assert head_modules(load_base(locate(str(base)), 3)) == ["classifier"]
    weights = load_file(base / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "pooler" not in name}
    save_file(kept, base / "model.safetensors", metadata={"format": "pt"})
    assert head_modules(load_base(locate(str(base)), 3)) == ["classifier", "pooler"]
