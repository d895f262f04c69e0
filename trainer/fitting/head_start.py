"""The head that a fresh fit begins with: fitted on the base as it is, instead of drawn at random.

A random head teaches the layers below it noise first, and each seed another one. With the fitted head all
seeds begin with the same answers, which are those of a head alone (Kumar et al.: Fine-Tuning can Distort
Pretrained Features and Underperform Out-of-Distribution, ICLR 2022).
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.base_model import BaseModel
from trainer.data.near_duplicates import duplicate_groups
from trainer.fitting.features import HEAD_MODULE, KeptFeatures
from trainer.fitting.fit_data import FitRequest
from trainer.fitting.head import Head, fit_head

if TYPE_CHECKING:
    import torch

_SEED = 0  # of the folds that choose the penalty: the fit's own seed must not change where it begins


def begins_with_fitted_head(request: FitRequest) -> bool:
    """Whether a fit is given its first head: a fresh fit whose head reads the mean, so is one layer."""
    return request.settings.pooling == "mean" and request.continues_from is None


def fitted_head(request: FitRequest, base: BaseModel, kept: KeptFeatures | None = None) -> Head:
    """The head that is fitted on the base's features of the training rows; the same for every seed.

    Args:
        request: The rows and the recipe.
        base: The base model.
        kept: The features of the run, so that no text is read twice; None: they are computed for this fit.
    """
    train = request.splits.train
    features = (kept or KeptFeatures(request.classifier)).of(base, request.settings.max_length_tokens)
    return fit_head(
        features(train.texts),
        np.array(train.labels, np.int64),
        len(train.names),
        None if train.weights is None else np.array(train.weights),
        groups=duplicate_groups(train.texts),
        seed=_SEED,
    )


def put_head(model: Any, head: Head) -> None:
    """Let the head that is fitted in a model begin with these weights.

    Args:
        model: As :func:`trainer.fitting.recipe.adapt` makes it, of the pooling ``mean``.
        head: Of as many classes.
    """
    import torch

    layer = _fitted_layer(model)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weights))
        layer.bias.copy_(torch.from_numpy(head.bias))


def _fitted_layer(model: Any) -> "torch.nn.Linear":
    """The linear layer of the head whose weights are fitted: peft keeps it beside the original."""
    names = (f"{HEAD_MODULE}.modules_to_save.default", HEAD_MODULE)
    found: dict[str, Any] = dict(model.named_modules())
    return next(  # type: ignore[no-any-return]
        found[name]
        for ending in names
        for name in found
        if (name == ending or name.endswith(f".{ending}")) and hasattr(found[name], "weight")
    )
