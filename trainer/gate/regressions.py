"""Whether the candidate loses somewhere what it gains elsewhere: in a class, a slice, on audit rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.gate.evidence import Booleans, Evidence
from trainer.gate.settings import GateSettings
from trainer.gate.sign_test import tail
from trainer.gate.verdict import Check

RECALL, AUDIT = "recall", "audit"
_NOUNS = {RECALL: "class", AUDIT: "random sample"}


@dataclass(frozen=True)
class Part:
    """What happened to one part of the rows.

    Attributes:
        check: The check it belongs to.
        name: The class or the slice.
        rows: Its rows.
        losses: Rows that the active adapter has right and the candidate wrong.
        wins: The other way round.
    """

    check: str
    name: str
    rows: int
    losses: int
    wins: int

    @property
    def drop(self) -> float:
        """How much accuracy it loses, as a share; negative where it gains."""
        return (self.losses - self.wins) / max(1, self.rows)

    @property
    def chance(self) -> float:
        """How often so many losses come by chance: the exact sign test."""
        return tail(self.losses, self.losses + self.wins)

    @property
    def least_chance(self) -> float:
        """The smallest value that ``chance`` could have had with so many differing rows."""
        return float(0.5 ** (self.losses + self.wins))


def nothing_regresses(evidence: Evidence, settings: GateSettings) -> list[Check]:
    """The checks ``recall``, ``audit`` and one for each group of slices.

    A part regresses where it loses more than the tolerance and the sign test calls that no chance at a level
    which holds for all parts of all these checks together (:func:`level_of_each`). Parts count their rows
    unweighted.

    Raises:
        ValueError: Without an active adapter.
    """
    parts = _parts(evidence, settings)
    level = level_of_each([part.least_chance for part in parts], settings.regression_alpha)
    names = (RECALL, AUDIT, *evidence.groups)
    return [_check(name, [part for part in parts if part.check == name], level, settings) for name in names]


def level_of_each(least_chances: Sequence[float], alpha: float) -> float:
    """The level at which each test is made so that any of them errs with a chance of at most alpha.

    Bonferroni's, but tests that could not reach it, having too few differing rows, do not count: so
    hundreds of small products do not blunt the others. Tarone: A modified Bonferroni method for discrete
    data (Biometrics 1990).
    """
    count = 1
    while sum(chance <= alpha / count for chance in least_chances) > count:
        count += 1
    return alpha / count


def _parts(evidence: Evidence, settings: GateSettings) -> list[Part]:
    if evidence.active is None:
        raise ValueError("There is no active adapter to compare with.")
    right = evidence.candidate.argmax(axis=1) == evidence.truth
    was_right = evidence.active.argmax(axis=1) == evidence.truth
    lost, won = was_right & ~right, right & ~was_right

    def part(check: str, name: str, rows: Booleans) -> Part:
        return Part(check, name, int(rows.sum()), int((lost & rows).sum()), int((won & rows).sum()))

    parts = [part(RECALL, label, evidence.truth == index) for index, label in enumerate(evidence.labels)]
    if evidence.is_audit.any():
        parts.append(part(AUDIT, "audit reviews", evidence.is_audit))
    for group, values in evidence.groups.items():
        of_row = np.array(values, dtype=np.str_)
        names, counts = np.unique(of_row, return_counts=True)
        large = names[(counts >= settings.min_slice_rows) & (names != "")]
        parts += [part(group, str(name), of_row == name) for name in large]
    return parts


def _check(name: str, parts: Sequence[Part], level: float, settings: GateSettings) -> Check:
    tolerance, noun = settings.regression_tolerance, _NOUNS.get(name, name)
    if not parts:
        detail = f"No {noun} has enough labelled rows to be judged on its own."
        return Check(name, passed=True, value=0.0, limit=tolerance, detail=detail)
    worse = [part for part in parts if part.drop > tolerance and part.chance <= level]
    worst = max(worse or parts, key=lambda part: part.drop)
    if worse:
        told = "; ".join(_told(part) for part in sorted(worse, key=lambda part: -part.drop))
        detail = f"Worse, and not by chance: {told}."
    else:
        detail = f"No {noun} is worse beyond tolerance and chance; the least good: {_told(worst)}."
    return Check(name, not worse, worst.drop, tolerance, detail)


def _told(part: Part) -> str:
    gain = 100 * (part.wins - part.losses) / max(1, part.rows)
    return (
        f"{part.name} {gain:+.1f} points on {part.rows} rows "
        f"({part.losses} lost, {part.wins} won, p = {part.chance:.2g})"
    )
