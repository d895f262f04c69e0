"""Whether the adapter that serves turned out worse than its predecessor. Sound at any number of looks."""

from math import lgamma, log

import numpy as np

from trainer.gate.evidence import Floats, Integers
from trainer.gate.settings import GateSettings
from trainer.gate.sign_test import log_tail
from trainer.gate.verdict import Check


def should_roll_back(truth: Integers, active: Floats, previous: Floats, settings: GateSettings) -> Check:
    """The check ``audit``: failed where the active adapter is beyond doubt worse than its predecessor.

    Both adapters answer the same audit rows: all whose labels came after the activation, each look's rows
    being the last look's and more. Older rows helped to choose the active adapter and are not evidence
    about it. Looks may be as many as one likes: there is no count of them to keep. Of rows that one adapter
    has right and the other wrong, the active one loses at most half if it is no worse; a bet on "more than
    half" (uniform between a half and one) then multiplies its stake by 1 / ``rollback_alpha`` at any time
    with at most that chance (Ville). Ramdas, Grünwald, Vovk, Shafer: Game-Theoretic Statistics and Safe
    Anytime-Valid Inference (2023).

    Args:
        truth: int64 (rows), consensus labels of audit rows.
        active: float64 (rows, labels), probabilities of the adapter that serves.
        previous: The same of the one it replaced.
        settings: Its ``rollback_alpha``.

    Returns:
        A check that passed where the active adapter stays; value and limit are the stake's logarithm and
        the one that suffices.
    """
    right, was_right = active.argmax(axis=1) == truth, previous.argmax(axis=1) == truth
    losses, wins = int(np.sum(was_right & ~right)), int(np.sum(right & ~was_right))
    stake, enough = log_stake(losses, wins), -log(settings.rollback_alpha)
    rows = max(1, len(truth))
    detail = (
        f"On {len(truth)} audit reviews labelled since the activation the active adapter is right on "
        f"{100 * right.sum() / rows:.1f} % and its predecessor on {100 * was_right.sum() / rows:.1f} %: "
        f"it alone is wrong on {losses} and right on {wins}."
    )
    return Check("audit", stake < enough, stake, enough, detail)


def log_stake(losses: int, wins: int) -> float:
    """What a unit staked on "loses more than it wins" has become, as a natural logarithm.

    The integral of 2 (2p)^losses (2 - 2p)^wins over p from 1/2 to 1: an incomplete beta function, hence a
    binomial tail.
    """
    rows = losses + wins
    beta = lgamma(losses + 1) + lgamma(wins + 1) - lgamma(rows + 2)
    return (rows + 1) * log(2) + beta + log_tail(wins + 1, rows + 1)
