"""The packed engine against the general one, and what it refuses."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from classifier.base_model import locate
from classifier.engine.attention import attend_all, group
from classifier.engine.batching import packed_batches
from classifier.engine.encoder import Unsupported, check_supported, take_apart
from classifier.engine.linear import LoraLinear, PlainLinear, make_linear, prepacking_works
from classifier.engine.packed import PackedEngine
from classifier.interface import load
from classifier.model import load_base
from reviews.errors import ModelError
from tests.tiny import MAX_LENGTH, tiny_adapter, tiny_base

TEXTS = [
    "Good.",
    "A rather long sentence about a kettle.",
    "x",
    "Ünïcödé 🙂",
    "-",
    "meh " * 12,
    "Good.",
    "Bad!!",
]


def _chances(classifier, texts=TEXTS):
    return np.array([said.probabilities for said in classifier.predict(texts)])


@pytest.fixture(scope="module", params=["roberta", "xlm-roberta", "bert"])
def family(request, tmp_path_factory):
    base = tiny_base(tmp_path_factory.mktemp("base"), request.param)
    return base, tiny_adapter(base, tmp_path_factory.mktemp("adapters"))


@pytest.mark.parametrize("adapters", ["merged", "shared"])
@pytest.mark.parametrize("batch_tokens", [16, 100, 4096])
def test_it_answers_like_the_general_engine(family, settings, adapters, batch_tokens):
    base, adapter = family
    general = load(str(base), adapter, settings.model_copy(update={"engine": "general"}))
    options = {"engine": "packed", "adapters": adapters, "batch_tokens": batch_tokens}
    packed = load(str(base), adapter, settings.model_copy(update=options))
    assert (packed.execution.engine, packed.answering.engine.name) == ("packed", "packed")
    assert general.execution.engine_reason == "classifier.engine asks for it"
    np.testing.assert_allclose(_chances(packed), _chances(general), atol=1e-5)


def test_its_embeddings_are_the_last_states_of_the_first_tokens(family, settings):
    base, adapter = family
    found = [
        load(str(base), adapter, settings.model_copy(update={"engine": engine}))
        for engine in ("general", "packed")
    ]
    (_, theirs), (said, ours) = [one.score_and_embed(one.encode(TEXTS)) for one in found]
    assert ours.shape == (len(TEXTS), 32)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert [one.label for one in said] == [one.label for one in found[0].predict(TEXTS)]


def test_a_padding_token_written_out_in_a_text_does_not_shift_roberta_s_positions(base, adapter, settings):
    texts = ["a<pad>b", "<pad><pad>", "ab<pad>"]
    general, packed = (
        load(str(base), adapter, settings.model_copy(update={"engine": engine}))
        for engine in ("general", "packed")
    )
    assert 1 in packed.encode(texts).ids
    np.testing.assert_allclose(_chances(packed, texts), _chances(general, texts), atol=1e-5)


def test_bf16_differs_by_rounding_only(family, settings):
    base, adapter = family
    exact, rough = (
        load(str(base), adapter, settings.model_copy(update={"engine": "packed", "precision": precision}))
        for precision in ("fp32", "bf16")
    )
    np.testing.assert_allclose(_chances(rough), _chances(exact), atol=0.1)


@pytest.mark.parametrize("architecture", ["distilbert", "deberta-v2", "modernbert"])
def test_another_architecture_takes_the_general_engine_or_is_refused_when_packed_is_asked_for(
    architecture, settings, tmp_path
):
    base = tiny_base(tmp_path / "base", architecture)
    adapter = tiny_adapter(base, tmp_path)
    loaded = load(str(base), adapter, settings)
    assert (loaded.execution.engine, loaded.answering.engine.name) == ("general", "general")
    assert "not of the BERT or RoBERTa family" in loaded.execution.engine_reason
    with pytest.raises(ModelError, match="not of the BERT or RoBERTa family"):
        load(str(base), adapter, settings.model_copy(update={"engine": "packed"}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"hidden_act": "relu"}, "activation"), ({"is_decoder": True}, "decoder")],
)
def test_what_it_does_not_compute_is_refused(base, change, reason):
    model = load_base(locate(str(base)), 3)
    for name, value in change.items():
        setattr(model.config, name, value)
    with pytest.raises(Unsupported, match=reason):
        check_supported(model)


def test_a_model_that_something_hooks_into_is_refused(base):
    model = load_base(locate(str(base)), 3)
    model.base_model.encoder.layer[0].register_forward_hook(lambda *_: None)
    with pytest.raises(Unsupported, match="hooks"):
        check_supported(model)


def test_an_engine_that_answers_wrongly_does_not_serve(base, adapter, settings, monkeypatch):
    def broken(model, dtype, device, base=None):
        encoder = take_apart(model, dtype, device, base)
        encoder.tables.positions.zero_()
        return encoder

    monkeypatch.setattr("classifier.engine.build.take_apart", broken)
    assert load(str(base), adapter, settings).answering.engine.name == "general"


@given(st.lists(st.integers(1, 600), max_size=200), st.integers(1, 5000))
def test_packed_batches_hold_every_text_once_within_the_budget(lengths, budget):
    lengths = np.array(lengths, np.int64)
    batches = list(packed_batches(lengths, budget))
    assert sorted(int(index) for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or lengths[batch].sum() <= budget for batch in batches)


@pytest.fixture(scope="module")
def engine(base):
    model = load_base(locate(str(base)), 3)
    return PackedEngine(take_apart(model, torch.float32, torch.device("cpu")), 128)


@hypothesis_settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(2, MAX_LENGTH), min_size=1, max_size=12), st.integers(0, 1000))
def test_any_mix_of_lengths_answers_as_each_row_alone(engine, lengths, seed):
    random = np.random.default_rng(seed)
    rows = [random.integers(0, 261, length).astype(np.int32) for length in lengths]
    alone = np.concatenate([engine.answer([row]).logits for row in rows])
    np.testing.assert_allclose(engine.answer(rows).logits, alone, atol=1e-4)


def _uses(layer, x, other):
    return layer(x), layer.gelu(x), layer.add(x, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_prepacked_layers_give_what_plain_ones_give(dtype):
    if not prepacking_works(dtype):
        pytest.skip("this build of PyTorch has no fused layers")
    generator = torch.Generator().manual_seed(1)
    weight, bias, x, other = (
        torch.randn(*shape, generator=generator).to(dtype) for shape in ((24, 40), (24,), (9, 40), (9, 24))
    )
    packed, plain = make_linear(weight, bias), PlainLinear(weight, bias)
    tolerance = {"atol": 1e-4} if dtype == torch.float32 else {"atol": 0.15}
    with torch.inference_mode():
        for ours, theirs in zip(_uses(packed, x, other), _uses(plain, x, other), strict=True):
            np.testing.assert_allclose(ours.float().numpy(), theirs.float().numpy(), **tolerance)


def test_without_fused_layers_the_plain_ones_are_used(monkeypatch):
    monkeypatch.setattr("classifier.engine.linear.prepacking_works", lambda _: False)
    assert isinstance(make_linear(torch.ones(2, 3), torch.zeros(2)), PlainLinear)


def test_a_missing_operator_means_no_prepacking(monkeypatch):
    def gone(*_):
        raise AttributeError("mkldnn")

    prepacking_works.cache_clear()
    monkeypatch.setattr("classifier.engine.linear.PrepackedLinear", gone)
    try:
        assert not prepacking_works(torch.float32)
    finally:
        prepacking_works.cache_clear()


def test_a_low_rank_update_beside_a_layer_equals_one_inside():
    generator = torch.Generator().manual_seed(1)
    weight, a, b, x, other = (
        torch.randn(*shape, generator=generator) for shape in ((6, 5), (2, 5), (6, 2), (4, 5), (4, 6))
    )
    bias = torch.ones(6)
    beside = LoraLinear(PlainLinear(weight, bias), a, b, PlainLinear)
    inside = PlainLinear(weight + b @ a, bias)
    for ours, theirs in zip(_uses(beside, x, other), _uses(inside, x, other), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    "lengths", [[1] * 3, [7] * 40, [64] * 5, [300] * 2, [300, 257, 256, 100, 97, 96, 33, 32, 31, 9, 2, 1, 1]]
)
def test_attention_by_products_gives_what_the_fused_kernel_gives(lengths):
    heads, size = 4, 8
    generator = torch.Generator().manual_seed(2)
    rows = sum(lengths) + 5  # a batch is rounded up with rows that belong to no text
    qkv = torch.randn(rows, 3 * heads * size, generator=generator).bfloat16()
    fused = attend_all(qkv.float(), _grouped(lengths, heads), heads)
    ours = attend_all(qkv, _grouped(lengths, heads, by_products=True), heads)
    np.testing.assert_allclose(ours.float().numpy(), fused.numpy(), atol=0.06)


def test_attention_by_products_makes_few_of_many_lengths():
    lengths = list(range(64, 0, -1))
    groups = _grouped(lengths, heads=2, by_products=True)
    assert len(groups.runs) == 64
    assert [(block.texts, block.length) for block in groups.blocks] == [
        (16, 64),
        (16, 48),
        (16, 32),
        (16, 16),
    ]


def test_scores_too_great_for_products_give_no_number_rather_than_a_wrong_one():
    qkv = torch.full((4, 3 * 8), 20.0).bfloat16()  # scores of 3,200: e to that power is no number
    assert not torch.isfinite(attend_all(qkv, _grouped([4], 1, by_products=True), 1)).any()


def _grouped(lengths, heads, *, by_products=False):
    bounds = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]))
    return group(np.asarray(lengths), bounds, heads, by_products=by_products)


def test_the_faster_attention_is_taken_only_where_it_is_as_close(base, adapter, settings, monkeypatch):
    rough = settings.model_copy(update={"precision": "bf16", "engine": "packed"})
    assert load(str(base), adapter, rough).answering.engine.encoder.by_products
    monkeypatch.setattr(
        "classifier.engine.attention.attend_by_products",
        lambda qkv, block, _heads, place: place.copy_(qkv[block.start : block.end, : place.shape[1]]),
    )
    assert not load(str(base), adapter, rough).answering.engine.encoder.by_products
