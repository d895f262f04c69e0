"""Chooses the number format of an adapter's packed engine: by measured speed, then by agreement with fp32.

Each format is timed on two layers in the shape of the model, with random weights: flags say which
instructions a processor has, and not how fast the kernels are that use them. The fastest format that answers
as fp32 does serves; int8 must show it on the adapter's held-out texts, bf16 by its probes, as always.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
from classifier.engine.int8 import ObservedLinear, in_int8, not_in_int8
from classifier.engine.int8_products import has_int8_products
from classifier.engine.near_ties import NearTies, gap_of, near_ties
from classifier.engine.packed import PackedEngine
from classifier.number_formats import MARGIN, SAMPLE_TOKENS, Decision, FormatMemory, NumberFormat, Rates
from classifier.tokenise import Tokeniser
from classifier.trust import FormatAgreement, compare
from classifier.verification import PROBE_TEXTS
from reviews.errors import ModelError

log = structlog.get_logger()

CALIBRATION_TEXTS = 96
_TEXTS, _REPETITIONS, _HOPELESS = 64, 5, 8.0
_LAST_LAYER = 1 / 6  # of a layer's products: keys and values
_CPU = torch.device("cpu")
_GAP = "near_ties.gap"  # among the numbers of an adapter's layers

Measure = Callable[[Any], dict[NumberFormat, float]]
"""A model's configuration to texts of 32 tokens that one core scores in a second, by number format."""


class Int8(NamedTuple):
    """An adapter in int8.

    Attributes:
        encoder: To serve.
        careful: The same in bf16 or fp32, for near ties.
        gap: Of near ties, as :class:`classifier.engine.near_ties.NearTies` takes it.
        agreement: With fp32 on the held-out sample; None where there is no sample, or it was not asked for.
    """

    encoder: Encoder
    careful: Encoder
    gap: float
    agreement: FormatAgreement | None = None

    def engine(self, batch_tokens: int) -> NearTies:
        """The engine that serves.

        Args:
            batch_tokens: Most tokens in one forward pass.
        """
        return NearTies(
            PackedEngine(self.encoder, batch_tokens), PackedEngine(self.careful, batch_tokens), self.gap
        )


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

    def decide(self, model: Any, directory: Path, manifest: AdapterManifest) -> tuple[Decision, Int8 | None]:
        """The number format for the adapter, and the adapter in int8 if it is that.

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
            return decision, self._int8(model, manifest, sample, judge=False)
        decision, found = self._decide_anew(model, directory, manifest)
        self._memory.keep_decision(manifest.content_hash, decision)
        log.info(
            "number_format_decided",
            adapter=manifest.version,
            format=decision.number_format,
            reason=decision.reason,
        )
        return decision, found

    def int8(self, model: Any, directory: Path, manifest: AdapterManifest) -> Int8:
        """The adapter in int8, because the settings ask for it; compared with fp32 where it has a sample."""
        sample = read_sample(directory, len(manifest.labels))
        return self._int8(model, manifest, sample, judge=True)

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
    ) -> tuple[Decision, Int8 | None]:
        rates, expected = self.rates(model.config), expected_format()
        refused, agreement = "", None
        for name in rates.ordered(expected):
            if name != "int8":
                reason = _why(name, expected, rates) + refused
                return self._decision(name, reason, rates, agreement), None
            sample = read_sample(directory, len(manifest.labels))
            if sample is None or not sample.texts:
                refused = "; int8 is faster, but the adapter brings no held-out texts to judge it by"
                continue
            found = self._int8(model, manifest, sample, judge=True)
            agreement = found.agreement
            if agreement is None:
                raise AssertionError("it was asked for, and there is a sample")
            reasons = [*agreement.reasons(), *_too_slow(rates, expected, agreement.scored_again)]
            if not reasons:
                reason = f"{_why(name, expected, rates)}, and {agreement.describe()}"
                return self._decision(name, reason, rates, agreement), found
            refused = f"; int8 is faster and was refused: {'; '.join(reasons)}"
        raise AssertionError("the expected format is among those that are tried")

    def _decision(
        self,
        name: NumberFormat,
        reason: str,
        rates: Rates,
        agreement: FormatAgreement | None,
    ) -> Decision:
        return Decision(
            number_format=name,
            reason=reason,
            processor=self._memory.processor,
            texts_per_second=rates.texts,
            agreement=agreement,
        )

    def _int8(
        self, model: Any, manifest: AdapterManifest, sample: HeldOutSample | None, *, judge: bool
    ) -> Int8:
        if not has_int8_products():
            raise ModelError("This build of PyTorch has no int8 products for this processor; use auto.")
        observed = take_apart(model, torch.float32, _CPU, make=ObservedLinear)
        texts = [*PROBE_TEXTS, *(sample.texts[:CALIBRATION_TEXTS] if sample is not None else ())]
        rows = self._tokeniser.encode(texts).rows()
        encoder, gap = self._encoder(observed, rows, manifest.content_hash)
        found = Int8(encoder, not_in_int8(observed, attention=attention_format()), gap)
        if not judge or sample is None or not sample.texts:
            return found
        return found._replace(agreement=self._agreement(found, model, sample, manifest.temperature))

    def _encoder(self, observed: Encoder, rows: list[Row], content_hash: str) -> tuple[Encoder, float]:
        """An adapter's encoder in int8, and its gap of near ties: kept ones, or made anew and kept."""
        kept = self._memory.layers(content_hash)
        numbers = {} if kept is None else load(kept)
        exact = PackedEngine(observed, self._batch_tokens).answer(rows) if kept is None else None
        with _one_thread():
            encoder = in_int8(observed, attention=attention_format(), numbers=numbers)
        if exact is not None:
            fast = PackedEngine(encoder, self._batch_tokens).answer(rows)
            numbers[_GAP] = torch.tensor(gap_of(exact.logits, fast.logits))
            self._memory.keep_layers(content_hash, save(numbers))
        return encoder, float(numbers[_GAP])

    def _agreement(
        self, found: Int8, model: Any, sample: HeldOutSample, temperature: float
    ) -> FormatAgreement:
        """On the texts that did not calibrate, where they are many enough."""
        enough = len(sample.texts) >= 2 * CALIBRATION_TEXTS
        judged = slice(CALIBRATION_TEXTS if enough else 0, None)
        encoded = self._tokeniser.encode(sample.texts[judged])
        rows = encoded.rows()
        fast = PackedEngine(found.encoder, self._batch_tokens).answer(rows)
        again = float(near_ties(fast.logits, found.gap).mean())
        exact = PackedEngine(take_apart(model, torch.float32, _CPU), self._batch_tokens).answer(rows)
        served = found.engine(self._batch_tokens).answer(rows)
        first = np.unique(encoded.owners, return_index=True)[1]  # of a text in several windows, the first
        true, ours = (softmax(answers.logits, temperature)[first] for answers in (exact, served))
        return compare(true, ours, sample.labels[judged], scored_again=again)


def _too_slow(rates: Rates, expected: NumberFormat, scored_again: float) -> list[str]:
    """Why int8 is not clearly faster once near ties are scored again; empty where it is."""
    ours = rates.texts[expected]
    rate = 1 / (1 / rates.texts["int8"] + scored_again / ours)
    if rate >= MARGIN * ours:
        return []
    again = f"{scored_again:.0%} of the texts would be scored again in {expected}"
    return [f"{again}, which leaves {rate:,.0f} texts a second"]


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
