"""Nothing that comes from outside commands the terminal, whichever command prints it."""

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from reviewloop.cli import main
from storage.database import Database
from storage.migrate import upgrade
from storage.settings import DatabaseSettings
from tests.command_tree import all_commands
from tests.hostile_rows import HOSTILE, VERSION, store_hostile_rows
from tests.tiny import tiny_adapter

SHOWN = "␛]0;owned"
ESCAPED = "\\u001b]0;owned"
FORMATS = ("table", "csv", "jsonl")

Arguments = tuple[object, ...]

_ROWS: Mapping[str, Sequence[Arguments]] = {
    "query": [(), ("--count",)],
    "rescore": [("--status",)],
    "adapters list": [()],
    "adapters history": [()],
    "dead-letters list": [(), ("--count",)],
    "offsets show": [(), ("--gaps",)],
    "sink show": [()],
    "drift list": [()],
    "trainer history": [()],
    "trainer status": [()],
    "adapters shadow": [("status",)],
    "label agreement": [()],
    "label suspects": [()],
    "label progress": [()],
    "adapters prune": [("--dry-run",)],
}
"""Commands that print rows, in each of the three formats."""

_READS: Mapping[str, Sequence[Arguments]] = {
    **{
        name: [(*given, "--format", form) for given in all_given for form in FORMATS]
        for name, all_given in _ROWS.items()
    },
    "adapters zero-shot": [("--task", f"nobody{HOSTILE}")],
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
    "sink run": [("--topic", HOSTILE)],
    "sink remove": [(HOSTILE,), (f"nobody{HOSTILE}", "--yes")],
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
    "data retain": [("--dry-run",)],
    "forget": [
        (HOSTILE, "--dry-run"),
        ("--attribute", f"product={HOSTILE}", "--dry-run"),
        ("--list",),
        ("--show", HOSTILE),
    ],
    "sources list": [("--format", "table")],
    "sources try": [(HOSTILE,)],
    "data validate": [("train.csv",)],
    "data stats": [("train.csv", "--labels", f"{HOSTILE},b"), (f"./nowhere{HOSTILE}",)],
    "data split": [("train.csv",)],
    "train": [("--train-file", "train.csv", "--val-file", "train.csv", "--labels", "a,b")],
    "sweep": [("--train-file", f"./nowhere{HOSTILE}", "--val-file", "train.csv")],
    "compare": [("--train-file", f"./a{HOSTILE}", "--val-file", "train.csv", "--test-file", "train.csv")],
    "simulate": [(f"./nowhere{HOSTILE}",)],
    "consume": [("--start", HOSTILE)],
    "export": [("lake",), (f"nobodys{HOSTILE}://lake",)],
    "backup": [(".",), (f"nowhere{HOSTILE}", "--erasures-only")],
    "task labels": [("--format", form) for form in ("table", "csv", "jsonl")],
    "task rename-label": [(HOSTILE, "x"), ("positive", HOSTILE), ("[bold]b", "y", "--dry-run")],
    "task merge-labels": [
        (HOSTILE, "[bold]b", "--into", HOSTILE),
        (HOSTILE, "b", "--into", "c", "--dry-run"),
    ],
    "task split-label": [(HOSTILE, "x", "y"), (HOSTILE, HOSTILE, "y", "--dry-run")],
    "task add-label": [(HOSTILE,), ("[bold]new", "--task", HOSTILE)],
    "task ask-again": [(HOSTILE,), (HOSTILE, "--dry-run")],
    "restore": [("backup", "--check"), (f"nowhere{HOSTILE}",)],
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
    "label-studio connect", "label-studio push", "label-studio pull", "mlflow",
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
    (place / "backup").mkdir()
    (place / "backup" / "manifest.json").write_text(json.dumps({HOSTILE: HOSTILE, "kind": HOSTILE}))
    tiny_adapter(tiny_model, place / "made", labels=("[/]", "[bold]b", "c")).rename(place / "adapter")
    return place


@pytest.fixture
def told(
    database: str, tiny_model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> Callable[..., str]:
    """Runs a command as a person does; all that it wrote on both streams."""
    opened = Database(DatabaseSettings(url=database))
    upgrade(opened)
    store_hostile_rows(opened)
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
