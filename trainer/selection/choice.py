"""The next reviews to label: a strategy's order without near-duplicates.

Near-duplicates are sought among the few that a strategy chose, exactly and by their texts: a million texts
need neither leave the database nor be hashed. What the audit asks about is drawn elsewhere
(:mod:`trainer.selection.audit_draw`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from reviews.errors import WrongUse
from trainer.data.near_duplicates import duplicate_groups
from trainer.selection.cost import cost_weights
from trainer.selection.pool import Floats, Indices, Integers, Pool, Strategy
from trainer.selection.strategies import configured_strategy
from trainer.settings import SelectionSettings

_DAY_SECONDS = 86_400
_MOST_LOOKED_AT = 16


class QueueChoice(NamedTuple):
    """One review for the queue.

    Attributes:
        record: Its record.
        priority: In (0, 1], the best of a choice has 1; greater ones are labelled first.
        reason: Why it is worth a label, as ``label_task.reason`` has it.
        strategy: The strategy that chose it.
        draw_weight: Of the audit's items how much each counts, in (0, 1]; None for all others.
    """

    record: int
    priority: float
    reason: str
    strategy: str
    draw_weight: float | None = None


def as_labels_come(settings: SelectionSettings, labels: int, *, is_zero_shot: bool) -> SelectionSettings:
    """The settings with the strategy of now: the first one leads as long as little but descriptions is known.

    Args:
        settings: Name both strategies.
        labels: How many reviews people have labelled so far.
        is_zero_shot: Whether the active adapter was made from descriptions of the labels.
    """
    if not is_zero_shot or labels >= settings.first_labels:
        return settings
    return settings.model_copy(update={"strategy": settings.first_strategy})


def choose(
    pool: Pool, count: int, settings: SelectionSettings, seed: int, known_texts: Sequence[str] = ()
) -> list[QueueChoice]:
    """The best reviews of a pool, the best first, each saying something new.

    They are ``count``, or fewer where the pool has no more; also where most of it says the same: no more than
    ``16 * count`` rows are looked at.

    The same seed, pool and settings give the same choice. A near-duplicate of a known text, one labelled or
    queued before, is not chosen.

    Raises:
        WrongUse: If near-duplicates are to be left out and the pool has no texts.
    """
    weighted = replace(pool, weights=row_weights(pool, settings))
    strategy = configured_strategy(settings)
    if settings.skip_near_duplicates:
        chosen = _distinct_rows(weighted, count, strategy, seed, known_texts)
    else:
        chosen = strategy(weighted, count, np.random.default_rng(seed))
    return ranked_choices(pool.records[chosen], "uncertain", settings.strategy)


def _distinct_rows(
    pool: Pool, count: int, strategy: Strategy, seed: int, known_texts: Sequence[str]
) -> Indices:
    """Asks the strategy for more, twice as many each time, until enough of them say something new."""
    said, looked_at, kept = [*known_texts], np.empty(0, np.int64), np.empty(0, np.int64)
    wanted, most = min(count, len(pool)), min(_MOST_LOOKED_AT * count, len(pool))
    while True:
        # From the same seed, so that a longer list begins with the shorter one.
        ranked = strategy(pool, wanted, np.random.default_rng(seed))
        fresh = ranked[~np.isin(ranked, looked_at)]
        texts = _texts(pool, fresh)
        new = distinct(texts, said)
        kept = np.concatenate((kept, fresh[new]))
        if len(kept) >= count or wanted == most:
            return kept[:count]
        said += [texts[position] for position in new]
        looked_at = np.concatenate((looked_at, fresh))
        wanted = min(2 * wanted, most)


def distinct(texts: Sequence[str], known: Sequence[str] = ()) -> list[int]:
    """The positions of the texts that say something new, in their order.

    Of near-duplicates (:mod:`trainer.data.near_duplicates`), directly or through others, the first stays;
    none does where a known text is among them.
    """
    groups = duplicate_groups([*known, *texts])
    # A group is named by its first text, so a text that names its own group is new.
    return [position for position, group in enumerate(groups[len(known) :]) if group == len(known) + position]


def _texts(pool: Pool, positions: Indices) -> Sequence[str]:
    if pool.texts_of is None:
        raise WrongUse("Near-duplicates are found by their texts, and the pool has none: read it with texts.")
    return pool.texts_of(pool.records[positions])


def row_weights(pool: Pool, settings: SelectionSettings) -> Floats | None:
    """float64 (rows) in (0, 1]: how much each row counts by its age and its price; None: all the same.

    Raises:
        WrongUse: If the price of an answer matters and the pool has no lengths.
    """
    recency = recency_weights(pool, settings.half_life_days)
    if settings.cost_exponent == 0:
        return recency
    if pool.characters is None:
        raise WrongUse("Long reviews are to be selected less often, and the pool has no lengths: read them.")
    cost = cost_weights(pool.characters, settings)
    return cost if recency is None else np.asarray(recency * cost)


def recency_weights(pool: Pool, half_life_days: float | None) -> Floats | None:
    """float64 (rows) in (0, 1]: halved by each half-life that a row is older than the newest."""
    if half_life_days is None or not len(pool):
        return None
    ages_days = (pool.published_at.max() - pool.published_at) / _DAY_SECONDS
    # Capped at a thousand half-lives, so that no weight is zero.
    return np.asarray(np.exp2(-np.minimum(ages_days / half_life_days, 1000.0)))


def ranked_choices(records: Integers, reason: str, strategy: str) -> list[QueueChoice]:
    """Choices whose priorities fall evenly from 1, so that several runs and reasons mix in the queue."""
    return [
        QueueChoice(int(record), 1 - rank / len(records), reason, strategy)
        for rank, record in enumerate(records)
    ]
