"""The engine for any sequence-classification architecture: the model as it is, on sorted batches."""

from collections.abc import Sequence
from typing import Any

import torch

from classifier.engine import Answers, Row
from classifier.engine.budget import TokenBudget, answer_within
from classifier.engine.padding import Padding


class GeneralEngine:
    """Runs a transformers model on batches sorted by length.

    Args:
        model: A sequence-classification model in evaluation mode on its device, adapters merged.
        batch_tokens: Most tokens in one forward pass, padding included.
        padding: How the model takes rows of different lengths; None: padded on the right.
    """

    name = "general"

    def __init__(self, model: Any, batch_tokens: int, padding: Padding | None = None) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        self._padding = padding or Padding(model.config)
        self._budget = TokenBudget(batch_tokens)

    def answer(self, rows: Sequence[Row], *, embed: bool = False) -> Answers:
        """Logits, and embeddings if asked for, in the order of the rows."""
        with torch.inference_mode():
            return answer_within(self._budget, self._padding.plan, self._forward, rows, embed=embed)

    def _forward(self, rows: Sequence[Row], embed: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self._padding.run(self._model, rows, self._device, embed=embed)
