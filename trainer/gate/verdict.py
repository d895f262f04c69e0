"""The gate's verdict: checks with value and limit, and whether all passed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

IMPROVEMENT = "improvement"
"""Name of the check that compares both adapters; a verdict that holds it has used up an attempt."""


@dataclass(frozen=True)
class Check:
    """One question put to a candidate.

    Attributes:
        name: A short stable name (``rows``, ``floor``, ``improvement``, ``recall``, ``product`` …).
        passed: Whether nothing speaks against the candidate here.
        value: What was measured.
        limit: What it was held against.
        detail: One sentence for people.
    """

    name: str
    passed: bool
    value: float
    limit: float
    detail: str


@dataclass(frozen=True)
class Verdict:
    """What the gate decides.

    Attributes:
        checks: In the order they were made; none follows ``rows`` where there are too few.
    """

    checks: tuple[Check, ...]

    @property
    def promote(self) -> bool:
        """Whether every check passed; a verdict without checks promotes nothing."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is refused, a sentence each; where it is not, what speaks for it."""
        return tuple(check.detail for check in self.checks if check.passed == self.promote)

    @property
    def is_attempt(self) -> bool:
        """Whether the two adapters were compared: such verdicts are counted (``attempts_before``)."""
        return any(check.name == IMPROVEMENT for check in self.checks)

    def with_check(self, check: Check) -> "Verdict":
        """The verdict with one more check, for what needs I/O: the load-and-query probe."""
        return Verdict((*self.checks, check))

    def to_json(self) -> dict[str, Any]:
        """Plain data for a JSON column; ``promote`` and ``reasons`` are there to be read by people."""
        return {
            "promote": self.promote,
            "reasons": list(self.reasons),
            "checks": [asdict(check) for check in self.checks],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Verdict":
        """The verdict that :meth:`to_json` made this of."""
        return cls(tuple(Check(**check) for check in data["checks"]))


def report_lines(verdict: Verdict) -> list[tuple[str, str]]:
    """The decision, then each check: whether it passed and its name, in one width, and its sentence."""
    width = max((len(check.name) for check in verdict.checks), default=0)
    decision = "Promote the candidate." if verdict.promote else "Keep the active adapter."
    checks = [
        (f"{'pass' if check.passed else 'FAIL'}  {check.name:<{width}}  ", check.detail)
        for check in verdict.checks
    ]
    return [("", decision), *checks]
