"""Nights replayed on made-up rows: who may be seen by whom, and results that survive a kill."""

import hashlib
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drift.settings import WatchSettings
from reviews.errors import WrongUse
from tests.unit.trainer.made_up_models import ANY_NUMBER, HeadNights, MadeUp
from trainer.data.near_duplicates import duplicate_groups
from trainer.selection.choice import choose
from trainer.settings import GateSettings, SelectionSettings, TrainerSettings
from trainer.simulation.experiment import (
    Experiment,
    Size,
    Start,
    every_strategy,
    fingerprint,
    read_experiment,
    uncalibrated,
)
from trainer.simulation.loop import Loop, nights
from trainer.simulation.plots import learning_curves
from trainer.simulation.results import Unit, append, nights_done, read_lines, repair
from trainer.simulation.stream import Annotator, half_of, read_stream, replay
from trainer.simulation.summary import (
    Curves,
    condensed,
    cost,
    curves,
    half_width,
    labels_needed,
    nights_below,
    nights_fallen,
    saving,
    summarise,
)
from trainer.simulation.watch import Detectors

LABELS = ("no", "so-so", "yes")
SIZE = Size(nights=3, labels_a_night=10, backlog_rows=60, arriving_rows=40, held_back_rows=200)
TRUTH = np.random.default_rng(0).choice(3, 300, p=(0.2, 0.2, 0.6)).astype(np.int64)
TEXTS = tuple(f"row {number}" for number in range(300))
ALONE = range(300)  # each text is a group of its own
ONE_FILE, TWO_FILES = np.zeros(300, np.int64), np.repeat([0, 1], (200, 100))


@pytest.fixture(scope="module")
def fit():
    """Heads on embeddings that tell the classes apart, with much noise."""
    random = np.random.default_rng(1)
    embeddings = random.normal(size=(300, 8)) + np.eye(3, 8)[TRUTH] * 1.5
    return HeadNights(embeddings, LABELS)


def settings(**gate) -> TrainerSettings:
    return TrainerSettings(
        nightly=ANY_NUMBER, gate=uncalibrated(GateSettings(min_rows=1, min_class_rows=1, floor=0.1, **gate))
    )


@pytest.fixture
def loop(fit) -> Loop:
    return Loop(
        replay=replay(ALONE, TRUTH, ONE_FILE, SIZE, Annotator(3), seed=5),
        labels=LABELS,
        start=None,
        start_labels=12,
        fit=fit,
        selection=SelectionSettings(),
        is_zero_shot=False,
        settings=settings(),
        texts=TEXTS,
        embeddings=None,
        seed=5,
        detect=Detectors(WatchSettings(calibration_streams=5)),
        clock=lambda: 0.0,
    )


def test_held_back_rows_are_never_in_the_pool_nor_texts_of_theirs():
    twins = duplicate_groups([f"what they say of {text.replace('9', '8')}!" for text in TEXTS])
    assert len(set(twins)) < len(TEXTS), "many say nearly the same"
    dealt = replay(twins, TRUTH, ONE_FILE, SIZE, Annotator(3), seed=1)
    kept_apart = {twins[row] for row in dealt.held_back}
    assert len(dealt.pool)
    assert not kept_apart & {twins[row] for row in dealt.pool}


def test_the_backlog_is_there_on_the_first_night_and_the_others_come_evenly():
    dealt = replay(ALONE, TRUTH, ONE_FILE, SIZE, Annotator(3), seed=1)
    assert [len(dealt.there(night, np.empty(0, np.int64))) for night in (1, 2, 3)] == [60, 80, 100]
    assert dealt.pool[0] not in dealt.there(1, dealt.pool[:1])


def test_held_back_rows_have_the_streams_own_mix_of_labels():
    dealt = replay(ALONE, TRUTH, ONE_FILE, SIZE, Annotator(3), seed=2)
    shares = np.bincount(TRUTH[dealt.held_back], minlength=3) / len(dealt.held_back)
    np.testing.assert_allclose(shares, np.bincount(TRUTH) / len(TRUTH), atol=0.12)


def test_files_come_one_after_the_other_each_in_an_order_of_the_seeds():
    dealt, other = (replay(ALONE, TRUTH, TWO_FILES, SIZE, Annotator(3), seed=seed) for seed in (1, 2))
    (change,) = dealt.changes
    first, second = np.split(dealt.pool, [change])
    assert (TWO_FILES[first] == 0).all()
    assert (TWO_FILES[second] == 1).all()
    assert not np.array_equal(np.sort(first), first)
    assert first.tolist() != other.pool[: len(first)].tolist()


def test_every_file_has_its_share_of_what_is_kept_apart_and_of_what_comes():
    dealt = [replay(ALONE, TRUTH, TWO_FILES, SIZE, Annotator(3), seed=seed) for seed in range(40)]
    for part in ("held_back", "pool"):
        share = np.mean([TWO_FILES[getattr(one, part)].mean() for one in dealt])
        assert share == pytest.approx(1 / 3, abs=0.02), part


def test_one_file_is_dealt_out_as_it_always_was():
    dealt = replay(ALONE, TRUTH, ONE_FILE, SIZE, Annotator(3, 0.2), seed=5)
    assert dealt.pool[:8].tolist() == [148, 35, 99, 197, 147, 292, 233, 172]
    assert (len(dealt.pool), dealt.pool.sum()) == (100, 14886)
    assert dealt.held_back[:6].tolist() == [0, 2, 4, 5, 6, 10]
    assert not len(dealt.changes)


@pytest.fixture
def two_files(tmp_path):
    """One with five rows, one with four, and their hashes."""
    files = []
    for letter, rows in (("a", 5), ("b", 4)):
        file = tmp_path / f"{letter}.csv"
        file.write_text("".join(["text,label\n", *(f"{letter}{row},{row % 3}\n" for row in range(rows))]))
        files.append(file)
    return files


@pytest.mark.parametrize(
    ("most", "texts", "files"),
    [
        (None, "a0 a1 a2 a3 a4 b0 b1 b2 b3", [0, 0, 0, 0, 0, 1, 1, 1, 1]),
        (6, "a0 a1 a2 a3 a4 b0", [0, 0, 0, 0, 0, 1]),
        ((2, 3), "a0 a1 b0 b1 b2", [0, 0, 1, 1, 1]),
        ((2, 9), "a0 a1 b0 b1 b2 b3", [0, 0, 1, 1, 1, 1]),
    ],
)
def test_a_stream_knows_the_file_of_every_row(most, texts, files, two_files):
    stream = read_stream(two_files, "sentiment", most)
    assert " ".join(stream.rows.texts) == texts
    assert len(stream.rows.labels) == len(stream.rows)
    assert stream.files.tolist() == files


def test_as_many_numbers_of_rows_as_files_are_asked_for(two_files):
    with pytest.raises(WrongUse, match="3 numbers for 2 files"):
        read_stream(two_files, "sentiment", (1, 2, 3))


def test_rows_keep_the_hash_by_which_caches_know_their_adapters(two_files):
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in two_files]
    for files, most in ((1, None), (1, 3), (2, None)):
        known = hashlib.sha256(f"{hashes[:files]} {most} None".encode()).hexdigest()
        assert read_stream(two_files[:files], "sentiment", most).rows.sha256 == known


def test_a_half_has_the_rows_whose_texts_say_so_and_both_have_all(two_files):
    whole = read_stream(two_files, "sentiment").rows.texts
    halves = [read_stream(two_files, "sentiment", None, half).rows.texts for half in ("even", "odd")]
    assert sorted(halves[0] + halves[1]) == sorted(whole)
    assert [{half_of(text) for text in half} for half in halves] == [{"even"}, {"odd"}]


@pytest.mark.parametrize("noise", [0.0, 0.25])
def test_the_annotator_is_wrong_as_often_as_asked_for(noise):
    truth = np.random.default_rng(3).integers(0, 3, 20_000)
    said = Annotator(3, noise).answers(truth, np.random.default_rng(4))
    assert (said != truth).mean() == pytest.approx(noise, abs=0.01)
    assert set(np.unique(said)) == {0, 1, 2}


def test_a_stream_too_short_for_its_budget_is_refused():
    with pytest.raises(WrongUse, match="do not do for 3 nights with 50 labels"):
        replay(ALONE, TRUTH, ONE_FILE, SIZE.model_copy(update={"labels_a_night": 50}), Annotator(3), seed=0)


def test_a_nights_labels_are_dealt_to_the_slices_and_none_is_of_a_held_back_row(loop):
    seen = []

    def spy(snapshot, active, seed):
        seen.append(snapshot)
        return loop.fit(snapshot, active, seed)

    lines = list(nights(replace(loop, fit=spy)))
    assert [line["labels"] for line in lines] == [12, 22, 32, 42]
    assert len(seen[-1].rows) == 42
    records = [row.review.record for row in seen[-1].rows]
    assert len(set(records)) == 42, "no row is asked for twice"
    assert not set(records) & {*loop.replay.held_back}
    drawn = [row for row in seen[-1].rows if row.review.is_drawn]
    assert 0 < len(drawn) <= 3 * 2, "at most one in six, as the settings' items"
    assert {row.slice for row in drawn} == {"audit"}


def test_descriptions_of_labels_lead_the_draws_until_there_are_labels_enough(loop, fit, monkeypatch):
    led = []

    def spy(pool, count, selection, seed):
        led.append(selection.strategy)
        return choose(pool, count, selection, seed)

    monkeypatch.setattr("trainer.simulation.loop.choose", spy)
    nothing_known = MadeUp(LABELS, lambda rows: np.full((len(rows), 3), 1 / 3))
    waiting = TrainerSettings(nightly=ANY_NUMBER, gate=GateSettings(min_rows=200))
    selection = SelectionSettings(strategy="margin", first_labels=20)
    from_zero_shot = replace(loop, start=nothing_known, is_zero_shot=True, start_labels=0, settings=waiting)
    lines = list(nights(replace(from_zero_shot, selection=selection)))
    assert not any(line["promoted"] for line in lines[1:]), "the zero-shot adapter serves all the time"
    assert led == ["label-descriptions", "label-descriptions", "margin"]


def test_answers_cost_seconds_by_their_length(loop):
    lines = list(nights(replace(loop, texts=tuple(text.rjust(230) for text in TEXTS))))
    assert lines[0]["annotator_seconds"] == pytest.approx(12 * 13)
    assert lines[-1]["annotator_seconds"] == pytest.approx(42 * 13)


def test_a_night_follows_from_its_seed(loop):
    first, again, other = (list(nights(replace(loop, seed=seed))) for seed in (5, 5, 6))
    assert first == again
    assert first[1:] != other[1:]


def test_the_active_model_changes_only_with_a_promotion_whose_gain_is_told(loop):
    lines = list(nights(replace(loop, settings=settings(alpha=0.99))))
    for before, line in itertools.pairwise(lines):
        assert line["active"] == (line["candidate"] if line["promoted"] else before["active"])
        assert line["before"] == before["active"]
        assert (line["change"] is None) != line["promoted"]
        if line["promoted"]:
            low, high = line["change"]
            assert low < line["active"]["macro_f1"] - line["before"]["macro_f1"] < high
    assert any(line["promoted"] for line in lines[1:])


def test_a_night_with_too_few_labels_waits_and_the_active_model_stands_for_a_candidate(loop):
    waiting = TrainerSettings(nightly=ANY_NUMBER, gate=GateSettings(min_rows=200))
    lines = list(nights(replace(loop, settings=waiting)))
    assert not any(line["promoted"] or line["recipe"] for line in lines[1:])
    assert lines[1]["candidate"] == lines[1]["active"]


def test_labels_needed_lie_on_the_line_between_two_nights():
    labels, values = np.array([0.0, 50, 100, 150]), np.array([0.5, 0.4, 0.6, 0.7])
    assert labels_needed(labels, values, 0.55) == pytest.approx(87.5)
    assert labels_needed(labels, values, 0.5) == 0
    assert labels_needed(labels, values, 0.71) == float("inf")


def test_a_strategy_that_is_one_night_ahead_saves_that_night():
    random = Curves(np.array([0.0, 50, 100]), np.array([[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]]))
    ahead = Curves(random.labels, np.array([[0.1, 0.5, 0.6], [0.2, 0.6, 0.7]]))
    found = saving(ahead, random)
    assert (found.share, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert saving(random, random).share == pytest.approx(1)
    behind = Curves(random.labels, random.values - 0.1)
    assert saving(behind, random).share == float("inf")
    assert nights_below(behind, random) == 1
    assert nights_below(ahead, random) == 0


def test_an_interval_needs_two_seeds_and_is_students():
    assert half_width(np.array([[0.5]]))[0] == float("inf")
    assert half_width(np.array([[0.4], [0.6]]))[0] == pytest.approx(12.706 * 0.1, abs=1e-3)


def test_curves_leave_out_seeds_that_are_not_done():
    lines = [
        {"seed": seed, "night": night, "labels": 50 * night, "candidate": {"macro_f1": 0.1 * night + seed}}
        for seed, nights_of in ((0, 3), (1, 2))
        for night in range(nights_of)
    ]
    found = curves(lines, "candidate", "macro_f1")
    assert found.values.tolist() == [[0, pytest.approx(0.1), pytest.approx(0.2)]]
    assert found.labels.tolist() == [0, 50, 100]


def test_cost_counts_promotions_that_made_it_worse(loop):
    lines = [line | {"seed": 0} for line in nights(loop)]
    for line in lines[1:]:
        line["promoted"], line["seconds"] = False, {"fit": 2.0}
    worse = {"before": {"macro_f1": 0.5}, "candidate": {"macro_f1": 0.4}, "promoted": True}
    lines[1] |= worse | {"change": [-0.2, -0.01]}
    lines[2] |= worse | {"change": [-0.2, 0.01]}
    found = cost(lines)
    assert (found.labels, found.fits, found.fit_seconds) == (42, 3, 2.0)
    assert (found.promotions, found.worse, found.worse_beyond_chance) == (2, 2, 1)


def test_a_night_has_fallen_where_all_seeds_fell_and_not_where_one_did():
    labels, steady = np.array([0.0, 50, 100]), np.array([0.5, 0.5, 0.5])
    fallen = Curves(labels, np.array([[0.5, 0.45, 0.45], [0.5, 0.46, 0.46], [0.5, 0.44, 0.45]]))
    one = Curves(labels, np.array([steady, steady, [0.5, 0.3, 0.3]]))
    assert (nights_fallen(fallen), nights_fallen(one)) == (1, 0)


def test_a_killed_run_goes_on_with_the_same_results_bit_for_bit(loop, tmp_path):
    unit = Unit("made-up", "head", "default", 5, "f" * 16)
    whole = [unit.line(line) for line in nights(loop)]
    file = tmp_path / "results.jsonl"
    for line in whole[:2]:
        append(file, line)
    with file.open("ab") as half:
        half.write(json.dumps(whole[2]).encode()[:30])
    assert nights_done(read_lines(file)) == {unit: {0, 1}}
    repair(file)
    for line in nights(loop):
        if line["night"] not in nights_done(read_lines(file)).get(unit, set()):
            append(file, unit.line(line))
    assert read_lines(file) == [json.loads(json.dumps(line)) for line in whole]


def test_a_file_of_something_else_is_no_results(tmp_path):
    file = tmp_path / "other.jsonl"
    file.write_text('{"id": 1}\n')
    with pytest.raises(WrongUse, match="line 1"):
        read_lines(file)


def test_what_decides_the_results_changes_their_fingerprint_and_more_seeds_do_not():
    one = Experiment(name="x", start=Start(labels=5), strategies=every_strategy())
    name = fingerprint(one, "head", "default", "d", None)
    more = one.model_copy(update={"head": one.head.model_copy(update={"seeds": 99}), "title": "X"})
    assert fingerprint(more, "head", "default", "d", None) == name
    others = [
        fingerprint(one.model_copy(update=changed), "head", "default", "d", None)
        for changed in ({"noise": 0.1}, {"start": Start(labels=6)})
    ]
    others.append(fingerprint(one, "head", "default", "e", None))
    others.append(fingerprint(one, "lora", "default", "d", None))
    others.append(fingerprint(one, "head", "margin", "d", None))
    assert len({name, *others}) == 6


def test_the_content_of_the_first_adapter_changes_the_fingerprint_and_its_place_does_not():
    one, moved = (
        Experiment(name="x", start=Start(adapter=place), strategies=every_strategy())
        for place in ("here", "there")
    )
    names = [fingerprint(found, "head", "default", "d", "content") for found in (one, moved)]
    assert names[0] == names[1]
    assert fingerprint(one, "head", "default", "d", "other") != names[0]


def test_the_default_and_its_own_values_written_out_are_the_same_experiment():
    names = {"default": SelectionSettings(), "written": SelectionSettings(uniform_share=0.2, exponent=0.0)}
    one = Experiment(name="x", start=Start(labels=5), strategies=names)
    written = fingerprint(one, "head", "written", "d", None)
    assert fingerprint(one, "head", "default", "d", None) == written


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name = [", "is no TOML"),
        ('name = "x"\nsurprise = 1\nstart = {labels = 5}\nstrategies = {a = {}}', "surprise"),
        ('name = "x"\nstart = {labels = 5, adapter = "demo"}\nstrategies = {a = {}}', "start has either"),
        (
            'name = "x"\nstart = {zero_shot = true}\nstrategies = {random = {first_labels = 9}}',
            "first_strategy has to be random",
        ),
    ],
)
def test_an_experiment_that_cannot_be_is_refused_with_its_place(content, said, tmp_path):
    file = tmp_path / "x.toml"
    file.write_text(content)
    with pytest.raises(WrongUse, match=said):
        read_experiment(file)


def test_every_experiment_that_comes_along_can_be_read():
    files = sorted((Path(__file__).parents[3] / "benchmarks/simulations").glob("*.toml"))
    found = {file.stem: read_experiment(file) for file in files}
    assert [found[name].name for name in found] == list(found) != []
    assert found["clothing_then_movies"].stream_rows == (6000, 2000)


def test_a_summary_holds_strategies_against_random_on_the_seeds_that_both_have(loop):
    lines = [
        line | {"seed": seed, "strategy": name}
        for name, seeds in (("random", 3), ("default", 2))
        for seed in range(seeds)
        for line in nights(replace(loop, seed=seed))
    ]
    found = {row.strategy: row for row in summarise(lines, ("default", "random", "margin"))}
    assert set(found) == {"default", "random"}
    assert (found["random"].seeds, found["default"].seeds) == (3, 2)
    assert found["random"].saving.share <= 1
    assert found["random"].below == 0
    alone = summarise([line for line in lines if line["strategy"] == "default"], ("default", "random"))
    assert [(row.strategy, row.saving, row.below) for row in alone] == [("default", None, None)]


def test_a_strategy_whose_texts_are_read_in_half_the_time_saves_seconds_and_no_labels(loop):
    lines = [
        line | {"experiment": "x", "fit": "head", "seed": seed, "strategy": name}
        for name in ("random", "default")
        for seed in range(2)
        for line in nights(replace(loop, seed=seed))
    ]
    for number, line in enumerate(lines):
        line["candidate"] = line["candidate"] | {"macro_f1": 0.4 + 0.1 * line["night"]}
        share = 0.5 if line["strategy"] == "default" and line["night"] else 1.0
        first = lines[number - line["night"]]["annotator_seconds"]
        line["annotator_seconds"] = first + share * (line["annotator_seconds"] - first)
    found = {row.strategy: row for row in summarise(lines, ("default", "random"))}
    assert found["default"].saving.share == pytest.approx(1.0)
    assert found["default"].saved_seconds.share == pytest.approx(0.5)
    told = {line["strategy"]: line for line in condensed(lines, ["default", "random"])}
    assert told["default"]["share_of_randoms_seconds"] == [0.5, 0.5, 0.5]
    assert told["default"]["annotator_seconds"][-1] < told["random"]["annotator_seconds"][-1]


def test_results_of_a_version_that_watched_nothing_have_a_summary_and_a_picture_all_the_same(loop):
    named = {"experiment": "x", "fit": "head", "strategy": "random", "seed": 0}
    new = [line | named for line in nights(loop)]
    old = [{name: value for name, value in line.items() if name != "drift"} for line in new]
    silent = {"watched": 0, "false_alarms": 0, "delays": [], "median_delay": None}
    for lines, found in ((new, silent), (old, None)):
        assert [line["drift"] for line in condensed(lines, ["random"])] == [found]
        assert learning_curves(lines, ["random"], "").png().startswith(b"\x89PNG")
