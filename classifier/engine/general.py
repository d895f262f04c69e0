"""The engine for any sequence-classification architecture: padded batches through the model as it is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from classifier.batching import padded_batches


class GeneralEngine:
    """Runs a transformers model on batches sorted by length.

    Args:
        model: A sequence-classification model in evaluation mode, adapters merged.
        device: Where it lies.
        pad_id: The tokeniser's padding id.
        batch_tokens: Most tokens in one forward pass, padding included.
    """

    def __init__(self, model: Any, device: torch.device, pad_id: int, batch_tokens: int) -> None:
        self._model = model
        self._device = device
        self._pad_id = pad_id
        self._batch_tokens = batch_tokens

    def logits(self, rows: Sequence[npt.NDArray[np.int32]]) -> npt.NDArray[np.float32]:
        """float32 (rows, labels), in the order of the rows."""
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        result = np.empty((len(rows), self._model.config.num_labels), np.float32)
        with torch.inference_mode():
            for batch in padded_batches(lengths, self._batch_tokens):
                result[batch] = self._forward([rows[index] for index in batch]).float().cpu().numpy()
        return result

    def _forward(self, rows: Sequence[npt.NDArray[np.int32]]) -> torch.Tensor:
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self._pad_id, dtype=torch.long)  # (rows, longest)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)  # (rows, longest)
        for position, row in enumerate(rows):
            ids[position, : len(row)] = torch.from_numpy(row)
            mask[position, : len(row)] = 1
        output = self._model(input_ids=ids.to(self._device), attention_mask=mask.to(self._device))
        return output.logits  # type: ignore[no-any-return]  # (rows, labels)
