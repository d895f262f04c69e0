"""What each measure says of two windows, and the verdict: with the false-alarm rate of all together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Subject = Literal["texts", "classes", "confidence"]
"""What a measure looks at: what people write, which classes are found, or how sure the classifier is."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One measure's answer.

    Attributes:
        measure: Its name.
        subject: What it looks at.
        effect: How large the difference is, in the unit that the measure explains; 0 is none.
        floor: Smaller effects are not drift, however certain: with a million reviews, everything differs.
        p_value: How often chance alone makes such a difference or a greater one, in [0, 1].
        reference: A number for the reference, for people.
        window: The same for the window.
        unit: What these two numbers are.
    """

    measure: str
    subject: Subject
    effect: float
    floor: float
    p_value: float
    reference: float
    window: float
    unit: str


Outcome = Literal["stable", "drift", "unknown"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A finding, judged together with the others.

    Attributes:
        finding: The measure's answer.
        adjusted_p_value: After Holm's correction, in [0, 1].
        is_drift: Whether it is both sure and large enough.
    """

    finding: Finding
    adjusted_p_value: float
    is_drift: bool


def judge(findings: Sequence[Finding], false_alarm_rate: float) -> list[Judged]:
    """Which findings stand: without drift, any of them does so at most at this rate, all together.

    Holm: A simple sequentially rejective multiple test procedure (Scandinavian Journal of Statistics 1979);
    holds however the measures depend on each other. A finding must also reach its floor.

    Args:
        findings: One for each measure.
        false_alarm_rate: Of the whole, in (0, 1).
    """
    adjusted = holm([finding.p_value for finding in findings])
    return [
        Judged(finding, p_value, p_value <= false_alarm_rate and finding.effect >= finding.floor)
        for finding, p_value in zip(findings, adjusted, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given."""
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * factors))
    return [float(value) for value in adjusted]


def moved_subjects(judged: Sequence[Judged]) -> list[Subject]:
    """What moved, each subject once, in a fixed order."""
    order: tuple[Subject, ...] = ("texts", "classes", "confidence")
    moved = {item.finding.subject for item in judged if item.is_drift}
    return [subject for subject in order if subject in moved]
