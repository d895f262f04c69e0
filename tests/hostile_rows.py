"""Rows whose every text tries to command whatever shows it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert

from reviews.record_id import record_id
from storage.database import Database
from storage.schema import metadata

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e[/][bold]x[/bold]"
"""For terminals."""
HOSTILE_MARKUP = (
    "\"'><script>alert(1)</script><img src=x onerror=alert(1)><a href='javascript:alert(1)'>x</a>{{7*7}}"
    "&lt;b&gt;</textarea></title>\x1b[2J\x9b31m\x07\u202e\u2066\u05e9\u05dc\u05d5\u05dd " + "w\u0338" * 30
)
"""For pages: markup, control characters, and overrides of the writing direction, in 224 characters."""
HUGE_TEXT = HOSTILE_MARKUP * 2000
"""A text of nearly half a million characters."""
VERSION = "sentiment-0123456789ab"


def store_hostile_rows(database: Database, hostile: str = HOSTILE, text: str = HOSTILE) -> None:
    """One row or more in every table that people look at, hostile wherever text can be."""
    now = datetime.now(UTC)
    day = timedelta(days=1)
    scores = {"label": hostile, "confidence": 0.9, "probabilities": [0.9, 0.1], "margin": 0.1, "entropy": 0.3,
              "truncated": False, "scored_at": now}  # fmt: skip
    metrics = {
        "accuracy": 0.5,
        "macro_f1": 0.5,
        "calibration_error": 0.1,
        "audit_accuracy": 0.5,
        "audit_macro_f1": 0.5,
    }
    finding = {"measure": hostile, "effect": 0.5, "floor": 0.1, "adjusted_p_value": 0.001, "reference": 0.1,
               "window": 0.9, "unit": "share", "is_drift": True}  # fmt: skip
    part = {"name": hostile, "share": 0.5, "reference": 0.1, "window": 0.6}
    audited = {"labels": 0, "accuracy": None, "low": None, "high": None}
    rows: list[tuple[str, dict[str, Any]]] = [
        ("stream_partition", {"cluster_id": hostile, "topic": "reviews", "topic_id": hostile,
                              "partition": 0, "start_offset": 0, "next_offset": 9}),
        ("sink", {"topic": hostile}),
        ("console_user", {"name": hostile, "role": "owner", "created_by": hostile}),
        ("console_token", {"name": hostile, "secret_hash": b"", "user_id": 1, "role": "owner",
                           "expires_at": now}),
        ("stream_gap", {"stream_partition_id": 1, "first_offset": 1, "next_offset": 2,
                        "reason": hostile}),
        ("adapter", {"version": VERSION, "task": "sentiment", "labels": [hostile, "b"],
                     "base_model": hostile, "content_hash": "00", "temperature": 1.0, "metrics": {}}),
        ("adapter", {"version": "sentiment-ba9876543210", "task": "sentiment", "labels": [hostile, "b"],
                     "base_model": hostile, "content_hash": "01", "temperature": 1.0, "parent": hostile,
                     "metrics": metrics}),
        ("adapter_activation", {"task": "sentiment", "adapter_id": 1, "decided_by": hostile,
                                "reason": hostile}),
        ("adapter_shadow", {"task": "sentiment", "adapter_id": 1, "share": 0.1, "decided_by": hostile}),
        ("review", {"record": record_id(1, 3), "review_id": hostile, "text": text,
                    "product": hostile, "source": hostile, "published_at": now, "received_at": now}),
        ("withdrawal", {"record": record_id(1, 2), "review_id": hostile, "kind": "delete",
                        "received_at": now - day, "timestamp_ms": -1}),
        ("prediction", {"record": record_id(1, 3), "task": "sentiment", "adapter_id": 1, **scores}),
        ("prediction_history", {"record": record_id(1, 3), "task": "sentiment", "adapter_id": 2,
                                "reason": "shadow", **scores, "label": f"no {hostile}"}),
        ("dead_letter", {"record": record_id(1, 5), "stage": "parse", "error": hostile[:60],
                         "message": hostile, "raw": text.encode(), "key": hostile.encode(),
                         "received_at": now}),
        ("label", {"record": record_id(1, 3), "task": "sentiment", "label": "b", "annotator": hostile,
                   "source": hostile, "labelled_at": now}),
        ("label_task", {"record": record_id(1, 3), "task": "sentiment", "reason": hostile,
                        "strategy": hostile, "priority": 0.5}),
        ("erasure", {"requested_by": hostile, "reason": hostile, "stage": "done", "finished_at": now}),
        ("erasure_finding", {"erasure_id": 1, "place": hostile, "rows": 1, "state": "open",
                             "detail": hostile}),
        ("rescore_job", {"task": hostile, "adapter_id": 1}),
        ("training_run", {
            "task": "sentiment", "trigger": hostile, "lease_token": 1, "config": {}, "error": hostile[:60],
            "manifest": {"rows": {hostile: 1}}, "candidate_adapter": hostile,
            "metrics": {"chosen": hostile, "chosen_by": hostile, "active": metrics, "candidate": metrics,
                        "recipes": [{"name": hostile, "score": 0.5, "train_rows": 1, "steps": 1,
                                     "seconds": 1.0}],
                        "skipped": {hostile: hostile}},
            "verdict": {"reasons": [hostile],
                        "checks": [{"passed": False, "name": hostile, "value": 1.0, "limit": 2.0}]},
        }),
        ("drift_report", {
            "task": "sentiment", "reference_since": now - 3 * day, "reference_until": now - 2 * day,
            "since": now - 2 * day, "until": now - day, "reviews": 9, "verdict": "drift",
            "measures": {"adapter": hostile, "labels": [hostile, "b"], "moved": ["texts"],
                         "findings": [finding], "audited": {"reference": audited, "window": audited}},
            "attribution": {"new_share": 0.5, "products": [part], "sources": [part], "words": [part],
                            "clusters": [part], "examples": [record_id(1, 3)], "to_label": []},
        }),
    ]  # fmt: skip
    with database.begin() as connection:
        for table, values in rows:
            connection.execute(insert(metadata.tables[table]).values(**values))
