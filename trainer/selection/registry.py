"""The strategies by name."""

from collections.abc import Mapping
from functools import partial

from trainer.selection.balanced_draw import balanced_draw
from trainer.selection.class_balanced import class_balanced
from trainer.selection.diverse_margin import diverse_margin
from trainer.selection.entropy import greatest_entropy
from trainer.selection.margin import smallest_margin
from trainer.selection.pool import Strategy
from trainer.selection.power_margin import power_margin
from trainer.selection.random_draw import random_draw
from trainer.selection.settings import SelectionSettings, StrategyName

STRATEGIES: Mapping[StrategyName, Strategy] = {
    "balanced-draw": balanced_draw,
    "power-margin": power_margin,
    "margin": smallest_margin,
    "entropy": greatest_entropy,
    "diverse-margin": diverse_margin,
    "class-balanced": class_balanced,
    "random": random_draw,
}
"""Each with its paper's, or the default, parameters."""

DRAWS: frozenset[StrategyName] = frozenset({"balanced-draw", "power-margin"})
"""Those that take ``uniform_share`` and ``exponent``."""


def configured_strategy(settings: SelectionSettings) -> Strategy:
    """The strategy that the settings name, with their parameters."""
    strategy = STRATEGIES[settings.strategy]
    given = {"uniform_share": settings.uniform_share, "exponent": settings.exponent}
    chosen = {name: value for name, value in given.items() if value is not None}
    return partial(strategy, **chosen) if settings.strategy in DRAWS else strategy
