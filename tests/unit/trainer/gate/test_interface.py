"""What others build on: shapes, the verdict's way to JSON and back, the count of attempts."""

import json

import numpy as np
import pytest

from reviews.errors import WrongUse
from trainer.gate.evidence import Evidence
from trainer.gate.judge import judge
from trainer.gate.verdict import Check, Verdict
from trainer.settings import GateSettings, TrainerSettings

LABELS = ("negative", "positive")


def answers(said):
    return np.eye(2)[np.array(said)] * 0.8 + 0.1


def evidence(truth, active, candidate):
    truth = np.array(truth)
    said = None if active is None else answers(active)
    return Evidence(truth, said, answers(candidate), LABELS, np.zeros(len(truth), np.bool_))


def test_a_verdict_comes_back_from_json_as_it_went():
    verdict = judge(
        evidence([0, 1] * 60, [0, 1] * 30 + [1, 0] * 30, [0, 1] * 60),
        GateSettings(),
        attempts_before=3,
        seed=1,
    )
    assert verdict.promote
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


def test_a_failed_check_added_later_takes_the_promotion_back_with_its_reason():
    probe = Check("probe", passed=False, value=0.0, limit=1.0, detail="The adapter does not load.")
    verdict = Verdict((Check("floor", True, 0.7, 0.5, "Above the floor."),)).with_check(probe)
    assert not verdict.promote
    assert verdict.reasons == ("The adapter does not load.",)


def test_a_verdict_without_checks_promotes_nothing():
    assert not Verdict(()).promote


def test_only_a_comparison_of_both_adapters_uses_up_an_attempt():
    few = judge(evidence([0, 1], [0, 0], [0, 1]), GateSettings(), attempts_before=0, seed=1)
    enough = judge(evidence([0, 1] * 60, [0, 1] * 60, [0, 1] * 60), GateSettings(), attempts_before=0, seed=1)
    assert (few.is_attempt, enough.is_attempt) == (False, True)


def test_answers_to_other_rows_are_refused():
    with pytest.raises(WrongUse, match="active"):
        evidence([0, 1, 1], [0, 1], [0, 1, 1])


def test_the_gate_is_no_part_of_a_recipe():
    strict = TrainerSettings(gate=GateSettings(alpha=0.01))
    assert strict.gate.alpha == 0.01
    assert strict.model_dump() == TrainerSettings().model_dump()
