"""The features that a head reads: frozen, so a run computes each text once, whatever is fitted on them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from classifier.adapters.manifest import WEIGHTS, read_files, read_manifest
from classifier.base_model import BaseModel
from classifier.devices import choose_device, choose_dtype
from classifier.engine import Row
from classifier.model import check_base, load_base, merge
from classifier.settings import ClassifierSettings
from classifier.tokenise import load_tokeniser
from classifier.verification import SHORT_PROBE_TEXTS

if TYPE_CHECKING:
    import torch

_BUDGET_TOKENS = 8192
_ANY_LABELS = 2  # the head is not looked at
HEAD_MODULE = "classifier"
Floats32 = npt.NDArray[np.float32]
FeaturesOf = Callable[[Sequence[str]], Floats32]
"""Texts to float32 (texts, hidden)."""
Tell = Callable[[int, int], None]
"""Called with how many batches are done, and how many there are."""


class FrozenFeatures:
    """Texts to the mean over their tokens of the last layer's states.

    Args:
        base: The base model; nothing in it is fitted.
        classifier: Device and precision.
        max_length_tokens: Longer texts are cut.
        adapter: Directory of the adapter whose matrices take part, whatever its head reads; None for the
            base alone.

    Raises:
        ModelError: If the base cannot be loaded.
        AdapterError: If the adapter is damaged or belongs to another base.
    """

    def __init__(
        self,
        base: BaseModel,
        classifier: ClassifierSettings,
        max_length_tokens: int,
        adapter: Path | None = None,
    ) -> None:
        from classifier.engine.general import find_padding

        self._tokeniser = load_tokeniser(base, max_length_tokens)
        self.device = choose_device(classifier.device)
        dtype = choose_dtype(classifier.precision, self.device)
        whole = _model(base, classifier, adapter)
        self._padding = find_padding(whole, self._tokeniser.encode(SHORT_PROBE_TEXTS).rows())
        # Of a pair, the encoder: the decoder wants words of its own.
        body = whole.get_encoder() if whole.config.is_encoder_decoder else whole.base_model
        self._model = body.eval().to(device=self.device, dtype=dtype)
        self.parameters = sum(value.numel() for value in self._model.parameters())

    @property
    def is_causal(self) -> bool:
        """Whether a token's state knows only what comes before it, as in a decoder."""
        return self._padding.is_causal

    def __call__(self, texts: Sequence[str], tell: Tell = lambda _done, _of: None) -> Floats32:
        """float32 (texts, hidden).

        Args:
            texts: In any order.
            tell: Called before each batch with how many are done, and how many there are; it may refuse to
                go on.
        """
        import torch

        encoded = self._tokeniser.encode(texts)
        result = np.empty((len(encoded), self._model.config.get_text_config().hidden_size), np.float32)
        batches = list(self._padding.plan(encoded.lengths, _BUDGET_TOKENS))
        with torch.inference_mode():
            for done, batch in enumerate(batches):
                tell(done, len(batches))
                rows = [encoded.text(int(index)) for index in batch]
                result[batch] = self._mean_states(rows).cpu().numpy()
        return result

    def _mean_states(self, rows: Sequence[Row]) -> "torch.Tensor":
        import torch

        from classifier.engine.pooling import mean_of_tokens

        inputs = self._padding.inputs(rows, self.device)
        states = self._model(**inputs).last_hidden_state  # (rows, longest, hidden)
        return mean_of_tokens(states, inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])))


def _model(base: BaseModel, classifier: ClassifierSettings, adapter: Path | None) -> Any:
    if adapter is None:
        return load_base(base, _ANY_LABELS)
    manifest = read_manifest(adapter, classifier.task)
    check_base(base, manifest)
    return merge(load_base(base, len(manifest.labels), manifest.pooling), adapter, manifest)


def changes_nothing(adapter: Path) -> bool:
    """Whether an adapter's matrices leave its base as it is, as where only its head was ever fitted.

    Raises:
        AdapterError: If the adapter is damaged.
    """
    import safetensors.torch

    tensors = safetensors.torch.load(read_files(adapter)[1][WEIGHTS])
    ups = [tensor for name, tensor in tensors.items() if ".lora_B." in name]
    whole = [name for name in tensors if ".lora_" not in name and f".{HEAD_MODULE}." not in name]
    return bool(ups) and not whole and not any(bool(tensor.any()) for tensor in ups)


class KeptFeatures:
    """The features of one run: a model computes each text once, and is released when it has.

    Args:
        classifier: Device and precision.

    Attributes:
        tell: Called before each batch of texts that a model computes; it may refuse to go on.
    """

    def __init__(self, classifier: ClassifierSettings) -> None:
        self.tell: Tell = lambda _done, _of: None
        self._classifier = classifier
        self._known: dict[tuple[object, ...], dict[str, Floats32]] = {}

    def of(self, base: BaseModel, max_length_tokens: int, adapter: Path | None = None) -> FeaturesOf:
        """What gives the features of a model.

        Args:
            base: The base model.
            max_length_tokens: Longer texts are cut.
            adapter: Directory of the adapter whose matrices take part; None for the base alone.

        Raises:
            AdapterError: If the adapter is damaged.
        """
        version = None if adapter is None else read_manifest(adapter, self._classifier.task).content_hash
        if adapter is not None and changes_nothing(adapter):
            adapter, version = None, None  # the base's own
        known = self._known.setdefault((base.weights_sha256, max_length_tokens, version), {})

        def features(texts: Sequence[str]) -> Floats32:
            unknown = [text for text in dict.fromkeys(texts) if text not in known]
            if unknown:
                model = FrozenFeatures(base, self._classifier, max_length_tokens, adapter)
                computed = model(unknown, self.tell)
                known.update(zip(unknown, computed, strict=True))
            return np.stack([known[text] for text in texts])

        return features
