"""The strategies by name."""

from collections.abc import Mapping
from functools import partial

from trainer.selection import balanced_draw as balanced
from trainer.selection import power_margin as power
from trainer.selection.class_balanced import class_balanced
from trainer.selection.diverse_margin import diverse_margin
from trainer.selection.entropy import greatest_entropy
from trainer.selection.margin import smallest_margin
from trainer.selection.pool import Strategy
from trainer.selection.random_draw import random_draw
from trainer.selection.settings import SelectionSettings, StrategyName

STRATEGIES: Mapping[StrategyName, Strategy] = {
    "balanced-draw": balanced.balanced_draw,
    "power-margin": power.power_margin,
    "margin": smallest_margin,
    "entropy": greatest_entropy,
    "diverse-margin": diverse_margin,
    "class-balanced": class_balanced,
    "random": random_draw,
}
"""Each with its paper's, or the default, parameters."""

_EXPONENTS: Mapping[StrategyName, float] = {
    "balanced-draw": balanced.EXPONENT,
    "power-margin": power.EXPONENT,
}


def parameters(settings: SelectionSettings) -> dict[str, float]:
    """The parameters in force of a draw, its own exponent where the settings have none; none of others."""
    own = _EXPONENTS.get(settings.strategy)
    if own is None:
        return {}
    exponent = own if settings.exponent is None else settings.exponent
    return {"uniform_share": settings.uniform_share, "exponent": exponent}


def configured_strategy(settings: SelectionSettings) -> Strategy:
    """The strategy that the settings name, with the parameters in force."""
    return partial(STRATEGIES[settings.strategy], **parameters(settings))
