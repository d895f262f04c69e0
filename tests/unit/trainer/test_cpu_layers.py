from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import structlog
import torch

from classifier.base_model import locate
from classifier.engine.general import Padding
from classifier.model import load_base
from classifier.settings import ClassifierSettings
from tests.tiny import tiny_base, tiny_peft_model
from trainer.data.dataset import Dataset
from trainer.fitting.cpu_layers import _Int8Weight, speed_up_adapters, speed_up_layers
from trainer.fitting.fit import fit
from trainer.fitting.fit_data import FitRequest, Splits
from trainer.settings import TrainerSettings

CPU = torch.device("cpu")
ALL = ["query", "key", "value", "dense"]
ROWS = [np.array([0, *range(9, 9 + words), 2], np.int32) for words in (3, 11, 11, 6)]


def prepared(base: Path, targets, *, fast: bool, int8_gradients: bool = False):
    """A peft model as the trainer prepares it, with the layers of this module or with its own."""
    model = tiny_peft_model(base, targets=targets).train()
    inner = model.base_model.model
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    inner.set_attn_implementation("eager")
    if fast:
        speed_up_layers(inner, ROWS)
        speed_up_adapters(model, int8_gradients=int8_gradients)
    return model


def logits_and_gradients(model):
    logits, _ = Padding(model.config).run(model, ROWS, CPU)
    (logits * torch.tensor([[1.0, -2.0, 0.5]]) * torch.arange(1, 5)[:, None]).sum().backward()
    return logits, {name: value.grad for name, value in model.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("targets", [ALL, ["query", "value"]], ids=" ".join)
@pytest.mark.parametrize("architecture", ["roberta", "xlm-roberta", "bert", "distilbert", "mpnet"])
def test_fast_layers_give_the_models_own_logits_and_gradients(architecture, targets, tmp_path):
    base = tiny_base(tmp_path, architecture)
    names = {"distilbert": ["q_lin", "v_lin", "lin1"], "mpnet": ["q", "v", "dense"]}.get(
        architecture, targets
    )
    expected, wanted = logits_and_gradients(prepared(base, names, fast=False))
    found, gradients = logits_and_gradients(prepared(base, names, fast=True))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert gradients.keys() == wanted.keys()
    for name, gradient in gradients.items():
        scale = float(wanted[name].abs().max())
        assert scale > 0, name
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-4 * scale, msg=name)


@pytest.mark.parametrize("architecture", ["roberta", "distilbert"])
def test_gradients_through_int8_point_where_the_exact_ones_do(architecture, tmp_path):
    base = tiny_base(tmp_path, architecture)
    targets = {"distilbert": ["q_lin", "v_lin", "lin1"]}.get(architecture, ALL)
    expected, wanted = logits_and_gradients(prepared(base, targets, fast=True))
    found, gradients = logits_and_gradients(prepared(base, targets, fast=True, int8_gradients=True))
    assert torch.equal(found, expected)  # the forward pass is exact
    exact = [name for name in wanted if torch.equal(gradients[name], wanted[name])]
    assert 0 < len(exact) < len(wanted)  # the head's is exact, those of the lower layers are not
    assert any("classifier" in name for name in exact)
    for name, gradient in gradients.items():
        assert torch.cosine_similarity(gradient.flatten(), wanted[name].flatten(), 0) > 0.99, name


def test_a_row_with_small_gradients_keeps_them_beside_one_with_large_gradients():
    generator = torch.Generator().manual_seed(0)
    weight, gradient = (torch.randn(*shape, generator=generator) for shape in ((48, 32), (4, 48)))
    gradient *= torch.tensor([[1.0], [1e-3], [1e-6], [0.0]])
    found = _Int8Weight(weight).multiply(gradient)
    exact = gradient @ weight
    assert ((found - exact).norm(dim=1)[:3] < 0.03 * exact.norm(dim=1)[:3]).all()
    assert not found[3].any()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_stays_none_through_int8(value):
    weight, gradient = torch.ones(48, 32), torch.ones(2, 48)
    gradient[1, 5] = value
    found = _Int8Weight(weight).multiply(gradient)
    assert not found[1].isfinite().all()


def test_the_last_layer_computes_the_first_token_alone(tmp_path):
    model = prepared(tiny_base(tmp_path), ALL, fast=True)
    widths = []
    layers = model.base_model.model.base_model.encoder.layer
    for layer in layers:
        layer.register_forward_hook(lambda *call: widths.append(call[-1].shape[1]))
    Padding(model.config).run(model, ROWS, CPU)
    assert widths == [13, 1]


def test_a_model_whose_head_reads_all_tokens_keeps_its_own_layers(tmp_path):
    model = load_base(locate(str(tiny_base(tmp_path))), 3)
    model.set_attn_implementation("eager")
    head = model.classifier.forward
    model.classifier.forward = lambda states: head(states.mean(1, keepdim=True))
    before, _ = Padding(model.config).run(model, ROWS, CPU)
    with structlog.testing.capture_logs() as logs:
        speed_up_layers(model, ROWS)
    assert [line["event"] for line in logs] == ["fast_layers_not_used"]
    after, _ = Padding(model.config).run(model, ROWS, CPU)
    assert torch.equal(before, after)


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_a_fit_ends_where_it_ends_without_fast_layers(accumulation_steps, tmp_path, monkeypatch):
    base = tiny_base(tmp_path)
    random = np.random.default_rng(0)
    labels = tuple(int(label) for label in random.integers(0, 2, 96))
    texts = tuple("ab"[label] + "xyz" * int(random.integers(1, 9)) for label in labels)
    rows = Dataset(texts, labels, ("a", "b"), "0" * 64)
    classifier = ClassifierSettings(base_model=str(base), device="cpu", precision="fp32")
    settings = TrainerSettings(
        epochs=2, least_steps=0, learning_rate=3e-3, save_precision="fp32",
        accumulation_steps=accumulation_steps, gradient_precision="exact",
    )  # fmt: skip
    request = FitRequest(Splits(rows, rows), classifier, settings)

    fast = fit(request, lambda _: None)
    monkeypatch.setattr("trainer.fitting.cpu_layers.speed_up_layers", lambda *_: None)
    monkeypatch.setattr("trainer.fitting.cpu_layers.speed_up_adapters", lambda *_, **__: None)
    plain = fit(request, lambda _: None)

    assert fast.position.kept_epoch == plain.position.kept_epoch
    assert fast.measured.temperature == pytest.approx(plain.measured.temperature, abs=1e-3)
    weights = [
        safetensors.torch.load(outcome.files["adapter_model.safetensors"]) for outcome in (fast, plain)
    ]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=0, atol=1e-4, msg=name)
