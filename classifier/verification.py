"""Verification before use: an adapter must reproduce its probes, an engine the results of its model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.adapters.manifest import AdapterManifest
from classifier.calibration import Floats, softmax
from classifier.classifier import Classifier
from classifier.engine import Engine, Row
from classifier.tokenise import Encoded, Tokeniser
from reviews.errors import AdapterError

# Written for this purpose: clear, mixed, short and long. That they differ matters more than what they say.
PROBE_TEXTS = (
    "Great.",
    "It broke after two days and nobody answers my mails.",
    "Does what it says, nothing more, nothing less.",
    "Lovely colour, but the seams came apart in the first wash; a pity, I wanted to like it.",
    "Zwei Wochen gewartet, dann kam das falsche Modell.",
    (
        "I bought this for my father, who is hard to please. The box was dented and the manual a joke, yet "
        "the thing itself is solid, quiet and quick to set up, and he has used it every morning since. "
        "If the next one comes with a longer cable I will buy it again without a second thought."
    ),
)
"""Every adapter is asked these when it is made, and again before it serves."""
SHORT_PROBE_TEXTS = (PROBE_TEXTS[0], PROBE_TEXTS[1], PROBE_TEXTS[2], PROBE_TEXTS[4])
"""Of different lengths, and short: a model of billions of weights is asked on the CPU."""

# Largest differences of a probability that rounding explains; a wrong layer shows as a few tenths.
_EXACT_TOLERANCE = 2e-3
_ROUNDED_TOLERANCE = 0.06
_NOISE = 0.002


def verify(classifier: Classifier) -> None:
    """Warm a classifier up, and compare its answers with the probabilities that its adapter stores.

    Raises:
        AdapterError: If an answer differs by more than rounding explains.
    """
    probes = classifier.manifest.probes
    encoded = classifier.encode([probe.text for probe in probes] or ["Warm up."])
    found = softmax(classifier.logits(encoded), classifier.manifest.temperature)
    for row in _comparable(encoded, len(probes)):
        worst = float(np.abs(found[row] - probes[row].probabilities).max())
        if worst > _tolerance(exact=classifier.execution.number_format == "fp32"):
            raise AdapterError(
                f"Adapter {classifier.adapter_version} does not answer its own probe {row + 1} as it says "
                f"(a probability is off by {worst:.3f}); it may have been made with another base."
            )


def can_verify(manifest: AdapterManifest, tokeniser: Tokeniser) -> bool:
    """Whether an adapter stores answers that :func:`verify` can compare."""
    encoded = tokeniser.encode([probe.text for probe in manifest.probes])
    return bool(_comparable(encoded, len(manifest.probes)))


def _comparable(encoded: Encoded, probes: int) -> list[int]:
    """The probes that the model reads whole: in part, or in other windows, a text may get another answer."""
    if len(encoded.owners) != len(encoded):
        return []
    return [row for row in range(probes) if not encoded.truncated[row]]


def _tolerance(*, exact: bool) -> float:
    return _EXACT_TOLERANCE if exact else _ROUNDED_TOLERANCE


class EngineCheck:
    """Compares engines with the model they were made of.

    Args:
        rows: What both are asked: tokenised texts, and random rows.
        logits: float32 (rows, labels), the model's own, in fp32.
        exact: Whether the engines compute in fp32.
    """

    def __init__(self, rows: Sequence[Row], logits: npt.NDArray[np.float32], *, exact: bool) -> None:
        self._rows = rows
        self._expected: Floats = softmax(logits)
        self._tolerance = _tolerance(exact=exact)

    def difference(self, engine: Engine) -> float:
        """The largest difference of a probability from the model's; infinite where a logit is not finite."""
        found = np.abs(softmax(engine.answer(self._rows).logits) - self._expected).max()
        return float(found) if np.isfinite(found) else float("inf")

    def passes(self, engine: Engine) -> bool:
        """Whether rounding explains the difference."""
        return self.difference(engine) <= self._tolerance

    def no_worse(self, engine: Engine, other: Engine) -> bool:
        """Whether an engine is about as close to the model as another."""
        return self.difference(engine) <= 1.5 * self.difference(other) + _NOISE


def random_rows(config: Any) -> list[Row]:
    """Four rows of random ids, of several lengths, for a model with this configuration of transformers."""
    random = np.random.default_rng(0)
    longest = min(48, config.max_position_embeddings - 2 - (config.pad_token_id or 0))
    return [
        random.integers(0, config.vocab_size, length).astype(np.int32)
        for length in (longest, 7, 7, longest // 2)
    ]
