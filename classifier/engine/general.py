"""The engine for any sequence-classification architecture: padded batches through the model as it is."""

from collections.abc import Sequence
from typing import Any

import torch

from classifier.batching import padded_batches
from classifier.engine import Answers, Row
from classifier.engine.budget import TokenBudget, answer_within


class GeneralEngine:
    """Runs a transformers model on batches sorted by length.

    Args:
        model: A sequence-classification model in evaluation mode on its device, adapters merged.
        batch_tokens: Most tokens in one forward pass, padding included.
    """

    name = "general"

    def __init__(self, model: Any, batch_tokens: int) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        self._pad_id = model.config.pad_token_id or 0
        self._budget = TokenBudget(batch_tokens)

    def answer(self, rows: Sequence[Row], *, embed: bool = False) -> Answers:
        """Logits, and embeddings if asked for, in the order of the rows."""
        with torch.inference_mode():
            return answer_within(self._budget, padded_batches, self._forward, rows, embed=embed)

    def _forward(self, rows: Sequence[Row], embed: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self._pad_id, dtype=torch.long)  # (rows, longest)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)  # (rows, longest)
        for position, row in enumerate(rows):
            ids[position, : len(row)] = torch.from_numpy(row)
            mask[position, : len(row)] = 1
        output = self._model(
            input_ids=ids.to(self._device), attention_mask=mask.to(self._device), output_hidden_states=embed
        )
        return output.logits, output.hidden_states[-1][:, 0] if embed else None
