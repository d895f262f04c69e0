"""int8 in the packed engine: close to fp32, judged on held-out texts, refused where it is not."""

import copy
import dataclasses
import itertools
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from classifier.adapters.manifest import CARD, read_files, read_manifest
from classifier.adapters.sample import SAMPLE, read_sample, sample_file
from classifier.adapters.store import assemble, write_files
from classifier.base_model import locate
from classifier.calibration import softmax
from classifier.engine import EngineOutput, int8
from classifier.engine.build import EngineBuilder
from classifier.engine.choice import FormatChoice, measure_formats
from classifier.engine.encoder import take_apart
from classifier.engine.int8 import ObservedLinear, in_int8, round_weights
from classifier.engine.int8_products import Levels, has_int8_products
from classifier.engine.near_ties import NearTies, gap_of
from classifier.engine.packed import PackedEngine
from classifier.interface import load
from classifier.model import load_base, merge
from classifier.number_formats import FormatMemory, Rates, decisions_of
from classifier.tokenise import load_tokeniser
from classifier.trust import FormatAgreement, compare
from reviews.errors import AdapterError, ModelError

pytestmark = pytest.mark.skipif(not has_int8_products(), reason="no int8 products in this build of PyTorch")

WORDS = ["good", "bad", "kettle", "dress", "broke", "lovely", "slow", "fast", "thin", "warm", "never", "red"]
TEXTS = [" ".join(np.random.default_rng(number).choice(WORDS, 3 + number % 8)) for number in range(240)]
PAIRS = [" ".join(pair) for pair in itertools.product(WORDS, WORDS)]
INT8_FIRST = {"fp32": 10.0, "bf16": 5.0, "int8": 100.0}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(base, adapter):
    """A merged model whose answers are not all alike."""
    manifest = read_manifest(adapter)
    merged = merge(load_base(locate(str(base)), len(manifest.labels)), adapter, manifest)
    with torch.no_grad():
        merged.classifier.out_proj.weight.mul_(2)
    return merged


@pytest.fixture(scope="module")
def tokeniser(base):
    return load_tokeniser(locate(str(base)), 64)


@pytest.fixture(scope="module")
def with_sample(adapter, model, tokeniser, tmp_path_factory) -> Path:
    """The adapter with a held-out sample, labelled as the model answers."""
    engine = PackedEngine(take_apart(model, torch.float32, CPU), 4096)
    labels = engine.answer(tokeniser.encode(TEXTS).rows()).logits.argmax(1)
    manifest, files = read_files(adapter)
    files = {name: content for name, content in files.items() if name != CARD}
    files[SAMPLE] = sample_file(TEXTS, labels.tolist())
    complete = assemble(files, manifest.model_dump(exclude={"files"}))
    return write_files(complete, tmp_path_factory.mktemp("with_sample"))


def _choice(tokeniser, directory: Path) -> FormatChoice:
    return FormatChoice(FormatMemory(directory, "a processor"), tokeniser, 4096, lambda _: dict(INT8_FIRST))


def _refused_measure(_):
    raise AssertionError("it was measured and decided already")


def test_the_fastest_format_serves_once_it_has_agreed_with_fp32(model, tokeniser, with_sample, tmp_path):
    manifest = read_manifest(with_sample)
    decision, found = _choice(tokeniser, tmp_path).decide(model, with_sample, manifest)
    assert decision.number_format == "int8", decision
    assert decision.agreement is not None
    assert decision.agreement.labels >= 0.995
    assert "labels agree with fp32" in decision.reason
    rows = tokeniser.encode(TEXTS).rows()
    exact = PackedEngine(take_apart(model, torch.float32, CPU), 4096).answer(rows).logits
    served = found.engine(4096).answer(rows).logits
    assert 0 < np.abs(softmax(served) - softmax(exact)).mean() < 0.01
    assert decisions_of(tmp_path, manifest.content_hash) == [decision]


def test_outliers_are_refused_in_int8_and_served_in_the_next_best_format(
    model, tokeniser, with_sample, tmp_path
):
    outlying = _with_outliers(model)
    manifest = read_manifest(with_sample)
    decision, found = _choice(tokeniser, tmp_path).decide(outlying, with_sample, manifest)
    assert (decision.number_format, found) == ("fp32", None)
    assert "int8 is faster and was refused" in decision.reason
    assert decision.agreement is not None
    assert decision.agreement.reasons()


def _with_outliers(model):
    """The model with wide channels that reach far, of which the narrow product reads nothing."""
    config = type(model.config).from_dict(model.config.to_dict())
    changed = type(model)(config).eval()
    changed.load_state_dict(model.state_dict())
    with torch.no_grad():
        for layer in changed.base_model.encoder.layer:
            layer.intermediate.dense.weight[:12] *= 3e4
            layer.output.dense.weight[:, :12] = 0
            layer.output.dense.weight[:, 12:] *= 40
    return changed


def test_a_decision_is_made_once_for_an_adapter_and_a_processor(model, tokeniser, with_sample, tmp_path):
    manifest = read_manifest(with_sample)
    first, _ = _choice(tokeniser, tmp_path).decide(model, with_sample, manifest)
    again = FormatChoice(FormatMemory(tmp_path, "a processor"), tokeniser, 4096, _refused_measure)
    second, found = again.decide(model, with_sample, manifest)
    assert second == first
    assert found is not None
    other = FormatChoice(FormatMemory(tmp_path, "another one"), tokeniser, 4096, _refused_measure)
    with pytest.raises(AssertionError, match="already"):
        other.decide(model, with_sample, manifest)


def _wavering(model, tokeniser):
    """The model with two labels that are almost equally likely, each for half of the texts."""
    wavering = copy.deepcopy(model)
    last = wavering.classifier.out_proj
    with torch.no_grad():
        last.weight[1] = last.weight[0] + (last.weight[1] - last.weight[0]) / 50
        last.bias[2] -= 100
        engine = PackedEngine(take_apart(wavering, torch.float32, CPU), 4096)
        logits = engine.answer(tokeniser.encode(PAIRS).rows()).logits
        last.bias[1] -= float(np.median(logits[:, 1] - logits[:, 0]))
    return wavering


class _Fixed:
    """An engine that says the same of rows whose first id is the same."""

    name = "packed"

    def __init__(self, answers: dict[int, list[float]]) -> None:
        self._answers = answers
        self.asked: list[int] = []

    def answer(self, rows, *, embed=False):
        self.asked += [int(row[0]) for row in rows]
        logits = np.array([self._answers[int(row[0])] for row in rows], np.float32)
        return EngineOutput(logits, logits.copy() if embed else None)


def test_near_ties_alone_are_answered_again():
    fast = _Fixed({0: [1.0, 0.0, 0.9], 1: [0.1, 0.14, 0.0], 2: [np.nan, 0.0, 0.0], 3: [0.5, 0.0, 0.5]})
    careful = _Fixed({1: [0.2, 0.1, 0.0], 3: [0.4, 0.0, 0.5]})
    rows = [np.array([number], np.int32) for number in (0, 1, 2, 3, 1)]
    found = NearTies(fast, careful, gap=0.05).answer(rows, embed=True)
    assert careful.asked == [1, 3, 1]
    expected = [[1.0, 0.0, 0.9], [0.2, 0.1, 0.0], [np.nan, 0.0, 0.0], [0.4, 0.0, 0.5], [0.2, 0.1, 0.0]]
    np.testing.assert_array_equal(found.logits, np.array(expected, np.float32))
    np.testing.assert_array_equal(found.embeddings, np.array(expected, np.float32))


def test_the_gap_of_near_ties_is_twice_the_mean_error_of_a_difference():
    exact = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], np.float32)
    fast = exact + np.array([[0.1, 0.1, 0.1], [0.2, -0.1, 0.0]], np.float32)  # errors 0 and 0.3
    assert gap_of(exact, fast) == pytest.approx(0.3)


def test_labels_that_int8_alone_would_change_stay_as_in_fp32(model, tokeniser, with_sample):
    """The model made to waver: many texts are near ties, and int8 alone changes some of their labels."""
    wavering = _wavering(model, tokeniser)
    found = FormatChoice(FormatMemory(None, ""), tokeniser, 4096).int8(
        wavering, with_sample, read_manifest(with_sample)
    )
    rows = tokeniser.encode(PAIRS).rows()
    exact = PackedEngine(take_apart(wavering, torch.float32, CPU), 4096).answer(rows).logits
    alone = PackedEngine(found.encoder, 4096).answer(rows).logits
    served = found.engine(4096).answer(rows).logits
    changed = [np.count_nonzero(logits.argmax(1) != exact.argmax(1)) for logits in (alone, served)]
    assert changed[0] > 2 * changed[1]


def test_int8_is_refused_where_too_many_texts_are_near_ties(model, tokeniser, with_sample, tmp_path):
    clearly = FormatMemory(tmp_path, "a processor")
    slightly = {"fp32": 10.0, "bf16": 10.0, "int8": 11.5}
    decision, _ = FormatChoice(clearly, tokeniser, 4096, lambda _: dict(slightly)).decide(
        _wavering(model, tokeniser), with_sample, read_manifest(with_sample)
    )
    assert decision.number_format != "int8"
    assert "of the texts are near ties that have to be scored again" in decision.reason
    assert "would be scored again" in decision.reason


def test_layers_in_int8_are_made_once_and_answer_alike_ever_after(model, tokeniser, with_sample, tmp_path):
    manifest = read_manifest(with_sample)
    _, first = _choice(tokeniser, tmp_path).decide(model, with_sample, manifest)
    (kept,) = tmp_path.glob("layers-*")
    written = kept.stat().st_mtime_ns
    _, second = _choice(tokeniser, tmp_path).decide(model, with_sample, manifest)
    rows = tokeniser.encode(TEXTS).rows()
    answers = [found.engine(4096).answer(rows).logits for found in (first, second)]
    assert first.gap == second.gap > 0
    assert np.array_equal(*answers)
    assert kept.stat().st_mtime_ns == written


def test_damaged_layers_are_made_anew(model, tokeniser, with_sample, tmp_path):
    manifest = read_manifest(with_sample)
    _, first = _choice(tokeniser, tmp_path).decide(model, with_sample, manifest)
    (kept,) = tmp_path.glob("layers-*")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    _, second = _choice(tokeniser, tmp_path).decide(model, with_sample, manifest)
    rows = tokeniser.encode(TEXTS).rows()
    answers = [found.engine(4096).answer(rows).logits for found in (first, second)]
    assert first.gap == second.gap > 0
    assert np.array_equal(*answers)
    assert kept.read_bytes() == whole


def test_the_layers_of_eight_adapters_are_kept(tmp_path):
    memory = FormatMemory(tmp_path, "a processor")
    for number in range(12):
        memory.keep_layers(f"{number:02}", bytes([number]))
        (file,) = tmp_path.glob(f"layers-{number:02}-*")
        os.utime(file, (number, number))
    assert [memory.layers(f"{number:02}") for number in (3, 4, 11)] == [None, b"\x04", b"\x0b"]


def test_an_adapter_without_held_out_texts_does_not_serve_in_int8_by_itself(
    model, tokeniser, adapter, tmp_path
):
    decision, found = _choice(tokeniser, tmp_path).decide(model, adapter, read_manifest(adapter))
    assert (decision.number_format, found) == ("fp32", None)
    assert "brings no held-out texts" in decision.reason


def test_the_builder_serves_what_was_decided_and_says_why(base, with_sample, settings, tmp_path, tokeniser):
    remembering = settings.model_copy(update={"precision": "auto", "number_formats": tmp_path})
    located, manifest = locate(str(base)), read_manifest(with_sample)
    builder = EngineBuilder(located, tokeniser, remembering, CPU, lambda _: dict(INT8_FIRST))
    built = builder.build(with_sample, manifest)
    (decision,) = decisions_of(tmp_path, manifest.content_hash)
    assert (built.number_format, built.why_format) == (decision.number_format, decision.reason)


def test_int8_that_was_asked_for_serves_and_says_how_far_it_is_off(base, with_sample, settings):
    classifier = load(str(base), with_sample, settings.model_copy(update={"precision": "int8"}))
    assert classifier.execution.number_format == "int8"
    assert "held-out texts" in classifier.execution.format_reason
    exact = load(str(base), with_sample, settings)
    for ours, theirs in zip(classifier.predict(TEXTS[:20]), exact.predict(TEXTS[:20]), strict=True):
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=0.05)


def test_the_answer_to_a_text_in_int8_depends_on_no_other_text(base, adapter, settings):
    quick = settings.model_copy(update={"precision": "int8", "cache_texts": 0, "batch_tokens": 4096})
    classifier = load(str(base), adapter, quick)
    together = classifier.predict(TEXTS[:12])
    alone = [classifier.predict([text])[0] for text in TEXTS[:12]]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=5e-3)


def test_int8_is_refused_where_no_packed_engine_computes_it(base, adapter, settings):
    with pytest.raises(ModelError, match="Only the packed engine computes in int8"):
        load(str(base), adapter, settings.model_copy(update={"precision": "int8", "engine": "general"}))


def test_a_format_must_be_clearly_faster_to_take_the_place_of_the_expected_one():
    rates = Rates(processor="", texts={"fp32": 100.0, "bf16": 205.0, "int8": 210.0})
    assert rates.ordered("bf16") == ["bf16"]
    assert rates.ordered("fp32") == ["int8", "bf16", "fp32"]


def test_every_format_is_timed_in_turns_by_the_clock_that_is_given(model):
    ticks = iter(range(1000))
    found = measure_formats(model.config, clock=lambda: float(next(ticks)))
    assert set(found) == {"fp32", "bf16", "int8"}
    assert len(set(found.values())) == 1


def test_agreement_states_each_reason_for_a_refusal():
    random = np.random.default_rng(1)
    exact = softmax(random.normal(size=(200, 3)) * 3)
    truth = exact.argmax(1)
    same = compare(exact, exact, truth)
    assert (same.labels, same.probability, same.macro_f1_points, same.reasons()) == (1.0, 0.0, 0.0, [])
    other = compare(exact, np.roll(exact, 1, axis=1), truth)
    reasons = " ".join(other.reasons())
    assert "of the labels agree" in reasons
    assert "probabilities differ" in reasons
    assert "macro-F1 falls" in reasons
    few = FormatAgreement(
        texts=20, labels=1.0, probability=0.0, macro_f1_points=0.0, low_points=0.0, high_points=0.0
    )
    assert "20 texts only" in few.reasons()[0]
    assert compare(exact, np.full_like(exact, np.nan), truth).reasons()


def test_weights_that_make_up_for_each_other_s_rounding_are_closer_than_plainly_rounded_ones():
    torch.manual_seed(0)
    x = torch.randn(500, 16) @ torch.randn(16, 48) + torch.randn(500, 48) / 10
    weight = torch.randn(24, 48)
    steps, scales = round_weights(weight, torch.cov(x.T))
    plainly = (weight / scales[:, None]).round() * scales[:, None]
    errors = [float((x @ (weight - found).T).square().mean()) for found in (steps * scales[:, None], plainly)]
    assert errors[0] < 0.7 * errors[1]


def test_no_pair_of_weights_is_cut_off_where_the_processor_adds_in_16_bits(monkeypatch):
    torch.manual_seed(0)
    x, weight = torch.randn(300, 48), torch.randn(24, 48)
    weight[:, 3] += 20  # beside a small one in most rows, and beside a large one in some
    weight[::3, 2] += 20
    monkeypatch.setattr(int8, "sums_of_pairs", lambda: "cut")
    steps, scales = int8.round_weights(weight, torch.cov(x.T))
    sums = steps.int()[:, ::2] + steps.int()[:, 1::2]
    assert int(sums.abs().max()) * 255 <= 2**15 - 1
    assert int(steps.abs().max()) > 100
    wrong = x @ (weight - steps * scales[:, None]).T
    assert float(wrong.square().mean()) < 0.01 * float((x @ weight.T).square().mean())


def test_bytes_are_rounded_to_the_nearest_and_cut_off_at_the_ends():
    levels = Levels(0.5, 128, torch.tensor([2.0]), torch.tensor([0.0]))
    x = torch.tensor([[0.0], [0.2], [0.3], [-1.0], [1e6], [-1e6]])
    assert levels.bytes_of(x).ravel().tolist() == [128, 128, 129, 126, 255, 0]


def test_a_row_that_is_not_finite_stays_so_through_int8(model, tokeniser):
    observed = take_apart(model, torch.float32, CPU, make=ObservedLinear)
    rows = tokeniser.encode(TEXTS[:8]).rows()
    PackedEngine(observed, 4096).answer(rows)
    encoder = in_int8(observed, attention=torch.float32)
    words = encoder.tables.words.clone()
    words[rows[3][2]] = torch.nan
    broken = dataclasses.replace(encoder, tables=dataclasses.replace(encoder.tables, words=words))
    finite = np.isfinite(PackedEngine(broken, 4096).answer(rows).logits).all(axis=1)
    assert finite.tolist() == [rows[3][2] not in row for row in rows]


def test_a_damaged_sample_is_an_error_of_the_adapter(with_sample, tmp_path):
    directory = tmp_path / "copy"
    shutil.copytree(with_sample, directory)
    (directory / SAMPLE).write_text('{"texts": ["one"], "labels": []}')
    with pytest.raises(AdapterError, match="each text needs one label"):
        read_sample(directory, 3)


def test_a_sample_is_bounded_and_spread_over_the_rows():
    texts = [f"text {number} " + "x" * 5000 for number in range(1000)]
    content = sample_file(texts, [number % 3 for number in range(1000)], 10)
    assert len(content) < 10 * 2100
    assert b"text 900" in content
