"""Chooses the number format of an adapter's packed engine: by measured speed, then by agreement with fp32.

Each format is timed on two layers in the shape of the model, with random weights: flags say which
instructions a processor has, and not how fast the kernels are that use them. The fastest format that answers
as fp32 does serves; int8 must show it on the adapter's held-out texts, bf16 by its probes, as always.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import structlog
import torch
from safetensors.torch import load, save
from transformers import BertConfig, BertForSequenceClassification

from classifier.adapters.manifest import AdapterManifest
from classifier.adapters.sample import HeldOutSample, read_sample
from classifier.base_model import quiet_transformers
from classifier.calibration import softmax
from classifier.devices import multiplies_bf16, why_format
from classifier.engine import Row
from classifier.engine.encoder import Encoder, take_apart
from classifier.engine.int8 import ObservedLinear, has_int8_products, in_int8
from classifier.engine.packed import PackedEngine
from classifier.number_formats import SAMPLE_TOKENS, Decision, FormatMemory, NumberFormat, Rates
from classifier.tokenise import Tokeniser
from classifier.trust import FormatAgreement, compare
from classifier.verification import PROBE_TEXTS
from reviews.errors import ModelError

log = structlog.get_logger()

CALIBRATION_TEXTS = 96
KEPT_LAYERS = (0, 2)
"""How many of the first layers are not in int8, in the order in which it is tried."""
_TEXTS, _REPETITIONS, _HOPELESS = 64, 5, 8.0
_LAST_LAYER = 1 / 6  # of a layer's products: keys and values
_CPU = torch.device("cpu")

Measure = Callable[[Any], dict[NumberFormat, float]]
"""A model's configuration to texts of 32 tokens that one core scores in a second, by number format."""


class Int8(NamedTuple):
    """An adapter's encoder in int8.

    Attributes:
        encoder: To serve.
        kept_layers: How many of its first layers are not in int8.
        agreement: With fp32 on the held-out sample; None where there is no sample.
    """

    encoder: Encoder
    kept_layers: int
    agreement: FormatAgreement | None


class FormatChoice:
    """Decides once for an adapter and a processor, and remembers it.

    Args:
        memory: Of measurements and decisions.
        tokeniser: Of the base.
        batch_tokens: Tokens in one forward pass.
        measure: Times the formats.
    """

    def __init__(
        self, memory: FormatMemory, tokeniser: Tokeniser, batch_tokens: int, measure: Measure | None = None
    ) -> None:
        self._memory = memory
        self._tokeniser = tokeniser
        self._batch_tokens = batch_tokens
        self._measure = measure or measure_formats

    def decide(
        self, model: Any, directory: Path, manifest: AdapterManifest
    ) -> tuple[Decision, Encoder | None]:
        """The number format for the adapter, and its encoder if that is int8.

        Args:
            model: In fp32, the adapter's matrices added in.
            directory: The adapter.
            manifest: Its manifest.

        Raises:
            AdapterError: If its held-out sample cannot be read.
        """
        decision = self._memory.decision(manifest.content_hash)
        if decision is not None:
            if decision.number_format != "int8":
                return decision, None
            sample = read_sample(directory, len(manifest.labels))
            return decision, self._int8(model, manifest, sample, (decision.kept_layers,), judge=False).encoder
        decision, encoder = self._decide_anew(model, directory, manifest)
        self._memory.keep_decision(manifest.content_hash, decision)
        log.info(
            "number_format_decided",
            adapter=manifest.version,
            format=decision.number_format,
            reason=decision.reason,
        )
        return decision, encoder

    def int8(self, model: Any, directory: Path, manifest: AdapterManifest) -> Int8:
        """The adapter in int8, because the settings ask for it; compared with fp32 where it has a sample."""
        sample = read_sample(directory, len(manifest.labels))
        return self._int8(model, manifest, sample, KEPT_LAYERS, judge=True)

    def rates(self, config: Any) -> Rates:
        """What was measured for models of this shape, now or before."""
        shape = shape_of(config)
        found = self._memory.rates(shape)
        if found is None:
            found = Rates(processor=self._memory.processor, texts=self._measure(config))
            self._memory.keep_rates(shape, found)
        return found

    def _decide_anew(
        self, model: Any, directory: Path, manifest: AdapterManifest
    ) -> tuple[Decision, Encoder | None]:
        rates, expected = self.rates(model.config), expected_format()
        refused, agreement = "", None
        for name in rates.ordered(expected):
            if name != "int8":
                reason = _why(name, expected, rates) + refused
                return self._decision(name, reason, rates, agreement=agreement), None
            sample = read_sample(directory, len(manifest.labels))
            if sample is None or not sample.texts:
                refused = "; int8 is faster, but the adapter brings no held-out texts to judge it by"
                continue
            found = self._int8(model, manifest, sample, KEPT_LAYERS, judge=True)
            agreement = found.agreement
            reasons = agreement.reasons() if agreement is not None else ["it was not compared"]
            if not reasons and agreement is not None:
                reason = f"{_why(name, expected, rates)}, and {agreement.describe()}"
                decision = self._decision(name, reason, rates, found.kept_layers, agreement)
                return decision, found.encoder
            refused = f"; int8 is faster and was refused: {'; '.join(reasons)}"
        raise AssertionError("the expected format is among those that are tried")

    def _decision(
        self,
        name: NumberFormat,
        reason: str,
        rates: Rates,
        kept_layers: int = 0,
        agreement: FormatAgreement | None = None,
    ) -> Decision:
        return Decision(
            number_format=name,
            kept_layers=kept_layers,
            reason=reason,
            processor=self._memory.processor,
            texts_per_second=rates.texts,
            agreement=agreement,
        )

    def _int8(
        self,
        model: Any,
        manifest: AdapterManifest,
        sample: HeldOutSample | None,
        tried: Sequence[int],
        *,
        judge: bool,
    ) -> Int8:
        if not has_int8_products():
            raise ModelError("This build of PyTorch has no int8 products for this processor; use auto.")
        observed = take_apart(model, torch.float32, _CPU, make=ObservedLinear)
        exact = PackedEngine(observed, self._batch_tokens)
        texts = [*PROBE_TEXTS, *(sample.texts[:CALIBRATION_TEXTS] if sample is not None else ())]
        observe = cache(lambda: exact.answer(self._tokeniser.encode(texts).rows()))
        # In a model of few layers the gain would be gone.
        tried = [kept for kept in tried if 3 * kept <= len(observed.layers)]
        encoders = ((kept, self._encoder(observed, observe, manifest.content_hash, kept)) for kept in tried)
        if not judge or sample is None or not sample.texts:
            kept, encoder = next(encoders)
            return Int8(encoder, kept, None)
        for kept, encoder in encoders:
            found = Int8(encoder, kept, self._agreement(encoder, model, sample, manifest.temperature))
            if found.agreement is not None and not found.agreement.reasons():
                break
        return found

    def _encoder(
        self, observed: Encoder, observe: Callable[[], object], content_hash: str, kept: int
    ) -> Encoder:
        """An adapter's encoder in int8: of the numbers that are kept, or made anew and kept."""
        found = self._memory.layers(content_hash, kept)
        numbers = {} if found is None else load(found)
        if found is None:
            observe()
        with _one_thread():
            encoder = in_int8(observed, attention=attention_format(), kept=kept, numbers=numbers)
        if found is None:
            self._memory.keep_layers(content_hash, kept, save(numbers))
        return encoder

    def _agreement(
        self, encoder: Encoder, model: Any, sample: HeldOutSample, temperature: float
    ) -> FormatAgreement:
        """On the texts that did not calibrate, where they are many enough."""
        enough = len(sample.texts) >= 2 * CALIBRATION_TEXTS
        judged = slice(CALIBRATION_TEXTS if enough else 0, None)
        encoded = self._tokeniser.encode(sample.texts[judged])
        exact = PackedEngine(take_apart(model, torch.float32, _CPU), self._batch_tokens)
        found = [
            softmax(engine.answer(encoded.rows()).logits, temperature)
            for engine in (exact, PackedEngine(encoder, self._batch_tokens))
        ]
        first = np.unique(encoded.owners, return_index=True)[1]  # of a text in several windows, the first
        return compare(found[0][first], found[1][first], sample.labels[judged])


def attention_format() -> torch.dtype:
    """The format of what int8 leaves: bf16 where the processor multiplies it."""
    return torch.bfloat16 if multiplies_bf16(_CPU) else torch.float32


def expected_format() -> NumberFormat:
    """The format that the processor's flags promise to be fastest, int8 aside."""
    return "bf16" if multiplies_bf16(_CPU) else "fp32"


def shape_of(config: Any) -> str:
    """A name for models that take the same time: ``384-1536-12-6``, width, wide layer, heads and layers."""
    return (
        f"{config.hidden_size}-{config.intermediate_size}-{config.num_attention_heads}"
        f"-{config.num_hidden_layers}"
    )


def measure_formats(config: Any, clock: Callable[[], float] = time.thread_time) -> dict[NumberFormat, float]:
    """Texts of 32 tokens that one core scores in a second, by number format, of a model in this shape.

    The formats take turns in one thread whose processor time is counted, and the best of each counts: other
    work on the machine makes a run slower and never faster. A format that takes eight times as long as fp32
    on a few rows has no kernel here, and is left out.
    """
    with ThreadPoolExecutor(1, "measure") as alone:
        return alone.submit(_measure, config, clock).result()


def _measure(config: Any, clock: Callable[[], float]) -> dict[NumberFormat, float]:
    with _one_thread():
        engines, rows = _engines(config), _random_rows(_TEXTS)
        first = {name: _seconds(engine, rows[:2], clock) for name, engine in engines.items()}
        usable = [name for name, seconds in first.items() if seconds <= _HOPELESS * first["fp32"]]
        for name in usable:
            engines[name].answer(rows)
        taken: dict[NumberFormat, list[float]] = {name: [] for name in usable}
        for _ in range(_REPETITIONS):
            for name in usable:
                taken[name].append(_seconds(engines[name], rows, clock, warm=False))
    layers = (config.num_hidden_layers - 1 + _LAST_LAYER) / (1 + _LAST_LAYER)
    return {name: round(_TEXTS / min(seconds) / layers, 1) for name, seconds in taken.items()}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Products of this thread, and of those that begin meanwhile, run in one thread.

    Many small steps wait longer for each other than they take: rounding MiniLM's weights took 21 s of
    processor time with two threads on a busy machine, and 2.4 s with one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _seconds(
    engine: PackedEngine, rows: list[Row], clock: Callable[[], float], *, warm: bool = True
) -> float:
    if warm:
        engine.answer(rows)
    began = clock()
    engine.answer(rows)
    return clock() - began


def _engines(config: Any) -> dict[NumberFormat, PackedEngine]:
    model = _two_layers(config)
    encoders: dict[NumberFormat, Encoder] = {
        "fp32": take_apart(model, torch.float32, _CPU),
        "bf16": dataclasses.replace(take_apart(model, torch.bfloat16, _CPU), by_products=True),
    }
    if has_int8_products():
        observed = take_apart(model, torch.float32, _CPU, make=ObservedLinear)
        PackedEngine(observed, _TEXTS * SAMPLE_TOKENS).answer(_random_rows(4))
        encoders["int8"] = in_int8(observed, attention=attention_format(), compensate=False)
    return {name: PackedEngine(encoder, _TEXTS * SAMPLE_TOKENS) for name, encoder in encoders.items()}


def _two_layers(config: Any) -> Any:
    shape = BertConfig(
        vocab_size=_TEXTS,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_attention_heads=config.num_attention_heads,
        num_hidden_layers=2,
        max_position_embeddings=SAMPLE_TOKENS,
    )
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BertForSequenceClassification(shape).eval()


def _random_rows(count: int) -> list[Row]:
    random = np.random.default_rng(0)
    return list(random.integers(0, _TEXTS, (count, SAMPLE_TOKENS)).astype(np.int32))


def _why(name: NumberFormat, expected: NumberFormat, rates: Rates) -> str:
    speeds = ", ".join(f"{form} {rate:,.0f}" for form, rate in rates.texts.items())
    said = "it is the fastest here" if name != expected else why_format("cpu", is_bf16=name == "bf16")
    return f"{said} (texts of {SAMPLE_TOKENS} tokens a second and core: {speeds})"
