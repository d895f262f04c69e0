"""The fitting loop: one adapter from labelled rows, the same one for the same seed on the same machine."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from classifier.batching import padded_batches
from classifier.calibration import Floats, softmax
from trainer.batches import length_grouped_batches
from trainer.metrics import evaluate

if TYPE_CHECKING:
    from classifier.tokenise import Encoded
    from trainer.settings import TrainerSettings

Report = Callable[["Progress"], None]


@dataclass(frozen=True, slots=True)
class Rows:
    """Tokenised texts with their classes: ``labels`` int64 (texts)."""

    encoded: "Encoded"
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the fitting is.

    Attributes:
        epoch: From 1.
        step: Optimiser steps done, over all epochs.
        steps: Optimiser steps in all.
        loss: Mean cross-entropy of the last batch, in nats.
        learning_rate: Of that step.
        validation: Metrics on the validation rows, after the last step of an epoch.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    learning_rate: float
    validation: dict[str, float] | None = None


def rate_at(step: int, steps: int, settings: "TrainerSettings") -> float:
    """The learning rate of a step (from 0): a linear rise over the warm-up, then a linear fall to zero."""
    warmup = max(1, math.ceil(steps * settings.warmup_fraction))
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    return settings.learning_rate * max(0.0, (steps - step) / max(1, steps - warmup))


class Fit:
    """One fitting of a peft model.

    Args:
        model: A peft model in fp32 on its device.
        settings: The recipe.
        pad_id: The tokeniser's padding id.
        autocast: Number format of the matrix products; None for fp32.
    """

    def __init__(
        self, model: Any, settings: "TrainerSettings", pad_id: int, autocast: torch.dtype | None = None
    ) -> None:
        self._model = model
        self._settings = settings
        self._pad_id = pad_id
        self._autocast = autocast
        self._device = next(model.parameters()).device
        self._trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}

    def run(self, train: Rows, validation: Rows, report: Report) -> int:
        """Fit on the training rows and leave the model at its best epoch by validation macro-F1.

        Args:
            train: Rows to learn from.
            validation: Rows to choose the epoch by.
            report: Told of every step.

        Returns:
            The epoch that was kept, from 1.
        """
        optimiser = torch.optim.AdamW(
            self._trainable.values(),
            lr=self._settings.learning_rate,
            weight_decay=self._settings.weight_decay,
        )
        plan = [
            length_grouped_batches(
                train.encoded.lengths, self._settings.batch_size, self._settings.seed, epoch
            )
            for epoch in range(self._settings.epochs)
        ]
        steps = sum(map(len, plan))
        best_score, best_epoch, best_weights, step = -1.0, 0, self._snapshot(), 0
        for epoch, batches in enumerate(plan, start=1):
            self._model.train()
            for position, batch in enumerate(batches):
                rate = rate_at(step, steps, self._settings)
                loss = self._step(optimiser, train, batch, rate)
                step += 1
                if position < len(batches) - 1:
                    report(Progress(epoch, step, steps, loss, rate))
            metrics = evaluate(softmax(self.logits(validation.encoded)), validation.labels)
            report(Progress(epoch, step, steps, loss, rate, metrics))
            if metrics["macro_f1"] > best_score:
                best_score, best_epoch, best_weights = metrics["macro_f1"], epoch, self._snapshot()
        self._restore(best_weights)
        return best_epoch

    def logits(self, encoded: "Encoded", budget_tokens: int = 8192) -> Floats:
        """float64 (texts, classes): the model's answers, dropout off."""
        self._model.eval()
        result = np.empty((len(encoded), self._model.config.num_labels))
        with torch.inference_mode(), self._autocasting():
            for batch in padded_batches(encoded.lengths, budget_tokens):
                output = self._model(**self._padded(encoded, batch)).logits
                result[batch] = output.float().cpu().numpy()
        return result

    def _step(
        self, optimiser: torch.optim.Optimizer, rows: Rows, batch: npt.NDArray[np.int64], rate: float
    ) -> float:
        for group in optimiser.param_groups:
            group["lr"] = rate
        with self._autocasting():
            logits = self._model(**self._padded(rows.encoded, batch)).logits
        targets = torch.from_numpy(rows.labels[batch]).to(self._device)
        loss = torch.nn.functional.cross_entropy(logits.float(), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(self._trainable.values()), self._settings.max_gradient_norm)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return float(loss.detach())

    def _padded(self, encoded: "Encoded", batch: npt.NDArray[np.int64]) -> dict[str, torch.Tensor]:
        rows = [torch.from_numpy(encoded.text(int(index)).astype(np.int64)) for index in batch]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self._pad_id)
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()  # (rows, longest)
        return {"input_ids": ids.to(self._device), "attention_mask": mask.to(self._device)}

    def _autocasting(self) -> Any:
        return torch.autocast(
            self._device.type, dtype=self._autocast or torch.bfloat16, enabled=self._autocast is not None
        )

    def _snapshot(self) -> dict[str, torch.Tensor]:
        return {name: value.detach().clone() for name, value in self._trainable.items()}

    def _restore(self, weights: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, value in self._trainable.items():
                value.copy_(weights[name])
