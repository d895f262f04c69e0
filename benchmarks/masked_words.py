"""A fit of a base's LoRA to the texts of a stream, without a label: on masked words.

Devlin et al., BERT (NAACL 2019); to go on with it on the texts of a task is from Gururangan et al., Don't
Stop Pretraining (ACL 2020). A base that was trained to embed sentences has lost its layer that guesses words:
a new one, tied to the word embeddings, is fitted first, with the base frozen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from classifier.base_model import BaseModel, quiet_transformers
from classifier.devices import choose_dtype
from classifier.engine.pooling import mean_of_tokens
from classifier.model import load_base
from classifier.tokenise import load_tokeniser
from classifier.verification import SHORT_PROBE_TEXTS
from trainer.fitting.cpu_layers import speed_up_adapters, speed_up_layers
from trainer.fitting.loop import autocasting, hold_frozen
from trainer.fitting.recipe import adapt
from trainer.settings import TrainerSettings

BATCH = 16
MASKED, AS_MASK, AS_ANOTHER = 0.15, 0.8, 0.1  # as BERT has them
HEAD_STEPS, HEAD_RATE, WARM_UP = 150, 1e-3, 20
FIRST, LAST, MASK = 101, 102, 103  # of BERT's words
LENGTH_FITTED, LENGTH_READ, READ_AT_ONCE = 64, 256, 32
Ids = list[np.ndarray]


@dataclass(frozen=True)
class MaskedWordsFit:
    """One fit.

    Attributes:
        rate: Peak rate of LoRA.
        steps: With LoRA; the head for words has steps of its own before.
        seed: Of everything that is drawn.
    """

    rate: float
    steps: int
    seed: int = 0


def adapted_features(base: BaseModel, texts: Sequence[str], way: MaskedWordsFit) -> np.ndarray:
    """float32 (texts, hidden): the mean over the tokens, after a fit on the same texts."""
    torch.manual_seed(way.seed)
    body, lora, dtype = _adapted_base(base)
    states = _States(body, dtype)
    ids = [np.array(row) for row in load_tokeniser(base, LENGTH_FITTED).encode(texts).rows()]
    words = _MaskedWords(ids, body.embeddings.word_embeddings.weight.detach(), states, way.seed)
    words.is_body_frozen = True
    _fit(words, words.own, HEAD_STEPS, HEAD_RATE, [])
    words.is_body_frozen = False
    _fit(words, lora, way.steps, way.rate, words.own)
    return states.means([np.array(row) for row in load_tokeniser(base, LENGTH_READ).encode(texts).rows()])


def _adapted_base(base: BaseModel) -> tuple[Any, list[Tensor], torch.dtype]:
    """The encoder with fresh LoRA matrices, as fast as the trainer's; the matrices; format of products."""
    dtype = choose_dtype("auto", torch.device("cpu"))
    model = load_base(base, 2, "mean")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.set_attn_implementation("eager")
    speed_up_layers(model, load_tokeniser(base, LENGTH_FITTED).encode(SHORT_PROBE_TEXTS).rows())
    with quiet_transformers():
        model = adapt(model, TrainerSettings(lora_r=8, lora_alpha=16, lora_dropout=0.0))
    speed_up_adapters(model)
    hold_frozen(model, dtype, is_dora=False)
    lora = [value for name, value in model.named_parameters() if ".lora_" in name]
    return model.base_model.model.base_model, lora, dtype


class _States:
    """Words to the last layer's states."""

    def __init__(self, body: Any, dtype: torch.dtype) -> None:
        self._body, self._dtype = body, dtype

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """fp32 (rows, longest, hidden)."""
        with autocasting(torch.device("cpu"), self._dtype):
            return self._body(input_ids=ids, attention_mask=mask).last_hidden_state.float()

    def means(self, rows: Ids) -> np.ndarray:
        """float32 (rows, hidden)."""
        result = np.empty((len(rows), self._body.config.hidden_size), np.float32)
        order = np.argsort([len(row) for row in rows], kind="stable")
        with torch.inference_mode():
            for start in range(0, len(order), READ_AT_ONCE):
                part = order[start : start + READ_AT_ONCE]
                ids, mask = _padded([rows[row] for row in part])
                result[part] = mean_of_tokens(self(ids, mask), mask).numpy()
        return result


def _padded(rows: Ids) -> tuple[Tensor, Tensor]:
    """Words and which of them are there, both int64 (rows, longest)."""
    ids, mask = (np.zeros((len(rows), max(map(len, rows))), np.int64) for _ in range(2))
    for place, row in enumerate(rows):
        ids[place, : len(row)], mask[place, : len(row)] = row, 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


def _fit(
    loss_of: Callable[[], Tensor],
    values: Sequence[Tensor],
    steps: int,
    rate: float,
    beside: Sequence[Tensor],
) -> None:
    """AdamW with a short rise and a linear fall of the rate; what is beside keeps the head's rate."""
    groups = [{"params": list(values)}] + ([{"params": list(beside)}] if beside else [])
    adamw = torch.optim.AdamW(groups, lr=rate, weight_decay=0.0)
    for step in range(steps):
        loss_of().backward()  # type: ignore[no-untyped-call]
        adamw.param_groups[0]["lr"] = rate * min((step + 1) / WARM_UP, (steps - step) / steps)
        for group in adamw.param_groups[1:]:
            group["lr"] = HEAD_RATE
        torch.nn.utils.clip_grad_norm_(values, 1.0)
        adamw.step()
        adamw.zero_grad(set_to_none=True)


class _MaskedWords:
    """The loss of guessing words that were taken away, among those of the stream."""

    def __init__(self, rows: Ids, words: Tensor, states: _States, seed: int) -> None:
        self._rows, self._states = rows, states
        self._known = np.unique(np.concatenate(rows))
        self._places = np.zeros(len(words), np.int64)
        self._places[self._known] = np.arange(len(self._known))
        self._words = words[torch.from_numpy(self._known)]
        self._dense = torch.nn.Linear(words.shape[1], words.shape[1])
        torch.nn.init.eye_(self._dense.weight)
        torch.nn.init.zeros_(self._dense.bias)
        self._norm = torch.nn.LayerNorm(words.shape[1])
        self._bias = torch.zeros(len(self._known), requires_grad=True)
        self.own = [*self._dense.parameters(), *self._norm.parameters(), self._bias]
        self.is_body_frozen = False
        self._random = np.random.default_rng(seed)

    def __call__(self) -> Tensor:
        drawn = self._random.choice(len(self._rows), BATCH, replace=False)
        ids, mask = _padded([self._rows[row] for row in drawn])
        is_word = (mask == 1) & (ids != FIRST) & (ids != LAST)
        asked = torch.from_numpy(self._random.random(ids.shape) < MASKED) & is_word
        how = torch.from_numpy(self._random.random(ids.shape))
        shown, is_other = ids.clone(), asked & (how > 1 - AS_ANOTHER)
        shown[asked & (how < AS_MASK)] = MASK
        shown[is_other] = torch.from_numpy(self._random.choice(self._known, int(is_other.sum()))).long()
        with torch.set_grad_enabled(not self.is_body_frozen):
            states = self._states(shown, mask)[asked]  # (asked, hidden)
        guessed = self._norm(functional.gelu(self._dense(states))) @ self._words.T + self._bias
        return functional.cross_entropy(guessed, torch.from_numpy(self._places[ids[asked].numpy()]))
