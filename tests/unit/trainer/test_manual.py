"""The trainer from labels to a decision, step by step: read it as the manual of the package."""

from dataclasses import replace

import numpy as np

from classifier.adapters.store import write_files
from classifier.interface import load
from classifier.settings import ClassifierSettings
from tests.tiny import tiny_base
from tests.unit.trainer.nightly.rows import review
from trainer.fitting.fit import fit
from trainer.gate.judge import judge
from trainer.nightly.candidates import CandidateFitter, best, fit_within, plan_fits
from trainer.nightly.held_out import check_stored_copy, first_rows_alone, gather, metrics_of
from trainer.nightly.snapshot import freeze, missing, weighting
from trainer.settings import GateSettings, NightlySettings, RecipeSettings, TrainerSettings

LABELS = ("bad", "good")
RECIPES = (
    RecipeSettings(name="base-all", start="base", replay=True, learning_rate=1e-2),
    RecipeSettings(name="warm-all", start="active", replay=True, learning_rate=1e-2),
)


def test_labels_become_an_adapter_that_the_gate_lets_serve_once_and_not_again(tmp_path):
    # People have labelled 300 reviews; each comes with the label that its annotators agree on. Here the good
    # ones say "aaa" and the bad ones "bbb", among letters that mean nothing.
    random = np.random.default_rng(0)
    noise = ["".join(random.choice(list("xyz"), 8)) for _ in range(300)]
    reviews = [review(n, LABELS[n % 2], "ba"[n % 2] * 3 + text) for n, text in enumerate(noise)]
    # Somebody published the text of review 0 once more, under other ids.
    reviews += [review(n, LABELS[0], reviews[0].text) for n in range(300, 310)]

    # A run freezes them. The id of a review decides for ever whether it is trained on, chosen by (validation)
    # or judged by (test and audit); copies of a held-out text never reach the training rows.
    nightly = NightlySettings(recipes=RECIPES, enough_validation_rows=15)
    snapshot = freeze(reviews, LABELS, nightly.shares, weighting(nightly), trained_on=frozenset())
    rows = {name: snapshot.of(name) for name in ("train", "validation", "test", "audit")}
    assert {name: len(found) for name, found in rows.items()} == snapshot.manifest(nightly.shares, 0)["rows"]
    assert sum(map(len, rows.values())) + sum(snapshot.left_out.values()) == len(reviews)
    held_out = {row.duplicate_group for name in ("test", "audit") for row in rows[name]}
    assert held_out.isdisjoint(row.duplicate_group for row in rows["train"])
    assert {row.weight for row in rows["train"]} == {nightly.new_weight}, "new rows count more"

    # Is that enough to train on and to judge by? With a tenth of the labels the run says what is missing.
    gate = GateSettings(min_rows=40)
    assert missing(snapshot, nightly, gate) == []
    few = freeze(reviews[:30], LABELS, nightly.shares, weighting(nightly), frozenset())
    assert "more labelled reviews are needed to train on" in missing(few, nightly, gate)[0]

    # Each recipe of the settings becomes a plan, or a reason. Nothing serves yet to continue from.
    settings = TrainerSettings(epochs=3, least_steps=0, batch_size=16, nightly=nightly, gate=gate)
    plans, skipped = plan_fits(snapshot, settings, None, seed=0)
    assert [one.name for one in plans] == ["base-all"]
    assert [one.name for one in skipped] == ["warm-all"]
    assert "adapter serves" in skipped[0].reason

    # The plans are fitted within a budget and compared on the same validation rows.
    classifier = ClassifierSettings(
        base_model=str(tiny_base(tmp_path / "base")), task="tone", device="cpu", precision="fp32"
    )
    fitter = CandidateFitter(snapshot, classifier, fit, lambda _: lambda _: None, seed=0)
    done, late = fit_within(plans, 600.0, fitter.candidate_of, clock=lambda: 0.0)
    chosen = best(done)
    assert (chosen.plan.name, chosen.chosen_by, late) == (
        "base-all",
        f"{len(rows['validation'])} validation rows",
        [],
    )
    assert chosen.score > 0.9, "macro-F1"

    # What came out is a directory of files, named by their content, that a worker can load.
    directory = write_files(chosen.outcome.files, tmp_path / "adapters", "tone")
    candidate = load(classifier.base_model, directory, classifier)
    assert candidate.labels == LABELS
    assert candidate.predict(["aaaxyzxyzx"])[0].label == "good"

    # The gate looks at the rows that nothing was trained on or chosen by. A first adapter is held against
    # always giving the most frequent label.
    first_rows = first_rows_alone(candidate, snapshot)
    evidence = gather(snapshot, None, candidate)
    assert len(evidence.truth) == len(rows["test"]) + len(rows["audit"])
    verdict = judge(evidence, gate, attempts_before=0, seed=0)
    assert [check.name for check in verdict.checks] == [
        "rows",
        "floor",
        "majority",
        "improvement",
        "calibration",
    ]
    assert verdict.promote, verdict.reasons
    metrics = metrics_of(evidence)["candidate"]
    assert metrics["accuracy"] > 0.9
    assert not [name for name in metrics if name.startswith("audit")], "not 0: nothing was audited"
    audited = replace(evidence, is_audit=np.ones_like(evidence.is_audit))
    assert metrics_of(audited)["candidate"]["audit_accuracy"] == metrics["accuracy"]

    # Before it takes over, it is fetched as a worker will fetch it, and has to answer as it did when judged.
    again = check_stored_copy(
        chosen.outcome.files,
        tmp_path / "stored",
        lambda found: load(classifier.base_model, found, classifier),
        snapshot,
        first_rows,
    )
    assert verdict.with_check(again).promote

    # The next run has the same labels. Its candidate is no better than what serves now, so the gate keeps
    # that, and says why.
    same = judge(replace(evidence, active=evidence.candidate), gate, attempts_before=0, seed=0)
    assert not same.promote
    assert [check.name for check in same.checks if not check.passed] == ["improvement"]
    assert "+0.0 points" in same.reasons[0]
