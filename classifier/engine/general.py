"""The engine for any architecture: the model as it is, on sorted batches, padded as it does not mind.

Architectures differ in what padding does to them. Most encoders ignore it on the right. A decoder's head
reads the last token that is not padding, found by the padding's id, which many decoders do not have. XLNet
reads the last token wherever it is, so that padding belongs on the left. FNet mixes all tokens, ConvBERT and
MobileBERT mix neighbours, padding included. So no list of names is kept: the model is asked, once, whether
padded rows get the answers that they get alone.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from classifier.engine import EngineOutput, Row
from classifier.engine.batching import (
    Indices,
    Lengths,
    Plan,
    TokenBudget,
    answer_within,
    equal_batches,
    padded_batches,
    single_batches,
)
from reviews.errors import ModelError

Side = Literal["right", "left", "none", "alone"]
"""Where padding goes; ``none``: only rows of one length go together; ``alone``: each row goes by itself."""

_PLANS: dict[Side, Plan] = {
    "right": padded_batches,
    "left": padded_batches,
    "none": equal_batches,
    "alone": single_batches,
}
_TOLERANCE = 1e-3  # of the largest logit: more than rounding in fp32 explains, less than a label shows
# What models of transformers raise of inputs that they do not take.
_REFUSALS = (ValueError, IndexError, TypeError, AttributeError, NotImplementedError, RuntimeError)


class GeneralEngine:
    """Runs a transformers model on batches sorted by length.

    Args:
        model: A sequence-classification model in evaluation mode on its device, adapters merged.
        batch_tokens: Most tokens in one forward pass, padding included.
        padding: How the model takes rows of different lengths; None: padded on the right.
    """

    name = "general"

    def __init__(self, model: Any, batch_tokens: int, padding: "Padding | None" = None) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        self._padding = padding or Padding(model.config)
        self._budget = TokenBudget(batch_tokens)

    def answer(self, rows: Sequence[Row], *, embed: bool = False) -> EngineOutput:
        """Logits, and embeddings if asked for, in the order of the rows."""
        with torch.inference_mode():
            return answer_within(self._budget, self._padding.plan, self._forward, rows, embed=embed)

    def _forward(self, rows: Sequence[Row], embed: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self._padding.run(self._model, rows, self._device, embed=embed)


class Padding:
    """One model's way to take several rows at once; may be used by one thread at a time for each model.

    Args:
        config: The model's configuration; its padding id is read, and named where it has none.
        side: Where padding goes.
        is_causal: Whether a token sees only those before it, so that the last one has seen the text.
    """

    def __init__(self, config: Any, side: Side = "right", *, is_causal: bool = False) -> None:
        self.side = side
        self.is_causal = is_causal
        self._config = config.get_text_config()
        own = self._config.pad_token_id
        # -1 and the like are ids of nothing: the model does not look for them.
        self._own_id: int | None = own if own is not None and 0 <= own < self._config.vocab_size else None
        self._naming = threading.Lock()

    @property
    def plan(self) -> Plan:
        """How rows become batches: see :mod:`classifier.engine.batching`."""
        return _PLANS[self.side]

    def run(
        self, model: Any, rows: Sequence[Row], device: torch.device, *, embed: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """One forward pass: logits (rows, labels), and states (rows, hidden) if asked for and given.

        A state is the last layer's at the first token; at the last one where a token sees no further; the
        mean over the tokens where the model's head reads that.

        Args:
            model: The model, or what wraps it.
            rows: A batch of the plan.
            device: Where the model is.
            embed: Whether to return states.
        """
        try:
            with self._naming:
                return self._run(model, rows, device, embed=embed)
        except ValueError:
            # BART and T5 refuse rows together of which one has the end of a text written out in it.
            if len(rows) == 1:
                raise
        parts = [self.run(model, [row], device, embed=embed) for row in rows]
        states = [part[1] for part in parts if part[1] is not None]
        return torch.cat([part[0] for part in parts]), torch.cat(states) if states else None

    def parts(self, lengths: Lengths) -> Iterator[Indices]:
        """Indices of those rows of a batch that may go together, each index once."""
        return self.plan(lengths, int(lengths.sum()) * len(lengths))

    def _run(
        self, model: Any, rows: Sequence[Row], device: torch.device, *, embed: bool
    ) -> tuple[Tensor, Tensor | None]:
        named = self._config.pad_token_id
        pad_id = self._pad_id(rows)
        # Decoders look for the last token that is not padding; they take no second row without an id of it.
        self._config.pad_token_id = pad_id if self._own_id is None and len(rows) > 1 else named
        try:
            output = model(**self.inputs(rows, device, pad_id), output_hidden_states=embed)
        finally:
            self._config.pad_token_id = named
        return output.logits, self._states(output, rows) if embed else None

    def inputs(
        self, rows: Sequence[Row], device: torch.device, pad_id: int | None = None
    ) -> dict[str, Tensor]:
        """Ids and, where rows differ in length, the mask: both int64 (rows, longest)."""
        pad_id = self._pad_id(rows) if pad_id is None else pad_id
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), pad_id, dtype=torch.long)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        for index, row in enumerate(rows):
            start = longest - len(row) if self.side == "left" else 0
            ids[index, start : start + len(row)] = torch.from_numpy(row)
            mask[index, start : start + len(row)] = 1
        found = {"input_ids": ids.to(device)}
        return found if bool(mask.all()) else found | {"attention_mask": mask.to(device)}

    def _pad_id(self, rows: Sequence[Row]) -> int:
        """The model's own, else an id that no row ends with: the last token is then no padding."""
        if self._own_id is not None:
            return self._own_id
        last = {int(row[-1]) for row in rows}
        return next(number for number in range(len(rows) + 1) if number not in last)

    def _states(self, output: Any, rows: Sequence[Row]) -> Tensor | None:
        pooled: Tensor | None = getattr(output, "pooled", None)
        if pooled is not None:
            return pooled
        layers = getattr(output, "hidden_states", None) or getattr(output, "decoder_hidden_states", None)
        if not layers:
            return None
        states: Tensor = layers[-1]  # (rows, longest, hidden)
        lengths = torch.tensor([len(row) for row in rows])
        longest = int(lengths.max())
        first = longest - lengths if self.side == "left" else torch.zeros_like(lengths)
        place = first + lengths - 1 if self.is_causal else first
        return states[torch.arange(len(rows)), place]


def find_padding(model: Any, rows: Sequence[Row]) -> Padding:
    """The way in which a model gives padded rows the answers that it gives them alone.

    Args:
        model: A sequence classifier in evaluation mode, in fp32.
        rows: At least two, of different lengths.

    Raises:
        ModelError: If it answers no row at all.
    """
    device = next(model.parameters()).device
    config = model.config
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        alone = Padding(config, "alone")
        try:
            expected = torch.cat([alone.run(model, [row], device)[0] for row in rows])
            is_causal = _is_causal(model, rows, device)
        except _REFUSALS as err:
            reason = (str(err).splitlines() or [type(err).__name__])[0]
            raise ModelError(
                f"The model {type(model).__name__} does not take the texts of its tokeniser: {reason}"
            ) from err
        sides: tuple[Side, ...] = ("right", "left", "none")
        for side in sides:
            padding = Padding(config, side, is_causal=is_causal)
            if _is_exact(padding, model, rows, device, expected):
                return padding
    return Padding(config, "alone", is_causal=is_causal)


def _is_exact(
    padding: Padding, model: Any, rows: Sequence[Row], device: torch.device, expected: Tensor
) -> bool:
    # Twice each row: rows of one length go together as well.
    doubled = [*rows, *rows]
    lengths = np.fromiter(map(len, doubled), np.int64, len(doubled))
    worst = 0.0
    for part in padding.parts(lengths):
        try:
            found, _ = padding.run(model, [doubled[index] for index in part], device)
        except _REFUSALS:
            return False
        wanted = expected[torch.from_numpy(part % len(rows)).to(device)]
        worst = max(worst, float((found - wanted).abs().max()))
    return worst <= _TOLERANCE * float(expected.abs().max())


def _is_causal(model: Any, rows: Sequence[Row], device: torch.device) -> bool:
    """Whether the first token's state does not change with those after it; as in a decoder beside an encoder.

    Of such a pair the first token of the decoder is the same for every text.
    """
    if getattr(model.config, "is_encoder_decoder", False):
        return True
    row = max(rows, key=len)
    # The second token: attention to neighbours alone reaches the first from there.
    other = row.copy()
    other[1:3] = row[2:0:-1]
    if (other == row).all():
        other[1] = row[-1]
    probe = Padding(model.config, "alone")
    states = [probe.run(model, [one], device, embed=True)[1] for one in (row, other)]
    if states[0] is None or states[1] is None:
        return False
    return bool(torch.allclose(states[0], states[1], rtol=0, atol=1e-5))
