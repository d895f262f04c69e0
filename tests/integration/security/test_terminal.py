"""Nothing that comes from outside commands the terminal, whichever command prints it."""

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from reviewloop.cli import main
from reviews.record_id import record_id
from storage import schema
from storage.database import Database
from storage.migrate import upgrade
from storage.settings import DatabaseSettings
from tests.command_tree import all_commands
from tests.tiny import tiny_adapter

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e[/][bold]x[/bold]"
SHOWN = "␛]0;owned"
ESCAPED = "\\u001b]0;owned"
VERSION = "sentiment-0123456789ab"
FORMATS = ("table", "csv", "jsonl")

Arguments = tuple[object, ...]

_ROWS: Mapping[str, Sequence[Arguments]] = {
    "query": [(), ("--count",)],
    "rescore": [("--status",)],
    "adapters list": [()],
    "adapters history": [()],
    "dead-letters list": [(), ("--count",)],
    "offsets show": [(), ("--gaps",)],
    "drift list": [()],
    "trainer history": [()],
    "trainer status": [()],
    "adapters shadow": [("status",)],
    "label agreement": [()],
    "label suspects": [()],
}
"""Commands that print rows, in each of the three formats."""

_READS: Mapping[str, Sequence[Arguments]] = {
    **{
        name: [(*given, "--format", form) for given in all_given for form in FORMATS]
        for name, all_given in _ROWS.items()
    },
    "adapters show": [(VERSION,), (VERSION, "--format", "table")],
    "adapters activate": [(VERSION, "--reason", HOSTILE), (f"nobody{HOSTILE}",)],
    "adapters promote": [(f"nobody{HOSTILE}",)],
    "adapters rollback": [("--to", f"nobody{HOSTILE}")],
    "adapters add": [(f"./nowhere{HOSTILE}",)],
    "adapters combine": [(f"nobody{HOSTILE}", f"other{HOSTILE}")],
    "adapters watch": [("--task", HOSTILE)],
    "dead-letters show": [("reviews:0:5",), ("reviews:0:5", "--format", "table")],
    "dead-letters replay": [(f"x{HOSTILE}",)],
    "dead-letters discard": [(f"x{HOSTILE}", "--reason", "a")],
    "offsets set": [(f"x{HOSTILE}",)],
    "drift report": [("--id", 1, "--format", form) for form in ("table", "json", "html")],
    "drift watch": [("--once", "--task", HOSTILE)],
    "trainer show": [(1, "--format", "table"), (1, "--format", "json")],
    "trainer run": [("--task", HOSTILE)],
    "trainer schedule": [("--task", HOSTILE)],
    "label": [("--annotator", "ann")],
    "label queue": [("--format", "table"), ("--format", "json")],
    "label export": [("--format", "label-studio"), ("--format", "csv"), ("--format", "jsonl"), ("--config",)],
    "label import": [("labels.csv",)],
    "label publish": [("labels.csv",)],
    "label set": [(HOSTILE, HOSTILE), (HOSTILE, "b", "--annotator", HOSTILE)],
    "label consume": [("--topic", HOSTILE)],
    "predict": [("--adapter", "adapter", "--format", form, HOSTILE) for form in FORMATS],
    "publish": [("reviews.jsonl",), (f"./nowhere{HOSTILE}",)],
    "data validate": [("train.csv",)],
    "data stats": [("train.csv", "--labels", f"{HOSTILE},b"), (f"./nowhere{HOSTILE}",)],
    "data split": [("train.csv",)],
    "train": [("--train-file", "train.csv", "--val-file", "train.csv", "--labels", "a,b")],
    "sweep": [("--train-file", f"./nowhere{HOSTILE}", "--val-file", "train.csv")],
    "compare": [("--train-file", f"./a{HOSTILE}", "--val-file", "train.csv", "--test-file", "train.csv")],
    "simulate": [(f"./nowhere{HOSTILE}",)],
    "consume": [("--start", HOSTILE)],
    "console": [("--address", HOSTILE)],
    "console users add": [(HOSTILE,), ("[bold]b",)],
    "console users list": [("--format", form) for form in ("table", "csv", "jsonl")],
    "console users role": [(HOSTILE, "owner"), ("nobody" + HOSTILE, "viewer")],
    "console users disable": [("nobody" + HOSTILE,), (HOSTILE,)],
    "console users enable": [(HOSTILE,)],
    "console users reset": [(HOSTILE,)],
    "console tokens add": [(HOSTILE, HOSTILE), ("[bold]b", HOSTILE)],
    "console tokens list": [("--format", form) for form in ("table", "csv", "jsonl")],
    "console tokens revoke": [(HOSTILE,), ("nobody" + HOSTILE,)],
    "config show": [("--format", "table"), ("--format", "json")],
    "topics create": [("--partitions", HOSTILE)],
    "db roles": [("--reader", f"pg_{HOSTILE}")],
    "init": [("train.csv",)],
}
"""Commands that print what others wrote, or what a script handed them."""

_NOTHING_FROM_OUTSIDE = {
    "demo", "doctor", "up", "local up", "local down", "local status", "db upgrade", "db status",
    "db index-text", "label queue fill", "config page", "console openapi",
}  # fmt: skip
"""Commands that print this program's own sentences, paths and versions."""

_OBEYED_NOWHERE = frozenset("\n\t\u200c\u200d")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Files of a stranger."""
    place = tmp_path_factory.mktemp("hostile")
    (place / "labels.csv").write_text(f"review_id,label,annotator\nr-1,{HOSTILE},ann\n{HOSTILE},a,ann\n")
    (place / "reviews.jsonl").write_text(json.dumps({"id": HOSTILE, "text": " "}) + "\n" + HOSTILE + "\n")
    (place / "train.csv").write_text(f"text,label\n{HOSTILE} one,{HOSTILE}\n{HOSTILE} two,b\n ,b\n")
    tiny_adapter(tiny_model, place / "made", labels=("[/]", "[bold]b", "c")).rename(place / "adapter")
    return place


@pytest.fixture
def told(
    database: str, tiny_model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> Callable[..., str]:
    """Runs a command as a person does; all that it wrote on both streams."""
    opened = Database(DatabaseSettings(url=database))
    upgrade(opened)
    _store(opened)
    opened.close()
    monkeypatch.chdir(folder)
    for name, value in {
        "REVIEWLOOP_DATABASE__URL": database,
        "REVIEWLOOP_CLASSIFIER__BASE_MODEL": str(tiny_model),
        "REVIEWLOOP_CLASSIFIER__DEVICE": "cpu",
        "REVIEWLOOP_KAFKA__GROUP_ID": HOSTILE,
    }.items():
        monkeypatch.setenv(name, value)

    def told(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["reviewloop", *map(str, arguments)])
        with monkeypatch.context() as terminal, contextlib.suppress(SystemExit):
            if "csv" in arguments:  # in a file it is to come back as it was
                terminal.setattr(sys.stdout, "isatty", lambda: True)
            terminal.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"q\n")))
            main()
        captured = capfd.readouterr()
        return str(captured.out + captured.err)

    return told


def test_every_command_is_walked_or_prints_nothing_from_outside() -> None:
    assert set(_leaves()) == _READS.keys() | _NOTHING_FROM_OUTSIDE
    assert not _READS.keys() & _NOTHING_FROM_OUTSIDE


def test_no_command_prints_what_a_terminal_obeys(told: Callable[..., str]) -> None:
    for name, all_given in _READS.items():
        for given in all_given:
            printed = told(*name.split(), *given)
            obeyed = {mark for mark in printed if not mark.isprintable()} - _OBEYED_NOWHERE
            assert not obeyed, f"{name} {given}: {sorted(obeyed)!r} in {printed!r}"


def test_what_was_written_can_still_be_read(told: Callable[..., str]) -> None:
    for arguments, expected in (
        (("query", "--format", "table"), SHOWN),
        (("query", "--format", "jsonl"), ESCAPED),
        (("dead-letters", "show", "reviews:0:5"), ESCAPED),
        (("dead-letters", "show", "reviews:0:5", "--format", "table"), SHOWN),
        (("drift", "report", "--id", 1, "--format", "table"), SHOWN),
        (("drift", "report", "--id", 1), ESCAPED),
        (("label", "queue", "--format", "json"), ESCAPED),
        (("predict", "--adapter", "adapter", "--format", "table", "fine"), "[bold]b"),
        (("data", "stats", "train.csv", "--labels", "[bold]a,b", "--format", "table"), "[bold]a"),
    ):
        assert expected in told(*arguments), arguments
    (row,) = map(json.loads, told("query", "--format", "jsonl").splitlines())
    assert (row["review_id"], row["text"]) == (HOSTILE, HOSTILE), "JSON lines lose nothing"


def _leaves() -> Iterator[str]:
    for name, command in all_commands():
        if name and (not getattr(command, "commands", {}) or command.invoke_without_command):
            yield name


def _store(database: Database) -> None:
    """One row or more in every table that a command reads, hostile wherever text can be."""
    now = datetime.now(UTC)
    day = timedelta(days=1)
    scores = {"label": HOSTILE, "confidence": 0.9, "probabilities": [0.9, 0.1], "margin": 0.1, "entropy": 0.3,
              "truncated": False, "scored_at": now}  # fmt: skip
    metrics = {"accuracy": 0.5, "macro_f1": 0.5, "calibration_error": 0.1, "audit_accuracy": 0.5}
    finding = {"measure": HOSTILE, "effect": 0.5, "floor": 0.1, "adjusted_p_value": 0.001, "reference": 0.1,
               "window": 0.9, "unit": "share", "is_drift": True}  # fmt: skip
    part = {"name": HOSTILE, "share": 0.5, "reference": 0.1, "window": 0.6}
    audited = {"labels": 0, "accuracy": None, "low": None, "high": None}
    rows: list[tuple[Any, dict[str, Any]]] = [
        (schema.stream_partition, {"cluster_id": HOSTILE, "topic": "reviews", "topic_id": HOSTILE,
                                   "partition": 0, "start_offset": 0, "next_offset": 9}),
        (schema.console_user, {"name": HOSTILE, "role": "owner", "created_by": HOSTILE}),
        (schema.console_token, {"name": HOSTILE, "secret_hash": b"", "user_id": 1, "role": "owner",
                                "expires_at": now}),
        (schema.stream_gap, {"stream_partition_id": 1, "first_offset": 1, "next_offset": 2,
                             "reason": HOSTILE}),
        (schema.adapter, {"version": VERSION, "task": "sentiment", "labels": [HOSTILE, "b"],
                          "base_model": HOSTILE, "content_hash": "00", "temperature": 1.0, "metrics": {}}),
        (schema.adapter_activation, {"task": "sentiment", "adapter_id": 1, "decided_by": HOSTILE,
                                     "reason": HOSTILE}),
        (schema.adapter_shadow, {"task": "sentiment", "adapter_id": 1, "share": 0.1, "decided_by": HOSTILE}),
        (schema.review, {"record": record_id(1, 3), "review_id": HOSTILE, "text": HOSTILE,
                         "product": HOSTILE, "source": HOSTILE, "published_at": now, "received_at": now}),
        (schema.prediction, {"record": record_id(1, 3), "task": "sentiment", "adapter_id": 1, **scores}),
        (schema.dead_letter, {"record": record_id(1, 5), "stage": "parse", "error": HOSTILE,
                              "message": HOSTILE, "raw": HOSTILE.encode(), "key": HOSTILE.encode(),
                              "received_at": now}),
        (schema.label, {"record": record_id(1, 3), "task": "sentiment", "label": "b", "annotator": HOSTILE,
                        "source": HOSTILE, "labelled_at": now}),
        (schema.label_task, {"record": record_id(1, 3), "task": "sentiment", "reason": HOSTILE,
                             "strategy": HOSTILE, "priority": 0.5}),
        (schema.rescore_job, {"task": HOSTILE, "adapter_id": 1}),
        (schema.training_run, {
            "task": "sentiment", "trigger": HOSTILE, "lease_token": 1, "config": {}, "error": HOSTILE,
            "manifest": {"rows": {HOSTILE: 1}}, "candidate_adapter": HOSTILE,
            "metrics": {"chosen": HOSTILE, "chosen_by": HOSTILE, "active": metrics, "candidate": metrics,
                        "recipes": [{"name": HOSTILE, "score": 0.5, "train_rows": 1, "seconds": 1.0}],
                        "skipped": {HOSTILE: HOSTILE}},
            "verdict": {"reasons": [HOSTILE],
                        "checks": [{"passed": False, "name": HOSTILE, "value": 1.0, "limit": 2.0}]},
        }),
        (schema.drift_report, {
            "task": "sentiment", "reference_since": now - 3 * day, "reference_until": now - 2 * day,
            "since": now - 2 * day, "until": now - day, "reviews": 9, "verdict": "drift",
            "measures": {"adapter": HOSTILE, "labels": [HOSTILE, "b"], "moved": ["texts"],
                         "findings": [finding], "audited": {"reference": audited, "window": audited}},
            "attribution": {"new_share": 0.5, "products": [part], "sources": [part], "words": [part],
                            "clusters": [part], "examples": [record_id(1, 3)], "to_label": []},
        }),
    ]  # fmt: skip
    with database.begin() as connection:
        for table, values in rows:
            connection.execute(insert(table).values(**values))
