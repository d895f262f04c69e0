"""A drift report as one self-contained HTML file, and what the console shows of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from console.drift_reports.wording import accuracy, headline, number, since, sureness, unseen
from pages import charts
from pages.picture import AFTER, BEFORE, Picture
from pages.rendering import render
from reviews.drift import DriftReport, StoredReview

_TEMPLATE = Path(__file__).parents[1] / "templates" / "drift_file.html"
_LONGEST_EXAMPLE = 600
_MOST_PARTS = 8
_FLOORS_OF_BAR = 4
_KINDS = {"products": "Products", "sources": "Sources", "clusters": "Kinds of texts", "words": "Words"}
_COURSES = (
    ("Length of the texts, characters", "characters", False),
    ("Words that the reference does not know", "unknown_words", True),
    ("Confidence", "confidence", True),
    ("Accuracy to expect", "expected_accuracy", True),
    ("Reviews", "reviews", False),
)


def page(report: DriftReport, examples: Sequence[StoredReview] = ()) -> str:
    """The page; every text from outside is sanitised and escaped.

    Args:
        report: What was found, by an adapter whose labels are among its measures.
        examples: Reviews of what is new, as that adapter scored them.
    """
    return render(_TEMPLATE, {**page_values(report, examples), "is_file": True})


def page_values(report: DriftReport, examples: Sequence[StoredReview] = ()) -> dict[str, Any]:
    """What the templates of a report show, its charts among it.

    Args:
        report: What was found, by an adapter whose labels are among its measures.
        examples: Reviews of what is new, as that adapter scored them.
    """
    measures, windows = report.measures, report.windows
    labels = measures["labels"]
    has_course = bool(measures.get("course"))
    return {
        "report": report,
        "adapter": measures.get("adapter"),
        "headline": headline(report),
        "unseen": unseen(report),
        "window": (_time(windows.since), _time(windows.until)),
        "reference": (_time(windows.reference_since), _time(windows.reference_until)),
        "tiles": list(_tiles(report)),
        "courses": list(_courses(report, labels)) if has_course else [],
        "classes": list(zip(labels, map(charts.class_colour, range(len(labels))), strict=True)),
        "shapes": list(_shapes(measures.get("shapes", {}))),
        "sides": (("reference, in the window's mix", BEFORE), ("window", AFTER)),
        "marks": (
            ("reference", "var(--shade)"),
            ("its mean", BEFORE),
            ("beginning of the change", AFTER),
        ),
        "parts": [
            (name, report.attribution[kind][:_MOST_PARTS])
            for kind, name in _KINDS.items()
            if report.attribution.get(kind)
        ],
        "examples": [_example(review, labels) for review in examples],
        "findings": list(_findings(measures)),
        "audited": {side: accuracy(found) for side, found in measures.get("audited", {}).items()},
        "alarm": measures.get("alarm"),
    }


def _tiles(report: DriftReport) -> Iterator[tuple[str, str, str]]:
    """Name, value and note of each number at the top."""
    measures = report.measures
    if report.verdict == "drift":
        yield "Since", f"{since(report).astimezone(UTC):%d %b %H:%M}", "the most likely beginning"
        surest = min((found["adjusted_p_value"] for found in measures.get("findings", [])), default=None)
        if surest is not None:
            yield "How sure", sureness(surest), _odds(surest)
    if report.attribution:
        yield (
            "New reviews",
            f"{report.attribution['new_share']:.0%}",
            "of the window look like nothing before",
        )
    if (expected := measures.get("expected")) and report.verdict != "unknown":
        note = f"was {expected['reference']['accuracy']:.1%}; from probabilities"
        if not expected["calibrated_on"]:
            note += ", not calibrated on this stream"
        yield "Expected accuracy", f"{expected['window']['accuracy']:.1%}", note
    audited = measures.get("audited")
    if audited and audited["window"]["labels"]:
        window = audited["window"]
        yield "Accuracy on audit labels", f"{window['accuracy']:.1%}", accuracy(window)


def _odds(p_value: float) -> str:
    """How often chance would do that, all measures together."""
    if p_value < 1e-9:
        return "by chance less than once in a billion"
    return f"by chance once in {max(1, round(1 / p_value)):,}"


def _courses(report: DriftReport, labels: Sequence[str]) -> Iterator[tuple[str, Picture]]:
    """A name and a picture for each measure over time; that of the classes is the last."""
    rows = report.measures["course"]
    stretch = timedelta(seconds=report.measures["stretch_seconds"])
    times = [datetime.fromisoformat(row["starts_at"]) + stretch / 2 for row in rows]
    until = report.windows.reference_until
    axis = charts.TimeAxis(times, until, since(report) if report.verdict == "drift" else None, stretch)
    before = [row for row, time in zip(rows, times, strict=True) if time <= until] or rows[:1]
    for name, key, is_share in _COURSES:
        usual = _usual(before, key)
        if usual is not None:
            yield name, charts.course(axis, [row.get(key) for row in rows], usual, name, percent=is_share)
    yield "Classes", charts.shares_over_time(axis, [row["classes"] for row in rows], labels, "Classes")


def _usual(rows: Iterable[Mapping[str, Any]], key: str) -> float | None:
    """The reference's mean of a measure, over reviews; of the number of reviews, over stretches of time."""
    known = [
        (row[key], 1 if key == "reviews" else row["reviews"]) for row in rows if row.get(key) is not None
    ]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None


def _shapes(shapes: Mapping[str, Any]) -> Iterator[tuple[str, Picture]]:
    """A name and a picture for each distribution before and now."""
    for name, shape in shapes.items():
        form = "{:.0%}" if name == "confidence" else "{:.0f}"
        is_scale = "edges" in shape
        bins = list(map(form.format, shape["edges"][:-1])) if is_scale else list(map(str, shape["names"]))
        title, sides = name.capitalize(), (shape["reference"], shape["window"])
        yield title, charts.before_and_after(bins, *sides, title, is_scale=is_scale)


def _example(review: StoredReview, labels: Sequence[str]) -> dict[str, Any]:
    best = max(range(len(labels)), key=lambda place: review.probabilities[place])
    is_long = len(review.text) > _LONGEST_EXAMPLE
    return {
        "text": review.text[:_LONGEST_EXAMPLE] + "…" if is_long else review.text,
        "label": labels[best],
        "colour": charts.class_colour(best),
        "sure": review.probabilities[best],
        "scored_at": _time(review.scored_at),
        "origins": [name for name in (review.product, review.source) if name],
    }


def _findings(measures: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    within = {found["measure"]: found for found in measures.get("within_classes", [])}
    for found in measures.get("findings", []):
        same = within.get(found["measure"])
        yield found | {
            "of_bar": found["effect"] / found["floor"] / _FLOORS_OF_BAR,
            "before": number(found["reference"], found["unit"]),
            "now": number(found["window"], found["unit"]),
            "sureness": sureness(found["adjusted_p_value"]),
            "within": "" if same is None else "moved too" if same["is_drift"] else "as before",
        }


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%d %b %Y %H:%M:%S}"
