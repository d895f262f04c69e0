"""The next reviews to label: a strategy's order, recent ones first where asked, near-duplicates left out."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from trainer.selection.pool import Floats, Indices, Pool
from trainer.selection.registry import STRATEGIES
from trainer.selection.settings import SelectionSettings

_DAY_SECONDS = 86_400


class Choice(NamedTuple):
    """One review for the queue.

    Attributes:
        record: Its record.
        priority: In (0, 1], the best of a choice has 1; greater ones are labelled first.
        reason: Why it is worth a label, as ``label_task.reason`` has it.
        strategy: The strategy that chose it.
    """

    record: int
    priority: float
    reason: str
    strategy: str


def choose(pool: Pool, count: int, settings: SelectionSettings, seed: int) -> list[Choice]:
    """The ``count`` best reviews of a pool, the best first; fewer where the pool has no more.

    Args:
        pool: The candidates.
        count: How many.
        settings: Which strategy, and how.
        seed: The same seed, pool and settings give the same choice.

    Raises:
        WrongUse: If near-duplicates are to be left out and the pool has no texts.
    """
    weighted = replace(pool, weights=recency_weights(pool, settings.half_life_days))
    chosen = STRATEGIES[settings.strategy](weighted, count, np.random.default_rng(seed))
    return ranked_choices(pool, chosen, "uncertain", settings.strategy)


def recency_weights(pool: Pool, half_life_days: float | None) -> Floats | None:
    """float64 (rows) in (0, 1]: halved by each half-life that a row is older than the newest."""
    if half_life_days is None or not len(pool):
        return None
    ages_days = (pool.published_at.max() - pool.published_at) / _DAY_SECONDS
    # Beyond a thousand half-lives all are equally hopeless, and none is zero.
    return np.asarray(np.exp2(-np.minimum(ages_days / half_life_days, 1000.0)))


def ranked_choices(pool: Pool, positions: Indices, reason: str, strategy: str) -> list[Choice]:
    """Choices whose priorities fall evenly from 1, so that several nights' and reasons' mix in the queue."""
    return [
        Choice(int(record), 1 - rank / len(positions), reason, strategy)
        for rank, record in enumerate(pool.records[positions])
    ]
