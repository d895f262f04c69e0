"""A drift report in words: what changed, since when, how sure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from drift.measures import CLASS_SHARES, SHARE_OF
from reviews.drift import DriftReport

_MOVED = {
    "texts": "people write other texts",
    "classes": "other classes are found",
    "confidence": "the classifier is less sure than it was",
}
_SURE = ((1e-6, "certain"), (0.001, "very sure"), (0.01, "sure"), (0.05, "a hint"))


def headline(report: DriftReport) -> str:
    """The verdict in one sentence."""
    if report.verdict == "unknown":
        text = "Too few reviews to say whether the stream has changed"
        if least := report.measures.get("least_reviews"):
            looked_at = report.measures["looked_at"]
            text += (
                f": {looked_at['reference']:,} in the reference, {looked_at['window']:,} in the window, "
                f"and drift.least_reviews asks for {least:,} in each"
            )
        return f"{text}."
    if report.verdict == "stable":
        return "The stream is as it was when the adapter was promoted."
    moved = [_moved(subject, report) for subject in report.measures.get("moved", [])]
    alarm = report.measures.get("alarm")
    if not moved and alarm:
        moved = [_MOVED[alarm["kind"]]]
    text = "; ".join(moved) or "something moved"
    if report.measures.get("moved") == ["classes"]:
        text += ", while texts of the same class are as before"
    return f"The stream has changed: {text}."


def _moved(subject: str, report: DriftReport) -> str:
    """What changed, with the class whose share changed most."""
    shares = [found for found in report.measures.get("findings", []) if named_class(found)]
    if subject != "classes" or not shares:
        return _MOVED[subject]
    (found,) = shares
    before, now = (number(found[side], found["unit"]) for side in ("reference", "window"))
    return f"{_MOVED[subject]}, above all '{named_class(found)}' ({before} before, {now} now)"


def named_class(finding: Mapping[str, Any]) -> str:
    """The class whose share a finding is about; empty for other findings."""
    return str(finding["unit"]).removeprefix(SHARE_OF) if finding["measure"] == CLASS_SHARES else ""


def since(report: DriftReport) -> datetime:
    """The most likely beginning of the change."""
    found = report.measures.get("since")
    return datetime.fromisoformat(found) if found else report.windows.since


def unseen(report: DriftReport) -> str:
    """What the reference has not covered yet; empty once it covers a week."""
    seasons = report.measures.get("seasons")
    if seasons is None or seasons["saw_week"]:
        return ""
    text = "The reference has not seen a whole week yet"
    looked_at = report.measures["looked_at"]["window"]
    if left_out := looked_at - seasons["compared"]:
        text += (
            f": {left_out / looked_at:.0%} of the reviews are of hours unknown to it, and were not compared"
        )
    return f"{text}."


def sureness(p_value: float) -> str:
    """The certainty of a difference in words."""
    for limit, word in _SURE:
        if p_value <= limit:
            return word
    return "may be chance"


def number(value: float, unit: str) -> str:
    """A finding's number as people read it."""
    if unit.startswith("share") or unit == "mean":
        return f"{value:.1%}"
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.3f}"


def accuracy(audited: Mapping[str, Any]) -> str:
    """Accuracy and macro-F1 by audit labels, with their intervals."""
    if audited["accuracy"] is None:
        return "no audit labels"
    return (
        f"{audited['accuracy']:.1%} ({audited['low']:.1%} to {audited['high']:.1%}), macro-F1 "
        f"{audited['macro_f1']:.1%} ({audited['macro_f1_low']:.1%} to {audited['macro_f1_high']:.1%}); "
        f"{audited['labels']:,} labels"
    )


def strongest_finding(report: DriftReport) -> Mapping[str, Any] | None:
    """The finding that moved most, in multiples of its floor; without drift, the one that came closest."""
    findings = report.measures.get("findings", [])
    return max(findings, key=lambda one: (one["is_drift"], one["effect"] / one["floor"]), default=None)


def in_words(finding: Mapping[str, Any]) -> str:
    """A finding's name and numbers in one line."""
    name = named_class(finding)
    about = f" of '{name}'" if name else ""
    before, now = (number(finding[side], finding["unit"]) for side in ("reference", "window"))
    return f"{finding['measure']}{about}: {before} before, {now} now"
