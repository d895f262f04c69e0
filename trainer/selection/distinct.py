"""Chosen reviews that say nearly the same: one of them is enough. Pure.

Near-duplicates are sought among the few that a strategy chose, exactly and by their texts, not among all
candidates by signatures of them: a million texts need neither leave the database nor be hashed.
"""

from collections.abc import Sequence

from trainer.near_duplicates import duplicate_groups


def distinct(texts: Sequence[str], known: Sequence[str] = ()) -> list[int]:
    """The positions of the texts that say something new, in their order.

    Of near-duplicates (see :mod:`trainer.near_duplicates`), directly or through others, the first stays; none
    does where a known text is among them.

    Args:
        texts: Those that are asked about, the best first.
        known: Those that were labelled or queued before.
    """
    groups = duplicate_groups([*known, *texts])
    # A group is named by its first text, so whoever bears its own name is new.
    return [position for position, group in enumerate(groups[len(known) :]) if group == len(known) + position]
