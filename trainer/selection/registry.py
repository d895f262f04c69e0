"""The strategies by name."""

from collections.abc import Mapping

from trainer.selection.pool import Strategy
from trainer.selection.random_draw import random_draw

STRATEGIES: Mapping[str, Strategy] = {
    "random": random_draw,
}
