"""What a base says of texts without being fitted."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from classifier.base_model import BaseModel
from classifier.batching import padded_batches
from classifier.devices import choose_device, choose_dtype
from classifier.merging import load_base
from classifier.tokenise import load_tokeniser

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

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
        self._tokeniser = load_tokeniser(base, max_length_tokens)
        self.device = choose_device(classifier.device)
        dtype = choose_dtype(classifier.precision, self.device)
        whole = load_base(base, _ANY_LABELS)
        self._model = whole.base_model.eval().to(device=self.device, dtype=dtype)
        self._pad_id = whole.config.pad_token_id or 0
        self.parameters = sum(value.numel() for value in self._model.parameters())

    def __call__(self, texts: "Sequence[str]") -> npt.NDArray[np.float32]:
        """float32 (texts, dimensions)."""
        import torch

        encoded = self._tokeniser.encode(texts)
        result = np.empty((len(encoded), self._model.config.hidden_size), np.float32)
        with torch.inference_mode():
            for batch in padded_batches(encoded.lengths, _BUDGET_TOKENS):
                rows = [torch.from_numpy(encoded.text(int(index)).astype(np.int64)) for index in batch]
                result[batch] = self._mean_states(rows).float().cpu().numpy()
        return result

    def _mean_states(self, rows: "list[torch.Tensor]") -> "torch.Tensor":
        import torch

        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self._pad_id)
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).to(self.device)  # (rows, longest)
        states = self._model(input_ids=ids.to(self.device), attention_mask=mask.long()).last_hidden_state
        weights = mask[:, :, None].to(states.dtype)  # (rows, longest, 1)
        return (states * weights).sum(dim=1) / weights.sum(dim=1)  # type: ignore[no-any-return]
