"""``reviewloop simulate`` on a made-up stream and a tiny model, with both kinds of fit."""

import json
import sys

import numpy as np
import pytest

from classifier.settings import ClassifierSettings
from reviewloop.cli import main
from tests.tiny import tiny_base
from trainer.data.dataset import Dataset
from trainer.settings import SelectionSettings, TrainerSettings
from trainer.simulation.experiment import DEFAULT, every_strategy, read_experiment
from trainer.simulation.fits import LoraFit, features_of

_EXPERIMENT = """
name = "letters"
stream = ["letters.csv"]
base_model = "{base}"
start = {{ labels = 12 }}

[head]
seeds = 2
nights = 2
labels_a_night = 6
backlog_rows = 40
arriving_rows = 20
held_back_rows = 40
audit_rows = 20

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
        ("default", [12, 18, 24]),
        ("random", [12, 18, 24]),
    ]
    assert b"<svg" in results.with_suffix(".svg").read_bytes()
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


def test_files_that_are_not_there_are_named(folder, reviewloop):
    code, _, err = reviewloop("nowhere.csv", "--experiment", "letters.toml", "--fit", "head")
    assert (code, "nowhere.csv" in err) == (2, True)


def test_results_of_a_first_adapter_fitted_on_a_file_are_not_taken_for_those_of_a_changed_file(
    folder, reviewloop
):
    start = 'start = { train_on = "known.csv", share = 1.0, recipe = { epochs = 1, least_steps = 0 } }'
    file = folder / "letters.toml"
    file.write_text(file.read_text().replace("start = { labels = 12 }", start))
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


def test_a_night_of_lora_goes_on_from_what_serves_and_is_not_fitted_twice(base, tmp_path, monkeypatch):
    texts = tuple(f"{'abc'[row % 3] * 3} {row}" for row in range(60))
    labels = np.arange(60) % 3
    rows = Dataset(texts, tuple(labels.tolist()), ("a", "b", "c"), "0" * 64)
    classifier = ClassifierSettings(base_model=str(base), device="cpu", precision="fp32", task="letters")
    recipe = TrainerSettings(epochs=1, least_steps=0, learning_rate=1e-2)
    fit = LoraFit(rows, classifier, recipe, tmp_path)
    first = fit(np.arange(30), labels[:30], None, 0)
    candidate = fit(np.arange(48), labels[:48], first, 0)
    said = candidate(np.arange(48, 60))
    np.testing.assert_allclose(said.sum(axis=1), 1, atol=1e-5)
    assert json.loads((candidate.directory / "reviewloop.json").read_text())["parent"]
    monkeypatch.setattr("trainer.simulation.fits.train", None)
    assert fit(np.arange(48), labels[:48], first, 0).directory == candidate.directory
    with pytest.raises(TypeError):
        fit(np.arange(48), labels[:48], None, 0)


def test_what_a_model_said_is_read_from_the_cache_and_other_texts_are_asked_anew(base, tmp_path, monkeypatch):
    classifier = ClassifierSettings(base_model=str(base), device="cpu", precision="fp32")
    texts = ["aaa", "bbb"]
    found = features_of(texts, None, classifier, tmp_path)
    assert found.embeddings.shape == (2, 32)
    assert found.probabilities is None
    monkeypatch.setattr("trainer.simulation.fits.FrozenFeatures", None)
    np.testing.assert_array_equal(features_of(texts, None, classifier, tmp_path).columns, found.columns)
    with pytest.raises(TypeError):
        features_of(["ccc"], None, classifier, tmp_path)


def _lines(results):
    return map(json.loads, results.read_text().splitlines())


def _timeless(lines):
    """Results without what a clock said, in an order of their own."""
    found = [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]
    return sorted(found, key=lambda line: (line["strategy"], line["seed"], line["night"]))
