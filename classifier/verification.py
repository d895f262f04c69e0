"""Nothing serves before it has shown that it answers as it should."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.calibration import softmax
from reviews.errors import AdapterError

if TYPE_CHECKING:
    from classifier.adapters.manifest import AdapterManifest
    from classifier.classifier import Classifier
    from classifier.engine import Engine, Row
    from classifier.tokenise import Encoded, Tokeniser

# Largest differences of a probability that rounding explains; a wrong layer shows as a few tenths.
_EXACT_TOLERANCE = 2e-3
_ROUNDED_TOLERANCE = 0.06
_NOISE = 0.002


def prove(classifier: "Classifier", *, exact: bool) -> None:
    """Warm a classifier up, and compare its answers with the probabilities that its adapter stores.

    Args:
        classifier: Before it serves.
        exact: Whether it computes in fp32.

    Raises:
        AdapterError: If an answer differs by more than rounding explains.
    """
    probes = classifier.manifest.probes
    encoded = classifier.encode([probe.text for probe in probes] or ["Warm up."])
    found = softmax(classifier.logits(encoded), classifier.manifest.temperature)
    for row in _comparable(encoded, len(probes)):
        probe = probes[row]
        worst = float(np.abs(found[row] - probe.probabilities).max())
        if worst > (_EXACT_TOLERANCE if exact else _ROUNDED_TOLERANCE):
            raise AdapterError(
                f"Adapter {classifier.adapter_version} does not answer its own probe {row + 1} as it says "
                f"(a probability is off by {worst:.3f}); it may have been made with another base."
            )


def can_prove(manifest: "AdapterManifest", tokeniser: "Tokeniser") -> bool:
    """Whether an adapter stores answers that :func:`prove` can compare."""
    encoded = tokeniser.encode([probe.text for probe in manifest.probes])
    return bool(_comparable(encoded, len(manifest.probes)))


def _comparable(encoded: "Encoded", probes: int) -> list[int]:
    """The probes that the model reads whole.

    Read in part, or under another rule for long texts, a text may well get another answer.
    """
    if len(encoded.owners) != len(encoded):
        return []
    return [row for row in range(probes) if not encoded.truncated[row]]


class Examiner:
    """Compares engines with the model they were made of, on real texts and on rows of chance.

    Args:
        model: In fp32 on the CPU.
        rows: Tokenised texts; rows of chance are added.
        exact: Whether the engines compute in fp32.
    """

    def __init__(self, model: Any, rows: "Sequence[Row]", *, exact: bool) -> None:
        import torch

        self._rows = [*rows, *_chance_rows(model.config)]
        self._tolerance = _EXACT_TOLERANCE if exact else _ROUNDED_TOLERANCE
        with torch.inference_mode():
            logits = [
                model(input_ids=torch.from_numpy(row)[None].long()).logits.numpy() for row in self._rows
            ]
        self._expected = softmax(np.concatenate(logits))

    def difference(self, engine: "Engine") -> float:
        """The largest difference of a probability from the model's; infinite where an answer is no number."""
        found = np.abs(softmax(engine.answer(self._rows).logits) - self._expected).max()
        return float(found) if np.isfinite(found) else float("inf")

    def passes(self, engine: "Engine") -> bool:
        """Whether rounding explains the difference."""
        return self.difference(engine) <= self._tolerance

    def no_worse(self, engine: "Engine", other: "Engine") -> bool:
        """Whether an engine is about as close to the model as another."""
        return self.difference(engine) <= 1.5 * self.difference(other) + _NOISE


def _chance_rows(config: Any) -> Sequence["Row"]:
    random = np.random.default_rng(0)
    longest = min(48, config.max_position_embeddings - 2 - (config.pad_token_id or 0))
    return [
        random.integers(0, config.vocab_size, length).astype(np.int32)
        for length in (longest, 7, 7, longest // 2)
    ]


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

SHORT_PROBE_TEXTS = (PROBE_TEXTS[0], PROBE_TEXTS[1], PROBE_TEXTS[2], PROBE_TEXTS[4])
"""Of different lengths, and short: a model of billions of weights is asked on the CPU."""
