"""The strategies by name."""

from collections.abc import Mapping
from functools import partial

from trainer.selection.class_balanced import class_balanced
from trainer.selection.diverse_margin import diverse_margin
from trainer.selection.entropy import greatest_entropy
from trainer.selection.margin import smallest_margin
from trainer.selection.pool import Strategy
from trainer.selection.power_margin import power_margin
from trainer.selection.random_draw import random_draw
from trainer.selection.settings import SelectionSettings, StrategyName

STRATEGIES: Mapping[StrategyName, Strategy] = {
    "power-margin": power_margin,
    "margin": smallest_margin,
    "entropy": greatest_entropy,
    "diverse-margin": diverse_margin,
    "class-balanced": class_balanced,
    "random": random_draw,
}
"""Each with its paper's, or the default, parameters."""


def configured_strategy(settings: SelectionSettings) -> Strategy:
    """The strategy that the settings name, with their parameters."""
    if settings.strategy == "power-margin":
        return partial(power_margin, uniform_share=settings.uniform_share, exponent=settings.exponent)
    return STRATEGIES[settings.strategy]
