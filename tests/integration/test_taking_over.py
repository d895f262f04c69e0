"""Which adapter may take over unasked: one with the same labels that is no worse by what both store."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer

from reviewloop.cli import activation
from reviews.adapter import AdapterVersion
from reviews.errors import ReviewLoopError, WrongUse
from reviews.label import Label
from storage.adapters.promotion import Consent, propose_promotion
from storage.adapters.registry import AdapterStore
from storage.adapters.shadows import ShadowStore
from storage.labels.store import LabelStore
from storage.stream.partitions import PartitionStore
from tests.integration.in_process import InProcess, Stream
from tests.integration.test_shadow import store_scored
from tests.tiny import tiny_adapter, tiny_peft_model

Run = Callable[..., str]
GOOD, WORSE, BETTER = "sentiment-aaaaaaaaaaaa", "sentiment-bbbbbbbbbbbb", "sentiment-cccccccccccc"
OTHER = "sentiment-dddddddddddd"
UNMEASURED = "sentiment-eeeeeeeeeeee"
LABELS = ("bad", "good")


def _manifest(**hashes: str) -> bytes:
    return json.dumps({"training": {"data_sha256": hashes}}).encode()


@pytest.fixture
def made(stream: Stream) -> InProcess:
    """An adapter of macro-F1 0.73 serves; others have 0.58, 0.8, other labels, or no metrics."""
    made = stream()
    adapters = AdapterStore(made.database)
    for name, labels, metrics, test_rows in (
        (GOOD, LABELS, {"test_macro_f1": 0.73, "validation_macro_f1": 0.5}, "a"),
        (WORSE, LABELS[::-1], {"test_macro_f1": 0.58, "validation_macro_f1": 0.9}, "a"),
        (BETTER, LABELS, {"test_macro_f1": 0.8}, "b"),
        (OTHER, ("class_0", "class_1"), {"test_macro_f1": 0.99}, "a"),
        (UNMEASURED, LABELS, {}, "a"),
    ):
        adapter = AdapterVersion(name, "sentiment", labels, "none", None, name[-1] * 64, metrics=metrics)
        adapters.add(adapter, {"reviewloop.json": _manifest(test=test_rows)})
    adapters.activate(adapters.find(GOOD), expected=None, decided_by="test", reason="test")
    PartitionStore(made.database).register("cluster", "reviews", "topic", 0, 0)
    return made


def _active(made: InProcess) -> str:
    active = AdapterStore(made.database).active("sentiment")
    assert active is not None
    return active.version


@pytest.mark.parametrize("command", ["promote", "activate"])
def test_a_worse_adapter_takes_over_only_where_that_is_said(made: InProcess, run: Run, command: str):
    with pytest.raises(ReviewLoopError, match=r"is worse than .*nothing was changed") as refused:
        run(made, "adapters", command, WORSE)
    assert not isinstance(refused.value, WrongUse)
    assert _active(made) == GOOD
    run(made, "adapters", command, WORSE, "--yes")
    assert _active(made) == WORSE
    run(made, "adapters", "rollback")
    assert _active(made) == GOOD, "a rollback asks nothing"


def test_a_better_adapter_takes_over_without_a_question(made: InProcess, run: Run):
    run(made, "adapters", "promote", BETTER)
    assert _active(made) == BETTER


def test_the_comparison_says_which_figures_and_whether_of_the_same_rows(made: InProcess, capsys):
    for version, said in ((WORSE, "on the same rows"), (BETTER, "each on rows of its own")):
        activation._confirm_if_worse(propose_promotion(made.database, version), agreed=True)
        told = capsys.readouterr().err
        assert said in told
        assert "test_macro_f1" in told
        assert "0.730" in told


@pytest.mark.parametrize(
    ("version", "why"),
    [(UNMEASURED, f"no metrics are stored for {UNMEASURED}"), (OTHER, "their labels differ")],
)
def test_an_adapter_that_cannot_be_compared_takes_over_and_the_reason_is_said(
    made: InProcess, capsys, version: str, why: str
):
    proposal = propose_promotion(made.database, version)
    activation.take_over(made.database, proposal, "because", Consent(other_labels=True))
    assert f"{version} cannot be compared with {GOOD}, the active adapter: {why}." in capsys.readouterr().err
    assert _active(made) == version


@pytest.mark.parametrize("answer", [True, False])
def test_on_a_terminal_the_person_is_asked(made: InProcess, monkeypatch, answer: bool):
    questions = []

    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(activation.sys, "stdin", Terminal())
    monkeypatch.setattr(typer, "confirm", lambda question, **_: questions.append(question) or answer)
    worse = propose_promotion(made.database, WORSE)
    if answer:
        activation.take_over(made.database, worse, "because", Consent())
    else:
        with pytest.raises(ReviewLoopError, match="Nothing was changed"):
            activation.take_over(made.database, worse, "because", Consent())
    assert _active(made) == (WORSE if answer else GOOD)
    assert len(questions) == 1


def test_other_labels_are_refused_with_what_they_mean_for_old_answers(made: InProcess, run: Run):
    store_scored(made.database, [("good", None), ("bad", None)])
    now = datetime(2026, 1, 2, tzinfo=UTC)
    records = [row[0] for row in made.sql("SELECT record FROM review ORDER BY record")]
    LabelStore(made.database).add(
        [Label(record, "sentiment", "good", "ann", "test", now) for record in records]
    )
    with pytest.raises(WrongUse, match=r"class_0, class_1.*bad, good.*--allow-other-labels.*2 'good'"):
        run(made, "adapters", "promote", OTHER, "--yes")
    assert _active(made) == GOOD
    run(made, "adapters", "promote", OTHER, "--allow-other-labels")
    assert _active(made) == OTHER
    run(made, "adapters", "rollback")
    assert _active(made) == GOOD, "what served before comes back, whatever its labels"


def test_a_plain_peft_directory_takes_over_under_the_names_that_are_given_to_its_classes(
    made: InProcess, run: Run, tiny_model: Path, tmp_path: Path
):
    plain = tmp_path / "plain"
    tiny_peft_model(tiny_model, num_labels=2).save_pretrained(plain)
    with pytest.raises(WrongUse, match="class_0, class_1"):
        run(made, "adapters", "add", plain, "--activate")
    assert _active(made) == GOOD
    for labels, message in (("a,b,c", "2 classes, and 3 names"), ("a,a", "a name of its own")):
        with pytest.raises(WrongUse, match=message):
            run(made, "adapters", "add", plain, "--labels", labels)
    version = run(made, "adapters", "add", plain, "--labels", "bad, good", "--activate").strip()
    assert _active(made) == version
    assert AdapterStore(made.database).find(version).labels == LABELS


def test_names_are_not_given_to_an_adapter_that_has_its_own(
    made: InProcess, run: Run, tiny_model: Path, tmp_path: Path
):
    directory = tiny_adapter(tiny_model, tmp_path)
    with pytest.raises(WrongUse, match="names its classes itself"):
        run(made, "adapters", "add", directory, "--labels", "a,b,c")
    with pytest.raises(WrongUse, match="for the task 'sentiment', not 'tone'"):
        run(made, "adapters", "add", directory, "--task", "tone")


def test_the_bundled_adapter_can_be_added_from_any_folder(
    made: InProcess, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    version = run(made, "adapters", "add", "demo").strip()
    assert AdapterStore(made.database).find(version).labels == ("negative", "neutral", "positive")
    (tmp_path / "demo").mkdir()  # a folder of that name that holds no adapter
    assert run(made, "adapters", "add", "demo").strip() == version


def test_a_second_trial_ends_the_first_only_where_that_is_said(made: InProcess, run: Run):
    run(made, "adapters", "shadow", WORSE)
    with pytest.raises(ReviewLoopError, match=f"would end the trial of {WORSE}.*--yes"):
        run(made, "adapters", "shadow", BETTER)
    store = ShadowStore(made.database)
    assert store.running("sentiment").version == WORSE
    run(made, "adapters", "shadow", BETTER, "--yes")
    assert store.running("sentiment").version == BETTER


def test_the_disagreements_of_a_trial_can_be_listed(made: InProcess, run: Run):
    run(made, "adapters", "shadow", WORSE, "--share", 1)
    store_scored(
        made.database, [("good", "good"), ("good", "bad"), ("bad", None), ("bad", "good")], (GOOD, WORSE)
    )
    listed = run(made, "adapters", "shadow", "disagreements", "--format", "jsonl")
    rows = [json.loads(line) for line in listed.splitlines()]
    assert [(row["review_id"], row["label"], row["shadow_label"]) for row in rows] == [
        ("r3", "bad", "good"),
        ("r1", "good", "bad"),
    ]
    assert {row["text"] for row in rows} == {"text"}
    assert {(row["adapter_version"], row["shadow_version"]) for row in rows} == {(GOOD, WORSE)}
    assert len(run(made, "adapters", "shadow", "disagreements", "--limit", "1").splitlines()) == 1
    run(made, "adapters", "shadow", "--stop")
    assert run(made, "adapters", "shadow", "disagreements").splitlines() == listed.splitlines(), "the latest"


def test_what_the_gate_rejected_takes_over_only_for_a_reason_which_the_audit_log_keeps(
    made: InProcess, run: Run
):
    adapters = AdapterStore(made.database)
    adapters.reject(BETTER)
    listed = map(json.loads, run(made, "adapters", "list", "--format", "jsonl").splitlines())
    assert [one["version"] for one in listed if one["state"] == "rejected"] == [BETTER]
    assert json.loads(run(made, "adapters", "show", BETTER, "--format", "json"))["rejected_because"] == []
    with pytest.raises(WrongUse, match=r"The gate rejected sentiment-cccccccccccc\..*--reason"):
        run(made, "adapters", "promote", BETTER, "--yes")
    assert _active(made) == GOOD
    assert made.sql("SELECT 1 FROM audit_log") == []
    run(made, "adapters", "shadow", BETTER, "--share", 0.5)
    run(made, "adapters", "promote", BETTER, "--yes", "--reason", "The test rows are few.")
    assert _active(made) == BETTER
    assert not adapters.find(BETTER).is_rejected
    logged = made.sql("SELECT action, subject, reason, outcome FROM audit_log")
    assert logged == [("adapter.promote", BETTER, "The test rows are few.", "done")]


def test_rejected_adapters_are_pruned_by_command_after_their_time(made: InProcess, run: Run):
    AdapterStore(made.database).reject(UNMEASURED)
    assert run(made, "adapters", "prune", "--format", "jsonl") == ""
    shown = run(made, "adapters", "prune", "--older-than", 0, "--dry-run", "--format", "jsonl")
    assert json.loads(shown) == {"version": UNMEASURED, "keeps_record": False}
    run(made, "adapters", "prune", "--older-than", 0)
    assert UNMEASURED not in {one.version for one in AdapterStore(made.database).list_versions()}
