"""What a base says of texts without being fitted."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from classifier.base_model import BaseModel
from classifier.devices import choose_device, choose_dtype
from classifier.model import load_base
from classifier.tokenise import load_tokeniser
from classifier.verification import SHORT_PROBE_TEXTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from classifier.engine import Row
    from classifier.settings import ClassifierSettings

_BUDGET_TOKENS = 8192
_ANY_LABELS = 2  # the head is not looked at


class FrozenEmbedder:
    """Texts to the mean of their tokens' last hidden states.

    Args:
        base: The base model; nothing in it is fitted.
        classifier: Device and precision.
        max_length_tokens: Longer texts are cut.
    """

    def __init__(self, base: BaseModel, classifier: "ClassifierSettings", max_length_tokens: int) -> None:
        from classifier.engine.general import find_padding

        self._tokeniser = load_tokeniser(base, max_length_tokens)
        self.device = choose_device(classifier.device)
        dtype = choose_dtype(classifier.precision, self.device)
        whole = load_base(base, _ANY_LABELS)
        self._padding = find_padding(whole, self._tokeniser.encode(SHORT_PROBE_TEXTS).rows())
        # Of a pair, the encoder: the decoder wants words of its own.
        body = whole.get_encoder() if whole.config.is_encoder_decoder else whole.base_model
        self._model = body.eval().to(device=self.device, dtype=dtype)
        self.parameters = sum(value.numel() for value in self._model.parameters())

    def __call__(self, texts: "Sequence[str]") -> npt.NDArray[np.float32]:
        """float32 (texts, dimensions)."""
        import torch

        encoded = self._tokeniser.encode(texts)
        result = np.empty((len(encoded), self._model.config.hidden_size), np.float32)
        with torch.inference_mode():
            for batch in self._padding.plan(encoded.lengths, _BUDGET_TOKENS):
                rows = [encoded.text(int(index)) for index in batch]
                result[batch] = self._mean_states(rows).float().cpu().numpy()
        return result

    def _mean_states(self, rows: "list[Row]") -> "torch.Tensor":
        import torch

        inputs = self._padding.inputs(rows, self.device)
        states = self._model(**inputs).last_hidden_state  # (rows, longest, hidden)
        mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
        weights = mask[:, :, None].to(states.dtype)  # (rows, longest, 1)
        return (states * weights).sum(dim=1) / weights.sum(dim=1)  # type: ignore[no-any-return]
