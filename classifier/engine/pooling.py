"""What the head of a model reads of a text: one token's state, as its architecture has it, or all tokens'.

Models that were trained to embed sentences hold what a text says in the mean over its tokens (Reimers and
Gurevych: Sentence-BERT, EMNLP 2019). Classification heads of transformers read one token. So an adapter can
say that its head reads the mean: the head is then one linear layer, ``classifier``, in any architecture.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from classifier.adapters.manifest import Pooling
from reviews.errors import ModelError


@dataclass(frozen=True, slots=True)
class PooledOutput:
    """What a model whose head reads the mean makes of a batch.

    Attributes:
        logits: (rows, labels).
        pooled: fp32 (rows, hidden): what the head read.
    """

    logits: Tensor
    pooled: Tensor


class _MeanOfTokens:
    """The forward pass of a sequence classifier, with another head: mixed into the model's own class."""

    reviewloop_pooling: Pooling = "mean"

    def forward(
        self: Any, input_ids: Tensor, attention_mask: Tensor | None = None, **_: object
    ) -> PooledOutput:
        """The logits of rows (rows, longest); what else peft and transformers ask for is not there."""
        states = self.base_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        pooled = mean_of_tokens(states, mask)
        return PooledOutput(self.classifier(pooled.to(states.dtype)), pooled)


def mean_of_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """fp32 (rows, hidden): the mean of states (rows, longest, hidden) where the mask (rows, longest) is 1."""
    weights = mask[:, :, None].float()  # (rows, longest, 1)
    return (states.float() * weights).sum(dim=1) / weights.sum(dim=1)


def pooling_of(model: Any) -> Pooling:
    """What the head of a model reads."""
    found: Pooling = getattr(model, "reviewloop_pooling", "first")
    return found


def architecture_of(model: Any) -> type:
    """The class of transformers that a model is of, whatever its head reads."""
    found: type = getattr(model, "reviewloop_architecture", type(model))
    return found


def require_mean(name: str, config: Any) -> None:
    """Refuse a model whose states have no mean that stands for a text.

    Args:
        name: Of the model's kind, for the message.
        config: Of transformers.

    Raises:
        ModelError: If it is an encoder with a decoder, whose words are of another text.
    """
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{name} is an encoder with a decoder: its states have no mean that stands for a text. "
            "Choose an encoder as the base model, or pooling = first."
        )


def read_mean(model: Any) -> None:
    """Replace the head of a model by one linear layer that reads the mean over the tokens.

    The weights of the layer are drawn at random; the model's ``missing_weights`` name them.

    Args:
        model: A sequence classifier, as :func:`classifier.model.load_base` makes it.

    Raises:
        ModelError: If the model is an encoder with a decoder, whose words are of another text.
    """
    kind, config = type(model), model.config
    require_mean(kind.__name__, config)
    heads = [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and next(module.parameters(), None) is not None
    ]
    for name in heads:
        delattr(model, name)
    head = torch.nn.Linear(config.get_text_config().hidden_size, config.num_labels)
    torch.nn.init.normal_(head.weight, std=getattr(config, "initializer_range", 0.02))
    torch.nn.init.zeros_(head.bias)
    model.classifier = head
    left = {name for name in model.missing_weights if not name.startswith(tuple(f"{one}." for one in heads))}
    model.missing_weights = frozenset(left | {"classifier.weight", "classifier.bias"})
    # The class keeps its name: by it engines and peft know the architecture.
    model.__class__ = type(kind.__name__, (_MeanOfTokens, kind), {"reviewloop_architecture": kind})
