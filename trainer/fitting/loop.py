"""The training loop; reproducible for the same seed on the same machine.

What a step does follows from the recipe and the step's number alone: the order of rows from seed and epoch,
dropout from seed and step. So a run that continues from a checkpoint ends where it would have ended.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from classifier.calibration import Floats, softmax
from classifier.engine.batching import padded_batches
from classifier.engine.general import Padding
from classifier.tokenise import Encoded
from trainer.errors import TrainingStopped
from trainer.fitting.checkpoint import Checkpoint
from trainer.fitting.fit_data import FitProgress, Position, Report
from trainer.fitting.process_group import ProcessGroup
from trainer.fitting.step_plan import StepPlan
from trainer.metrics import evaluate
from trainer.settings import TrainerSettings

_CHUNK_BATCHES = 50
_PARTS = ("weight", "first", "second", "kept")  # what a checkpoint holds of each fitted weight
Indices = npt.NDArray[np.int64]
Weights = dict[str, torch.Tensor]
_EVALUATION_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Rows:
    """Tokenised texts with their classes.

    Attributes:
        encoded: The texts.
        labels: int64 (texts).
        weights: float32 (texts), positive: how much each counts in its step; None: all the same.
    """

    encoded: Encoded
    labels: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32] | None = None


class FittingLoop:
    """One fitting of a model.

    Args:
        model: A peft model, or one whose every weight is fitted; on its device, fitted weights in fp32.
        settings: The recipe.
        padding: How the model takes rows of different lengths.
        dtype: Number format of the matrix products.
        group: The processes that fit it together.
    """

    def __init__(
        self,
        model: Any,
        settings: TrainerSettings,
        padding: Padding,
        dtype: torch.dtype = torch.float32,
        group: ProcessGroup | None = None,
    ) -> None:
        self._model = model
        self._settings = settings
        self._padding = padding
        self._dtype = dtype
        self._group = group or ProcessGroup()
        self._device = next(model.parameters()).device
        self._trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self._wrapped = self._group.wrap(model)
        self._optimiser = optimiser(self._trainable, settings)

    def run(
        self,
        train: Rows,
        validation: Rows,
        report: Report,
        checkpoint: Checkpoint | None = None,
        seconds: float | None = None,
    ) -> Position:
        """Fit on the training rows and leave the model at the epoch that validation speaks for.

        That is the last one whose macro-F1 is no more than a standard error below the best: few rows say
        little, and whatever is chosen by them jumps from seed to seed, while later epochs have learnt more.

        Args:
            train: Rows to learn from.
            validation: Rows to choose the epoch by.
            report: Called with every step.
            checkpoint: Where the state is kept, and continued from; None keeps none.
            seconds: The time that there is: as many steps are planned as fit; when it is up the best epoch
                so far is kept; before the first, what was fitted by then is validated. None: any time.

        Returns:
            The end: which epoch was kept, and how each of them did.

        Raises:
            TrainingStopped: If the loss is not finite any more, or the checkpoint cannot be written.
        """
        weights = self._row_weights(train)
        first = self._steps_of(train, 0)
        count = self._settings.epochs_for(len(first))
        epochs = [first, *(self._steps_of(train, epoch) for epoch in range(1, count))]
        tokens = int(validation.encoded.lengths.sum())
        # By one clock: every process takes as many steps as the others.
        plan = StepPlan(
            epochs, train.encoded.lengths, tokens, seconds, lambda: self._group.of_first(time.monotonic())
        )
        at, kept = self._start(checkpoint)
        while at.validated < plan.epochs and not self._has_patience_ended(at):
            epoch = at.validated + 1
            while at.steps < plan.end_of(epoch) and not (at.steps and plan.is_over):
                rate = rate_at(at.steps, plan.steps, self._settings)
                loss = self._step(train, weights, plan.step(at.steps), at.steps, rate)
                at.steps, at.losses = at.steps + 1, (at.losses[0] + loss, at.losses[1] + 1)
                plan.note_done(at.steps)
                if at.steps < plan.end_of(epoch):
                    report(FitProgress(epoch, at.steps, plan.steps, loss, rate))
                    if at.steps % self._settings.checkpoint_steps == 0:
                        self._save(checkpoint, at, kept)
            is_out_of_time = plan.is_over
            if is_out_of_time and at.validated and at.steps < plan.end_of(epoch):
                break  # part of an epoch is worth no look while there is a whole one
            kept = self._validate(validation, at, kept)
            mean = at.history[-1]["loss"]
            rate = rate_at(at.steps - 1, plan.steps, self._settings)
            metrics = {name: value for name, value in at.history[-1].items() if name != "loss"}
            report(
                FitProgress(epoch, at.steps, at.steps if is_out_of_time else plan.steps, mean, rate, metrics)
            )
            self._save(checkpoint, at, kept)
            if is_out_of_time:
                break
        self._restore(kept)
        return at

    def logits(self, encoded: Encoded) -> Floats:
        """float64 (texts, classes): the model's logits, dropout off; each process computes a part."""
        self._model.eval()
        result = np.zeros((len(encoded), self._model.config.num_labels))
        batches = list(padded_batches(encoded.lengths, _EVALUATION_TOKENS))
        with torch.inference_mode(), autocasting(self._device, self._dtype):
            for batch in batches[self._group.rank :: self._group.size]:
                for part in self._parts(encoded, batch):
                    logits = self._logits_of(self._model, encoded, batch[part])
                    result[batch[part]] = logits.float().cpu().numpy()
        return self._group.total(result)

    def _row_weights(self, rows: Rows) -> npt.NDArray[np.float32]:
        by_class = class_weights(rows.labels, self._model.config.num_labels, self._settings.class_weights)
        own = np.float32(1) if rows.weights is None else rows.weights
        return np.asarray(by_class[rows.labels] * own)

    def _steps_of(self, train: Rows, epoch: int) -> list[list[Indices]]:
        """The batches of an epoch, those of one optimiser step together."""
        batches = length_grouped_batches(
            train.encoded.lengths, self._settings.batch_size, self._settings.seed, epoch
        )
        size = self._settings.accumulation_steps
        return [batches[start : start + size] for start in range(0, len(batches), size)]

    def _step(
        self,
        rows: Rows,
        weights: npt.NDArray[np.float32],
        group: Sequence[Indices],
        step: int,
        rate: float,
    ) -> float:
        """One optimiser step; the mean loss of its rows, in nats."""
        self._seed(step)
        self._wrapped.train()
        total = float(sum(weights[batch].sum() for batch in group))
        loss_sum = 0.0
        for batch in group:
            share = self._group.share(batch)
            # A process without a row of a small batch still has to take part: with a row that weighs nothing.
            own = weights[share] if len(share) else np.zeros(1, np.float32)
            loss_sum += self._backward(rows, share if len(share) else batch[:1], own, total)
        torch.nn.utils.clip_grad_norm_(list(self._trainable.values()), self._settings.max_gradient_norm)
        set_rate(self._optimiser, rate)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        loss = float(self._group.total(np.array([loss_sum]))[0])
        if not math.isfinite(loss):
            raise TrainingStopped(
                f"The loss is {loss} at step {step + 1}: the run diverged; try a lower learning rate."
            )
        return loss

    def _backward(self, rows: Rows, batch: Indices, weights: npt.NDArray[np.float32], total: float) -> float:
        """Add the gradients of some rows; their part of the step's mean loss."""
        loss_sum = 0.0
        for part in self._parts(rows.encoded, batch):
            with autocasting(self._device, self._dtype):
                logits = self._logits_of(self._wrapped, rows.encoded, batch[part])
            targets = torch.from_numpy(rows.labels[batch[part]]).to(self._device)
            each = torch.from_numpy(weights[part]).to(self._device)
            loss = summed_loss(logits, targets, each, self._settings.label_smoothing) / total
            # DistributedDataParallel takes the mean of the gradients, a step needs their sum.
            (loss * self._group.size).backward()  # type: ignore[no-untyped-call]
            loss_sum += float(loss.detach())
        return loss_sum

    def _parts(self, encoded: Encoded, batch: Indices) -> list[Indices]:
        """Places in a batch whose rows may go through the model together: nearly always all of them.

        The processes of a group pad whatever padding does, as each has to take as many steps as the others.
        """
        if self._group.size > 1 or self._padding.side in ("right", "left"):
            return [np.arange(len(batch))]
        return list(self._padding.parts(encoded.lengths[batch]))

    def _seed(self, step: int) -> None:
        """Let dropout follow from seed, step and process alone."""
        state = np.random.SeedSequence([self._settings.seed, step, self._group.rank]).generate_state(1)
        torch.manual_seed(int(state[0]))

    def _logits_of(self, model: Any, encoded: Encoded, batch: Indices) -> torch.Tensor:
        """The logits (rows, classes) of some rows."""
        rows = [encoded.text(int(index)) for index in batch]
        return self._padding.run(model, rows, self._device)[0]

    def _validate(self, validation: Rows, at: Position, kept: Weights) -> Weights:
        """Measure the epoch; the weights to keep of all epochs so far."""
        metrics = evaluate(softmax(self.logits(validation.encoded)), validation.labels)
        at.history.append({"loss": at.losses[0] / max(1, at.losses[1]), **metrics})
        at.losses = (0.0, 0)
        at.validated += 1
        score = metrics["macro_f1"]
        if score > at.best_score:
            at.best_score, at.best_epoch = score, at.validated
        if score < at.best_score - standard_error(at.best_score, len(validation.labels)):
            return kept
        at.kept_epoch = at.validated
        return {name: value.detach().clone() for name, value in self._trainable.items()}

    def _has_patience_ended(self, at: Position) -> bool:
        patience = self._settings.patience_epochs
        return patience is not None and at.validated - at.best_epoch >= patience

    def _start(self, checkpoint: Checkpoint | None) -> tuple[Position, Weights]:
        """The position to start from and the weights kept by then; all else is put there."""
        saved = checkpoint.load() if checkpoint is not None else None
        if saved is None:
            return Position(), {}
        position, tensors = saved
        parts = {part: dict(_part(tensors, part)) for part in _PARTS}
        self._restore(parts["weight"])
        for name, value in self._trainable.items():
            if name in parts["first"]:
                self._optimiser.state[value] = {
                    "step": torch.tensor(float(position.steps), device=value.device),
                    "exp_avg": parts["first"][name].to(value.device),
                    "exp_avg_sq": parts["second"][name].to(value.device),
                }
        return position, parts["kept"]

    def _save(self, checkpoint: Checkpoint | None, at: Position, kept: Weights) -> None:
        if checkpoint is None or not self._group.is_first:
            return
        tensors = {f"weight.{name}": value.detach() for name, value in self._trainable.items()}
        tensors |= {f"kept.{name}": value for name, value in kept.items()}
        for name, value in self._trainable.items():
            state = self._optimiser.state.get(value)
            if state:
                tensors |= {f"first.{name}": state["exp_avg"], f"second.{name}": state["exp_avg_sq"]}
        checkpoint.save(at, tensors)

    def _restore(self, weights: Weights) -> None:
        with torch.no_grad():
            for name, value in weights.items():
                self._trainable[name].copy_(value)


def length_grouped_batches(
    lengths: npt.NDArray[np.integer], batch_size: int, seed: int, epoch: int
) -> list[npt.NDArray[np.int64]]:
    """One epoch of batches, each index once, the same for the same seed and epoch.

    Rows are shuffled, cut into chunks of 50 batches and sorted by length within each: a batch then needs
    little padding, while which rows meet still changes with every epoch. Batches are shuffled at the end.

    Args:
        lengths: integers (rows), tokens of each row.
        batch_size: Rows in a batch; the last may be smaller.
        seed: Of the whole run.
        epoch: Which epoch, from 0.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    batches: list[npt.NDArray[np.int64]] = []
    for start in range(0, len(order), batch_size * _CHUNK_BATCHES):
        chunk = order[start : start + batch_size * _CHUNK_BATCHES]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[at : at + batch_size] for at in range(0, len(chunk), batch_size)]
    return [batches[index] for index in random.permutation(len(batches))]


def class_weights(labels: npt.NDArray[np.integer], classes: int, mode: str) -> npt.NDArray[np.float32]:
    """float32 (classes): what a row of each class weighs; 1 on average over the rows.

    Args:
        labels: integers (rows).
        classes: How many classes there are; one without rows weighs 1.
        mode: ``none`` for equal weights, ``balanced`` for rows / (classes with rows · rows of the class).
    """
    counts = np.bincount(labels, minlength=classes)
    if mode == "none":
        return np.ones(classes, np.float32)
    present = max(1, int((counts > 0).sum()))
    return np.where(counts > 0, len(labels) / (present * np.maximum(counts, 1)), 1.0).astype(np.float32)


def summed_loss(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """float32 (): the weighted sum of the rows' cross-entropies, in nats.

    Args:
        logits: (rows, classes).
        targets: int64 (rows).
        weights: float32 (rows).
        smoothing: Share of a label's weight that is spread over all classes.
    """
    each = torch.nn.functional.cross_entropy(
        logits.float(), targets, reduction="none", label_smoothing=smoothing
    )
    return (each * weights).sum()


def standard_error(score: float, rows: int) -> float:
    """The standard error of a share that was found in so many rows; macro-F1 has about that of accuracy."""
    return math.sqrt(max(0.0, score * (1 - score)) / max(1, rows))


def rate_at(step: int, steps: int, settings: TrainerSettings) -> float:
    """The learning rate of a step (from 0): a linear rise over the warm-up, then a linear fall to zero."""
    warmup = max(1, math.ceil(steps * settings.warmup_fraction))
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    return settings.learning_rate * max(0.0, (steps - step) / max(1, steps - warmup))


def optimiser(trainable: Mapping[str, torch.nn.Parameter], settings: TrainerSettings) -> torch.optim.AdamW:
    """AdamW over the trainable weights; each group's ``ratio`` multiplies the rate of the step.

    ``lora+`` lets B learn ``loraplus_ratio`` times faster than A (Hayou, Ghosh, Yu: LoRA+, ICML 2024).
    """
    ratio = settings.loraplus_ratio if settings.peft_method == "lora+" else 1.0
    fast = [value for name, value in trainable.items() if "lora_B" in name and ratio != 1.0]
    chosen = {id(value) for value in fast}
    plain = [value for value in trainable.values() if id(value) not in chosen]
    groups = [
        {"params": values, "ratio": its_ratio}
        for values, its_ratio in ((plain, 1.0), (fast, ratio))
        if values
    ]
    # One fused kernel over all weights; the same numbers on every run.
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )


def set_rate(adamw: torch.optim.AdamW, rate: float) -> None:
    """Let the next step learn at this rate."""
    for group in adamw.param_groups:
        group["lr"] = rate * group["ratio"]


def autocasting(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Matrix products in that format; nothing changes for fp32."""
    reduced = dtype != torch.float32
    return torch.autocast(device.type, dtype=dtype if reduced else torch.bfloat16, enabled=reduced)


def hold_frozen(model: Any, dtype: torch.dtype, *, is_dora: bool) -> None:
    """Keep the frozen matrices in the format that they are multiplied in.

    Autocast keeps no cast of a frozen weight: it would be cast again in every pass. What is fitted stays
    fp32, and adapters take their input as it comes instead of widening it.
    """
    if dtype == torch.float32 or is_dora:
        return
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and not module.weight.requires_grad:
            module.to(dtype)
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False


def _part(tensors: dict[str, torch.Tensor], part: str) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in tensors.items():
        if name.startswith(f"{part}."):
            yield name.removeprefix(f"{part}."), tensor
