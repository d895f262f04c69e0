"""Each check alone: evidence in which one thing is wrong, and the verdict names that and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.trainer.gate.made_up import LABELS, differing, evidence, failed
from trainer.gate.evidence import Evidence
from trainer.gate.judge import judge
from trainer.gate.verdict import report_lines
from trainer.settings import GateSettings

SETTINGS = GateSettings()
BOTH_RIGHT, WINS, LOSSES, BOTH_WRONG = 280, 60, 20, 40


def verdict_on(made, gate=SETTINGS, attempts_before=0, seed=1):
    return judge(made, gate, attempts_before=attempts_before, seed=seed)


def check_of(verdict, name):
    return next(check for check in verdict.checks if check.name == name)


def placed(in_wins, in_losses, others=0):
    """bool (400): the first so many of the wins, of the losses, and of the rows that both have right."""
    chosen = np.zeros(400, np.bool_)
    chosen[BOTH_RIGHT : BOTH_RIGHT + in_wins] = True
    chosen[BOTH_RIGHT + WINS : BOTH_RIGHT + WINS + in_losses] = True
    chosen[:others] = True
    return chosen


def slices(chosen):
    return {"product": ["kettle" if here else "" for here in chosen]}


def test_a_candidate_that_gains_everywhere_is_promoted():
    verdict = verdict_on(
        differing(
            BOTH_RIGHT, WINS, LOSSES, BOTH_WRONG, audit=placed(15, 5, 80), segments=slices(placed(9, 3, 40))
        )
    )
    assert verdict.promote
    assert [check.name for check in verdict.checks] == [
        "rows", "floor", "majority", "improvement", "calibration", "likelihood", "recall", "audit", "product",
    ]  # fmt: skip


def test_too_few_rows_are_refused_with_how_many_are_missing():
    verdict = verdict_on(differing(50, 20, 0, 0))
    assert failed(verdict) == [check.name for check in verdict.checks] == ["rows"]
    assert verdict.reasons[0].startswith("10 more labels needed: 70 labelled reviews")


def test_too_few_rows_of_a_label_are_refused_with_how_many_of_which():
    verdict = verdict_on(evidence([0] * 2 + [1] * 148, [1] * 150, [0] * 2 + [1] * 148))
    assert failed(verdict) == ["rows"]
    assert verdict.reasons[0].startswith("1 more labels needed (1 of negative): 150 lab")


def test_a_label_without_any_row_is_missing_too():
    verdict = verdict_on(evidence([1] * 150, [1] * 150, [1] * 150))
    assert verdict.reasons[0].startswith("3 more labels needed (3 of negative)")


def test_a_better_candidate_below_the_floor_is_refused():
    verdict = verdict_on(differing(BOTH_RIGHT, WINS, LOSSES, BOTH_WRONG), GateSettings(floor=0.9))
    assert failed(verdict) == ["floor"]
    assert check_of(verdict, "floor").value == pytest.approx(0.85)


def test_a_better_candidate_that_the_most_frequent_label_beats_is_refused():
    truth = [0] * 40 + [1] * 360
    active, candidate = [0] * 40 + [1] * 160 + [0] * 200, [0] * 40 + [1] * 240 + [0] * 120
    made = evidence(truth, active, candidate, candidate_sure=0.7)
    verdict = verdict_on(made, GateSettings(metric="accuracy"))
    assert failed(verdict) == ["majority"]
    check = check_of(verdict, "majority")
    assert (check.value, check.limit) == (pytest.approx(0.7), pytest.approx(0.9))
    assert "always saying positive" in check.detail


def test_a_gain_that_chance_may_bring_is_refused():
    # 26 wins to 16 losses: a fair coin does as well with p = 0.082.
    verdict = verdict_on(differing(318, 26, 16, 40))
    assert failed(verdict) == ["improvement"]
    assert check_of(verdict, "improvement").value == pytest.approx(0.082, rel=0.3)


def test_a_gain_that_is_enough_on_the_first_night_is_not_after_many():
    made = differing(310, 36, 14, 40, candidate_sure=0.85)  # a fair coin does as well with p = 0.0013
    assert verdict_on(made).promote
    assert failed(verdict_on(made, attempts_before=19)) == ["improvement"]


def test_a_class_that_pays_for_the_others_gain_is_named():
    truth = np.array([0] * 200 + [1] * 200)
    active, candidate = truth.copy(), truth.copy()
    candidate[:20] = 1  # 20 rows of 200 lost: 10 points
    active[200:260] = 0
    verdict = verdict_on(evidence(truth, active, candidate, candidate_sure=0.9))
    assert failed(verdict) == ["recall"]
    assert check_of(verdict, "recall").value == pytest.approx(0.1)
    assert "negative -10.0 points on 200 rows (20 lost, 0 won" in verdict.reasons[0]


def test_a_loss_on_rows_drawn_at_random_outweighs_a_gain_on_rows_the_queue_chose():
    verdict = verdict_on(differing(BOTH_RIGHT, WINS, LOSSES, BOTH_WRONG, audit=placed(0, 12, 88)))
    assert failed(verdict) == ["audit"]
    assert check_of(verdict, "audit").value == pytest.approx(0.12)


@pytest.mark.parametrize("group", ["product", "source", "length", "month"])
def test_a_slice_that_regresses_is_named(group):
    chosen = placed(1, 14, 60)  # 13 of 75 rows: 17.3 points
    values = ["kettle" if here else "pan" for here in chosen]
    verdict = verdict_on(differing(BOTH_RIGHT, WINS, LOSSES, BOTH_WRONG, segments={group: values}))
    assert failed(verdict) == [group]
    assert "kettle -17.3 points on 75 rows (14 lost, 1 won" in verdict.reasons[0]


def test_a_slice_of_few_rows_and_one_without_a_name_are_not_judged():
    few, nameless = placed(0, 14, 15), placed(0, 14, 60)
    segments = {**slices(few), "source": ["" if here else "shop" for here in nameless]}
    assert verdict_on(differing(BOTH_RIGHT, WINS, LOSSES, BOTH_WRONG, segments=segments)).promote


def test_a_large_drop_by_few_rows_is_chance():
    verdict = verdict_on(
        differing(BOTH_RIGHT, WINS, LOSSES, BOTH_WRONG, segments=slices(placed(1, 4, 30)))
    )  # 3 of 35
    assert verdict.promote
    assert check_of(verdict, "product").value == pytest.approx(3 / 35)


def test_a_certain_drop_within_tolerance_is_tolerated():
    chosen = placed(0, 8, 272)  # 8 of 280 rows, p = 0.004
    made = differing(BOTH_RIGHT, WINS, LOSSES, BOTH_WRONG, segments=slices(chosen))
    assert verdict_on(made).promote
    assert failed(verdict_on(made, GateSettings(regression_tolerance=0.02))) == ["product"]


def test_a_better_candidate_that_is_not_sure_enough_is_refused():
    made = differing(BOTH_RIGHT, WINS, LOSSES, BOTH_WRONG, candidate_sure=0.7)
    verdict = verdict_on(made)
    assert failed(verdict) == ["calibration"]
    assert check_of(verdict, "calibration").value == pytest.approx(0.15 - 0.05)  # |0.7 - 0.85| - |0.8 - 0.75|


def test_a_few_answers_that_are_wrong_and_very_sure_are_refused():
    sure = np.full(400, 0.85)
    sure[-20:] = 0.999999
    made = differing(BOTH_RIGHT, WINS, LOSSES, BOTH_WRONG, active_sure=0.9, candidate_sure=sure)
    verdict = verdict_on(made)
    assert failed(verdict) == ["likelihood"]
    before = (300 * -np.log(0.9) + 100 * -np.log(0.1)) / 400
    after = (340 * -np.log(0.85) + 40 * -np.log(0.15) + 20 * -np.log(1e-6)) / 400
    assert check_of(verdict, "likelihood").value == pytest.approx(after - before, abs=1e-6)


def test_a_first_adapter_must_only_be_good_by_itself():
    truth = np.arange(400) % 2
    said = np.where(np.arange(400) < 340, truth, 1 - truth)
    verdict = verdict_on(evidence(truth, None, said))
    assert verdict.promote
    assert [check.name for check in verdict.checks] == [
        "rows",
        "floor",
        "majority",
        "improvement",
        "calibration",
    ]
    assert failed(verdict_on(evidence(truth, None, said, candidate_sure=0.6))) == ["calibration"]
    constant = verdict_on(
        evidence(truth, None, np.ones(400, int), candidate_sure=0.55), GateSettings(floor=0.4)
    )
    assert failed(constant) == ["floor", "majority", "improvement"]


def test_rows_speak_with_their_weights():
    made = differing(BOTH_RIGHT, WINS, LOSSES, BOTH_WRONG)
    weights = np.ones(400)
    weights[BOTH_RIGHT : BOTH_RIGHT + WINS] = (
        1 / 3
    )  # the queue draws where the candidate wins: 60 rows for 20
    weighed = Evidence(made.truth, made.active, made.candidate, LABELS, made.is_audit, weights=weights)
    assert verdict_on(made).promote
    assert failed(verdict_on(weighed)) == ["improvement"]
    assert check_of(verdict_on(weighed), "floor").value == pytest.approx(300 / 360)


def test_a_report_says_the_decision_and_marks_what_failed():
    lines = report_lines(verdict_on(differing(318, 26, 16, 40)))
    assert lines[0] == ("", "Keep the active adapter.")
    assert [head.split()[1] for head, _ in lines if head.startswith("FAIL")] == ["improvement"]
    assert len({len(head) for head, _ in lines[1:]}) == 1, "the sentences stand below each other"
    assert len(lines) == 9
    better = report_lines(verdict_on(differing(BOTH_RIGHT, WINS, LOSSES, BOTH_WRONG)))
    assert better[0] == ("", "Promote the candidate.")


def drawn(seed, rows=240):
    """Random answers of two adapters, with slices, audit rows and weights."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, rows)
    said = [
        np.where(random.random(rows) < accuracy, truth, 1 - truth) for accuracy in random.uniform(0.6, 1, 2)
    ]
    made = evidence(
        truth, *said, active_sure=random.uniform(0.5, 1, rows), candidate_sure=random.uniform(0.5, 1, rows)
    )
    values = {"product": [f"p{n}" for n in random.integers(0, 4, rows)]}
    return Evidence(
        truth,
        made.active,
        made.candidate,
        LABELS,
        random.random(rows) < 0.3,
        values,
        random.uniform(0.2, 3, rows),
    )


def reordered(made, order):
    segments = {name: [values[row] for row in order] for name, values in made.segments.items()}
    return Evidence(
        made.truth[order], made.active[order], made.candidate[order], LABELS, made.is_audit[order], segments,
        made.weights[order],
    )  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_neither_a_second_look_nor_the_order_of_rows_changes_a_verdict(seed):
    made = drawn(seed)
    verdict = verdict_on(made)
    assert verdict_on(made) == verdict
    mixed = verdict_on(reordered(made, np.random.default_rng(seed).permutation(240)))
    assert [check.passed for check in mixed.checks] == [check.passed for check in verdict.checks]
    assert [check.value for check in mixed.checks] == pytest.approx([check.value for check in verdict.checks])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 60), st.sampled_from(["macro_f1", "accuracy"]))
def test_a_candidate_that_is_right_nowhere_else_never_passes(seed, losses, metric):
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, 200)
    active = np.where(random.random(200) < 0.8, truth, 1 - truth)
    candidate = active.copy()
    candidate[random.permutation(np.flatnonzero(active == truth))[:losses]] ^= 1
    verdict = verdict_on(evidence(truth, active, candidate), GateSettings(metric=metric, alpha=0.99))
    assert "improvement" in failed(verdict)


@pytest.mark.parametrize(("wins", "losses", "is_fit"), [(30, 30, True), (26, 34, True), (10, 90, False)])
def test_an_adapter_that_has_to_go_is_replaced_by_one_that_is_not_worse_beyond_chance(wins, losses, is_fit):
    made = differing(BOTH_RIGHT, wins, losses, BOTH_WRONG)
    verdict = judge(made, SETTINGS, attempts_before=0, seed=1, is_replacement=True)
    assert check_of(verdict, "replacement").passed == is_fit
    assert not verdict.is_attempt, "it takes nothing of the error budget"
    assert "improvement" in failed(judge(made, SETTINGS, attempts_before=0, seed=1))


@pytest.mark.parametrize(("wins", "losses", "is_fit"), [(30, 30, True), (26, 34, True), (10, 90, False)])
def test_an_adapter_with_other_labels_is_replaced_by_one_that_is_not_worse_on_what_both_know(
    wins, losses, is_fit
):
    common = differing(BOTH_RIGHT, wins, losses, BOTH_WRONG)
    alone = replace(common, active=None)
    verdict = judge(alone, SETTINGS, attempts_before=0, seed=1, common=replace(common, left_out=7))
    assert check_of(verdict, "replacement").passed == is_fit
    assert "7 further rows" in check_of(verdict, "replacement").detail
    assert not verdict.is_attempt
    names = {check.name for check in verdict.checks}
    assert {"rows", "floor", "majority", "calibration"} <= names
    nothing_common = judge(alone, SETTINGS, attempts_before=0, seed=1)
    assert "improvement" in {check.name for check in nothing_common.checks}
