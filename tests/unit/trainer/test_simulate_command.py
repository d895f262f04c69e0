"""``reviewloop simulate`` on a made-up stream and a tiny model, with both kinds of fit."""

import json
import sys
from datetime import UTC, datetime

import numpy as np
import pytest

from classifier.settings import ClassifierSettings
from reviewloop.cli import main
from reviews.errors import WrongUse
from reviews.label import LabelledReview
from reviews.slices import SliceShares
from tests.tiny import tiny_base
from trainer.nightly.snapshot import freeze
from trainer.settings import NightlySettings, RecipeSettings, SelectionSettings, TrainerSettings
from trainer.simulation.experiment import DEFAULT, every_strategy, read_experiment
from trainer.simulation.fits import NightFits, StreamRows

_EXPERIMENT = """
name = "letters"
stream = ["letters.csv"]
base_model = "{base}"
start = {{ labels = 30 }}

[head]
seeds = 2
nights = 2
labels_a_night = 6
backlog_rows = 40
arriving_rows = 20
held_back_rows = 60

[nightly]
min_train_rows = 1
min_class_rows = 1
min_validation_rows = 1

[gate]
min_rows = 1
min_class_rows = 1

[strategies]
default = {{}}
random = {{ strategy = "random" }}
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def folder(base, tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    labels = random.choice(3, 120, p=(0.2, 0.3, 0.5))
    rows = [f"{'abc'[label] * 3} {number},{label}" for number, label in enumerate(labels)]
    (tmp_path / "letters.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (tmp_path / "letters.toml").write_text(_EXPERIMENT.format(base=base))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def reviewloop(monkeypatch, capsys):
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["reviewloop", "simulate", *arguments])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_sweep_with_heads_says_so_and_goes_on_where_it_was_killed(folder, reviewloop):
    arguments = ["--experiment", "letters.toml", "--fit", "head", "--output-dir", "out"]
    code, out, err = reviewloop(*arguments)
    assert code == 0, err
    assert "not LoRA" in err
    assert "heads on frozen embeddings" in " ".join(out.split())
    results = folder / "out/simulation_letters_head.jsonl"
    lines = results.read_text().splitlines()
    assert len(lines) == 2 * 2 * 3, "strategies, seeds, nights and what was before them"
    assert results.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    condensed = [json.loads(line) for line in results.with_suffix(".curves.jsonl").read_text().splitlines()]
    assert [(line["strategy"], line["labels"]) for line in condensed] == [
        ("default", [30, 36, 42]),
        ("random", [30, 36, 42]),
    ]
    assert b"<svg" in results.with_suffix(".svg").read_bytes()
    by_seconds = results.with_suffix(".seconds.svg").read_bytes()
    assert b"<svg" in by_seconds
    assert by_seconds != results.with_suffix(".svg").read_bytes()
    assert condensed[0]["annotator_seconds"] == sorted(condensed[0]["annotator_seconds"])
    results.write_text("\n".join(lines[:4]) + "\n" + lines[4][:50])
    assert reviewloop(*arguments)[0] == 0
    assert _timeless(results.read_text().splitlines()) == _timeless(lines)


def test_a_strategy_is_known_by_the_settings_name_and_an_unknown_one_refused_before_anything_is_read(
    folder, reviewloop
):
    assert every_strategy()[DEFAULT].strategy == SelectionSettings().strategy
    experiment = read_experiment(folder / "letters.toml")
    for name in (SelectionSettings().strategy, DEFAULT):
        size = experiment.head.model_copy(update={"strategies": (name,)})
        asked = experiment.model_copy(update={"head": size})
        assert list(asked.contenders("head")) == [DEFAULT]
    (folder / "letters.csv").unlink()
    arguments = ["--experiment", "letters.toml", "--fit", "head", "--strategy", "entropy"]
    code, _, said = reviewloop(*arguments)
    assert code == 2
    assert "has no strategy entropy; it has" in said
    assert SelectionSettings().strategy in said


def test_only_the_named_recipes_of_the_plan_take_part_and_an_unknown_one_is_refused(folder):
    experiment = read_experiment(folder / "letters.toml")

    def fitted(*names: str) -> list[str]:
        asked = experiment.lora.model_copy(update={"recipes": names})
        plan = experiment.model_copy(update={"lora": asked}).settings("lora").nightly.recipes
        return [one.name for one in plan]

    assert fitted() == [one.name for one in NightlySettings().recipes]
    assert fitted("head-base", "refit-active") == ["refit-active", "head-base"], "in the order of the plan"
    with pytest.raises(WrongUse, match="The plan of letters has no recipe magic"):
        fitted("head-base", "magic")


def test_files_that_are_not_there_are_named(folder, reviewloop):
    code, _, err = reviewloop("nowhere.csv", "--experiment", "letters.toml", "--fit", "head")
    assert (code, "nowhere.csv" in err) == (2, True)


def test_results_of_a_first_adapter_fitted_on_a_file_are_not_taken_for_those_of_a_changed_file(
    folder, reviewloop
):
    start = 'start = { train_on = "known.csv", share = 1.0, recipe = { epochs = 1, least_steps = 0 } }'
    file = folder / "letters.toml"
    file.write_text(file.read_text().replace("start = { labels = 30 }", start))
    known = folder / "known.csv"
    known.write_text("text,label\n" + "".join(f"{'abc'[row % 3] * 3},{row % 3}\n" for row in range(60)))
    arguments = ["--experiment", "letters.toml", "--fit", "head", "--strategy", "random"]
    for _ in range(2):
        assert reviewloop(*arguments)[0] == 0
    results = folder / "simulations/simulation_letters_head.jsonl"
    lines = results.read_text().splitlines()
    assert len(lines) == 2 * 3, "the second time nothing is new"
    known.write_text(known.read_text() + "ddd,0\n")
    code, _, err = reviewloop(*arguments)
    assert code == 0, err
    assert "0 of 2 runs" in err
    assert len(results.read_text().splitlines()) == 2 * len(lines)


def test_alarms_and_their_delays_stand_in_table_and_curves_and_a_dash_where_nobody_watched(
    folder, reviewloop
):
    for name, letters in (("first", "abc"), ("second", "xyz")):
        rows = (f"{letters[row % 3] * 3} {letters} {row},{row % 3}" for row in range(300))
        (folder / f"{name}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    arguments = ["first.csv", "second.csv", "--experiment", "letters.toml", "--fit", "head"]
    arguments += ["--strategy", "random", "--backlog-rows", "150", "--arriving-rows", "250"]
    code, out, err = reviewloop(*arguments, "--reference-rows", "100")
    assert code == 0, err
    results = folder / "simulations/simulation_letters_head.jsonl"
    nights = [line for line in map(json.loads, results.read_text().splitlines()) if line["night"]]
    assert sum(len(line["drift"]["changes"]) for line in nights) == 2, "a seed each"
    (condensed,) = map(json.loads, results.with_suffix(".curves.jsonl").read_text().splitlines())
    drift = condensed["drift"]
    assert (drift["false_alarms"], len(drift["delays"])) == (0, 2)
    low, high = drift["delays"]
    assert 0 < low <= high < 150
    assert f"{drift['median_delay']:.0f} ({low:.0f} – {high:.0f})" in out
    assert f"0 in {drift['watched']}" in out
    old = [{name: value for name, value in line.items() if name != "drift"} for line in _lines(results)]
    results.write_text("".join(json.dumps(line) + "\n" for line in old))
    code, out, err = reviewloop(*arguments, "--reference-rows", "100")
    assert code == 0, err
    assert out.split("│")[-3:-1] == [" –            ", " –                    "]


@pytest.fixture
def rows(base, tmp_path):
    texts = tuple(f"{'abc'[row % 3] * 3} {row}" for row in range(90))
    classifier = ClassifierSettings(base_model=str(base), device="cpu", precision="fp32", task="letters")
    return StreamRows(texts, classifier, 32, tmp_path)


def _snapshot(rows, count):
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    times = dict.fromkeys(("published_at", "labelled_at", "first_labelled_at", "received_at"), moment)
    reviews = [
        LabelledReview(row, str(row), text, None, None, label="abc"[row % 3], **times)
        for row, text in enumerate(rows.texts[:count])
    ]
    return freeze(reviews, ("a", "b", "c"), SliceShares(), lambda *_: 1.0, frozenset())


def test_a_night_goes_on_from_what_serves_and_is_not_fitted_twice(rows, monkeypatch):
    base_recipe = RecipeSettings(name="base", start="base", learning_rate=1e-2)
    warm_recipe = RecipeSettings(name="warm", start="active", learning_rate=1e-2)
    heads = (RecipeSettings(name=f"head-{start}", kind="head", start=start) for start in ("active", "base"))
    nightly = NightlySettings(recipes=(warm_recipe, base_recipe, *heads), cross_check_folds=2)
    settings = TrainerSettings(epochs=1, nightly=nightly, max_length_tokens=32)
    fit = NightFits(rows, settings, heads_alone=False)
    first = fit(_snapshot(rows, 60), None, 0)
    assert first.recipe == "base"
    again = fit(_snapshot(rows, 80), first.candidate, 0)
    np.testing.assert_allclose(again.candidate(np.arange(80, 90)).sum(axis=1), 1, atol=1e-5)
    monkeypatch.setattr("trainer.fitting.head_fit.fit", None)
    other = NightFits(rows, settings, heads_alone=False)
    kept = other(_snapshot(rows, 80), other(_snapshot(rows, 60), None, 0).candidate, 0)
    assert kept.candidate.directory == again.candidate.directory
    np.testing.assert_array_equal(kept.checks.said, again.checks.said)


def test_features_are_read_from_the_cache_and_those_of_other_texts_computed(rows, monkeypatch):
    found = rows.features(None)
    assert found.shape == (90, 32)
    monkeypatch.setattr("trainer.simulation.fits.FrozenFeatures", None)
    np.testing.assert_array_equal(rows.features(None), found)
    with pytest.raises(TypeError):
        rows.features_of(["ccc"])


def _lines(results):
    return map(json.loads, results.read_text().splitlines())


def _timeless(lines):
    """Results without what a clock said, in an order of their own."""
    found = [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]
    return sorted(found, key=lambda line: (line["strategy"], line["seed"], line["night"]))
