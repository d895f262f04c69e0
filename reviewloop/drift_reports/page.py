"""A drift report as one HTML file without anything from elsewhere."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from reviewloop.drift_reports import svg
from reviewloop.drift_reports.style import STYLE
from reviewloop.drift_reports.wording import accuracy, headline, number, since, sureness, unseen
from reviews.drift import DriftReport, StoredReview

_LONGEST_EXAMPLE = 600
_BAR_PIXELS = 100
_FLOORS_OF_BAR = 4
_KINDS = {"products": "Products", "sources": "Sources", "clusters": "Kinds of texts", "words": "Words"}
_TICKS = 5
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_FINDINGS_NOTE = (
    "<p>A measure counts as moved when its effect reaches its floor and chance can hardly be the cause, all "
    "measures taken together (Holm). Reviews are compared with reference reviews of the same product, part "
    "of the day and part of the week. Within classes: whether texts of the same class differ.</p>"
)


def page(report: DriftReport, examples: Sequence[StoredReview] = ()) -> str:
    """The page; every text from outside is escaped.

    Args:
        report: What was found, by an adapter whose labels are among its measures.
        examples: Reviews of what is new, as that adapter scored them.
    """
    measures = report.measures
    labels = measures["labels"]
    parts = [
        _banner(report),
        _tiles(report),
        _section("What moved, and when", _courses(report, labels)) if measures.get("course") else "",
        _section("Before and now", _shapes(measures.get("shapes", {}))) if measures.get("shapes") else "",
        _section("What makes up the shift", _attribution(report)) if report.attribution else "",
        _section("Reviews of the new kind", _examples(examples, labels)) if examples else "",
        _section("How sure each measure is", _findings(measures)) if measures.get("findings") else "",
        _footer(report),
    ]
    title = f"Drift of {report.windows.task}: {report.verdict}"
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _banner(report: DriftReport) -> str:
    windows = report.windows
    detail = f"{report.reviews:,} reviews scored from {_time(windows.since)} to {_time(windows.until)}"
    reference = f"{_time(windows.reference_since)} to {_time(windows.reference_until)}"
    against = f"held against the first reviews since the promotion, {reference}"
    notes = f"Times are UTC. {unseen(report)}"
    return (
        f'<header class="{report.verdict}"><p class="verdict">{report.verdict}</p>'
        f"<h1>{escape(headline(report))}</h1><p>{detail}, {against}. {notes}</p></header>"
    )


def _tiles(report: DriftReport) -> str:
    measures = report.measures
    tiles = []
    if report.verdict == "drift":
        tiles.append(("Since", f"{since(report).astimezone(UTC):%d %b %H:%M}", "the most likely beginning"))
        surest = min((found["adjusted_p_value"] for found in measures.get("findings", [])), default=None)
        if surest is not None:
            tiles.append(("How sure", sureness(surest), _odds(surest)))
    if report.attribution:
        share = report.attribution["new_share"]
        tiles.append(("New reviews", f"{share:.0%}", "of the window look like nothing before"))
    if (expected := measures.get("expected")) and report.verdict != "unknown":
        before, after = expected["reference"]["accuracy"], expected["window"]["accuracy"]
        note = f"was {before:.1%}; from probabilities"
        if not expected["calibrated_on"]:
            note += ", not calibrated on this stream"
        tiles.append(("Expected accuracy", f"{after:.1%}", note))
    audited = measures.get("audited")
    if audited and audited["window"]["labels"]:
        reached = f"{audited['window']['accuracy']:.1%}"
        tiles.append(("Accuracy on audit labels", reached, accuracy(audited["window"])))
    cells = (
        f'<div class="tile"><h2>{escape(name)}</h2><p class="value">{escape(value)}</p>'
        f"<p>{escape(note)}</p></div>"
        for name, value, note in tiles
    )
    return f'<div class="tiles">{"".join(cells)}</div>'


def _odds(p_value: float) -> str:
    """How often chance would do that, all measures together."""
    if p_value < 1e-9:
        return "by chance less than once in a billion"
    return f"by chance once in {max(1, round(1 / p_value)):,}"


def _courses(report: DriftReport, labels: Sequence[str]) -> str:
    rows = report.measures["course"]
    half = report.measures["stretch_seconds"] / 2
    times = [datetime.fromisoformat(row["starts_at"]).timestamp() + half for row in rows]
    until = report.windows.reference_until.timestamp()
    change = since(report).timestamp() if report.verdict == "drift" else None
    course = svg.Course(times, until, change, _ticks(times, half * 2))
    before = [row for row, time in zip(rows, times, strict=True) if time <= until] or rows[:1]
    pictures = []
    for name, key, percent in (
        ("Length of the texts, characters", "characters", False),
        ("Words that the reference does not know", "unknown_words", True),
        ("Confidence", "confidence", True),
        ("Accuracy to expect", "expected_accuracy", True),
    ):
        values = [row.get(key) for row in rows]
        usual = _mean((row.get(key), row["reviews"]) for row in before)
        if usual is not None:
            picture = svg.line(course, values, usual, percent=percent, label=f"{name} over time")
            pictures.append(_figure(name, picture))
    counts = [float(row["reviews"]) for row in rows]
    usual = sum(row["reviews"] for row in before) / len(before)
    picture = svg.line(course, counts, usual, percent=False, label="Reviews over time")
    pictures.append(_figure("Reviews", picture))
    picture = svg.stacked(course, [row["classes"] for row in rows], labels, "Shares of the classes over time")
    keys = "".join(
        f'<span><i style="background:{svg.colour(place)}"></i>{escape(label)}</span>'
        for place, label in enumerate(labels)
    )
    pictures.append(_figure("Classes", picture, keys))
    return f'<div class="grid2">{"".join(pictures)}</div>'


def _mean(pairs: Iterable[tuple[float | None, int]]) -> float | None:
    known = [(value, weight) for value, weight in pairs if value is not None]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None


def _ticks(times: Sequence[float], width: float) -> list[tuple[float, str]]:
    """A few times along the lower edge, as exact as the stretches are wide."""
    form = "%H:%M:%S" if width < 60 else "%d %b %H:%M" if width < 86_400 else "%d %b %Y"
    count = min(_TICKS, len(times))
    chosen = sorted({round(place * (len(times) - 1) / max(1, count - 1)) for place in range(count)})
    return [(times[place], f"{datetime.fromtimestamp(times[place], UTC):{form}}") for place in chosen]


def _shapes(shapes: Mapping[str, Any]) -> str:
    pictures = []
    for name, shape in shapes.items():
        if "edges" in shape:
            percent = name == "confidence"
            names = [
                "" if place % 3 else (f"{edge:.0%}" if percent else f"{edge:.0f}")
                for place, edge in enumerate(shape["edges"][:-1])
            ]
        else:
            names = [str(item)[:10] for item in shape["names"]]
        picture = svg.shapes(names, shape["reference"], shape["window"], f"{name} before and now")
        pictures.append(_figure(name.capitalize(), picture))
    keys = (
        f'<p class="keys"><span><i style="background:{svg.BEFORE}"></i>reference, in the window\'s mix</span>'
        f'<span><i style="background:{svg.AFTER}"></i>window</span></p>'
    )
    return f'{keys}<div class="grid4">{"".join(pictures)}</div>'


def _attribution(report: DriftReport) -> str:
    attribution, columns = report.attribution, []
    for kind, name in _KINDS.items():
        rows = [_part(part) for part in attribution.get(kind, [])[:8]]
        if rows:
            table = _table(("", "of the shift", "before", "now"), rows)
            columns.append(f"<div><h3>{name}</h3>{table}</div>")
    number_ = len(attribution.get("to_label", []))
    note = (
        f"<p>{number_:,} of the new reviews are worth a label first: the watch queues the first of them, "
        f"<code>reviewloop drift report --id {report.id} --queue {number_}</code> does by hand.</p>"
    )
    return f'<div class="grid2">{"".join(columns)}</div>{note}'


def _part(part: Mapping[str, Any]) -> list[str]:
    shares = [_percent(part[name]) for name in ("share", "reference", "window")]
    return [escape(part["name"]), f"{_bar(part['share'])} {shares[0]}", *shares[1:]]


def _bar(share: float, *, is_over: bool = False) -> str:
    wide = max(1.0, min(1.0, share) * _BAR_PIXELS)
    return f'<span class="bar{" over" if is_over else ""}" style="width:{wide:.0f}px"></span>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML already."""
    names = "".join(f"<th>{name}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{names}</tr>{lines}</table>"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 or share == 0 else f"{share:.1%}" if share >= 0.001 else "< 0.1%"


def _examples(examples: Sequence[StoredReview], labels: Sequence[str]) -> str:
    cards = []
    for review in examples:
        best = max(range(len(labels)), key=lambda place: review.probabilities[place])
        where = " · ".join(escape(name) for name in (review.product, review.source) if name)
        text = review.text if len(review.text) <= _LONGEST_EXAMPLE else review.text[:_LONGEST_EXAMPLE] + "…"
        sure = f"{review.probabilities[best]:.0%}"
        cards.append(
            f'<article><p class="text">{escape(text)}</p><p class="meta"><b style="color:{svg.colour(best)}">'
            f"{escape(labels[best])}</b> {sure} · {_time(review.scored_at)} · {where}</p>"
            "</article>"
        )
    return f'<div class="grid2">{"".join(cards)}</div>'


def _findings(measures: Mapping[str, Any]) -> str:
    within = {found["measure"]: found for found in measures.get("within_classes", [])}
    rows = []
    for found in measures["findings"]:
        same = within.get(found["measure"])
        bar = _bar(found["effect"] / found["floor"] / _FLOORS_OF_BAR, is_over=found["is_drift"])
        rows.append(
            (
                escape(found["measure"]),
                f"{bar} {found['effect']:.3f} <small>(floor {found['floor']:g})</small>",
                number(found["reference"], found["unit"]),
                number(found["window"], found["unit"]),
                escape(found["unit"]),
                sureness(found["adjusted_p_value"]),
                "" if same is None else ("moved too" if same["is_drift"] else "as before"),
            )
        )
    head = ("", "effect", "before", "now", "", "how sure", "within classes")
    return _table(head, rows) + _FINDINGS_NOTE


def _footer(report: DriftReport) -> str:
    measures = report.measures
    adapter, audited = measures.get("adapter"), measures.get("audited")
    lines = [f"Report {report.id or ''} of the task {report.windows.task}, adapter {adapter}."]
    if audited:
        before, now = accuracy(audited["reference"]), accuracy(audited["window"])
        lines.append(f"Accuracy on audit labels, reference: {before}; window: {now}.")
    if alarm := measures.get("alarm"):
        lines.append(
            f"Raised by the watch: {alarm['feature']} in the last {alarm['window_reviews']:,} reviews, "
            f"{max(alarm['strengths'].values()):.1f} times what raises an alarm."
        )
    return "<footer>" + "".join(f"<p>{escape(line)}</p>" for line in lines) + "</footer>"


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _figure(title: str, picture: str, below: str = "") -> str:
    keys = f'<p class="keys">{below}</p>' if below else ""
    return f"<figure><figcaption>{escape(title)}</figcaption>{picture}{keys}</figure>"


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%d %b %Y %H:%M:%S}"
