"""A verdict as lines of text."""

from trainer.gate.verdict import Verdict


def report_lines(verdict: Verdict) -> list[str]:
    """The decision, then a line a check: whether it passed, its name, its sentence."""
    width = max((len(check.name) for check in verdict.checks), default=0)
    decision = "Promote the candidate." if verdict.promote else "Keep what serves."
    checks = [
        f"{'pass' if check.passed else 'FAIL'}  {check.name:<{width}}  {check.detail}"
        for check in verdict.checks
    ]
    return [decision, *checks]
