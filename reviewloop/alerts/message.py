"""What an alert says of a drift report: enough to decide whether to look, and no review's text."""

import json
from datetime import UTC
from typing import Any

from reviewloop.drift_reports.wording import headline, since
from reviewloop.visible import one_line
from reviews.drift import DriftReport

_TOP_PARTS = 3
_HARMLESS = str.maketrans("<>@`*_|~", "‹›＠'∗‗¦∼")
"""In a chat, names of labels and tasks call nobody, and are neither links nor markup."""


def alert_id(report: DriftReport) -> str:
    """The name that an alert keeps however often it is sent, so that whoever gets it twice can tell."""
    return f"drift-report-{report.id}"


def to_alert(report: DriftReport) -> dict[str, Any]:
    """The alert as plain JSON values."""
    windows, measures = report.windows, report.measures
    command = f"reviewloop drift report --id {report.id} --format html --output drift.html"
    return {
        "id": alert_id(report),
        "text": _text(report, command),
        "kind": "drift",
        "task": windows.task,
        "adapter": measures.get("adapter"),
        "moved": measures.get("moved", []),
        "since": measures.get("since") or windows.since.isoformat(),
        "window": {
            "since": windows.since.isoformat(),
            "until": windows.until.isoformat(),
            "reviews": report.reviews,
        },
        "alarm": measures.get("alarm"),
        "findings": [
            {
                name: found[name]
                for name in ("measure", "effect", "adjusted_p_value", "reference", "window", "unit")
            }
            for found in measures.get("findings", [])
            if found["is_drift"]
        ],
        "attribution": {
            kind: [{"name": part["name"], "share": part["share"]} for part in parts[:_TOP_PARTS]]
            for kind, parts in report.attribution.items()
            if kind in {"products", "sources", "words", "clusters"}
        },
        "command": command,
    }


def _text(report: DriftReport, command: str) -> str:
    """The alert in two sentences and a command: what chats show of a message."""
    began = f"{since(report).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    sentences = f"{headline(report)} Task {report.windows.task}, since {began}, {report.reviews:,} reviews."
    return f"{one_line(sentences).translate(_HARMLESS)} {command}"


def to_body(alert: dict[str, Any]) -> bytes:
    """The alert as UTF-8 JSON."""
    return json.dumps(alert, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
