"""The adapter goes back when the audit says so, to what it replaced, and never over another decision."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from reviews.adapter import Activation, AdapterVersion
from reviews.label import AuditRow
from reviews.prediction import Prediction
from storage.adapters.registry import ActivationConflict
from trainer.gate.rollback import DECIDED_BY, RollbackLook, evidence, roll_back_if_worse, should_roll_back
from trainer.gate.verdict import Check
from trainer.settings import GateSettings

START = datetime(2026, 1, 1, tzinfo=UTC)
RIGHT, WRONG = (0.1, 0.9), (0.9, 0.1)


def _version(name: str, labels: tuple[str, ...] = ("bad", "good")) -> AdapterVersion:
    return AdapterVersion(name, "sentiment", labels, "base", None, name * 8)


class Adapters:
    """A chain of activations in memory; the last of the versions serves."""

    def __init__(self, *versions: AdapterVersion) -> None:
        self.versions = {adapter.version: adapter for adapter in versions}
        self.chain: list[Activation] = []
        for adapter in versions:
            self.activate(adapter, expected=self.chain[0] if self.chain else None)

    def find(self, version: str) -> AdapterVersion:
        return self.versions[version]

    def history(self, task: str) -> list[Activation]:
        return self.chain

    def activate(self, adapter, *, expected, decided_by="test", reason="test", restores=None):
        last = self.chain[0] if self.chain else None
        if expected != last:
            raise ActivationConflict("meanwhile")
        number = len(self.chain) + 1
        made = Activation(
            number, "sentiment", adapter.version, last and last.version, START + timedelta(days=number),
            decided_by, reason, last and last.id, restores and restores.id,
        )  # fmt: skip
        self.chain = [made, *self.chain]
        return made


class Scorer:
    def __init__(self, version: str, probabilities: tuple[float, ...], asked: list[str]) -> None:
        self._said = Prediction("sentiment", "x", 0.9, probabilities, 0.8, 0.3, False, version)
        self._asked = asked

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        self._asked += texts
        return [self._said] * len(texts)


def _nothing_to_load(version: str) -> Scorer:
    raise AssertionError(f"{version} was loaded")


def _row(record: int, active=WRONG, previous=RIGHT, label: str = "good") -> AuditRow:
    return AuditRow(record, f"text {record}", label, active, previous)


def _look(adapters: Adapters, rows: Sequence[AuditRow], judge=None, load=_nothing_to_load) -> RollbackLook:
    def gate(truth, active, previous, draw_weights) -> Check:
        return should_roll_back(truth, active, previous, draw_weights, GateSettings())

    return roll_back_if_worse("sentiment", adapters, lambda *_: rows, load, judge or gate)


def test_an_adapter_that_is_worse_beyond_doubt_goes_back_to_what_it_replaced_with_the_reason():
    adapters = Adapters(_version("a"), _version("b"), _version("c"))
    found = _look(adapters, [_row(number) for number in range(30)])
    assert (found.outcome, found.active, found.previous) == ("rolled_back", "c", "b")
    latest = adapters.chain[0]
    assert (latest.version, latest.restores, latest.decided_by) == ("b", 2, DECIDED_BY)
    assert "30 audit reviews" in latest.reason


def test_losses_that_the_audit_preferred_roll_back_nothing_that_is_better_on_the_stream():
    rare = [_row(number)._replace(draw_weight=0.1) for number in range(30)]
    usual = [_row(number, RIGHT, WRONG) for number in range(30, 34)]
    adapters = Adapters(_version("a"), _version("b"))
    assert _look(adapters, rare + usual).outcome == "stays"


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [_row(number) for number in range(3)],
        [_row(number, active=RIGHT) for number in range(200)],
        [_row(number, *((RIGHT, WRONG) if number % 2 else (WRONG, RIGHT))) for number in range(200)],
    ],
    ids=["no labels", "too few", "as good", "another kind of wrong"],
)
def test_an_adapter_that_is_not_worse_beyond_doubt_stays(rows):
    adapters = Adapters(_version("a"), _version("b"))
    assert _look(adapters, rows).outcome == "stays"
    assert adapters.chain[0].version == "b"


def test_a_decision_that_falls_during_the_look_is_not_overwritten():
    adapters = Adapters(_version("a"), _version("b"))

    def judge(truth, active, previous, _weights) -> Check:
        adapters.activate(_version("c"), expected=adapters.chain[0])
        return Check("audit", False, 9, 1, "worse")

    assert _look(adapters, [_row(1)], judge).outcome == "overtaken"
    assert [activation.version for activation in adapters.chain] == ["c", "b", "a"]


def test_where_nothing_served_before_or_no_two_labels_are_common_nothing_happens():
    assert _look(Adapters(), []) == RollbackLook("nothing_before")
    assert _look(Adapters(_version("a")), []) == RollbackLook("nothing_before", "a")
    others = Adapters(_version("a", ("bad", "fine", "mixed")), _version("b"))
    assert _look(others, []) == RollbackLook("not_comparable", "b", "a")


def test_the_answers_asked_for_are_those_since_the_adapter_serves():
    adapters, asked = Adapters(_version("a"), _version("b")), []

    def answers(*arguments):
        asked.append(arguments)
        return []

    def stays(truth, active, previous, _weights) -> Check:
        return Check("audit", True, 0, 1, "")

    roll_back_if_worse("sentiment", adapters, answers, _nothing_to_load, stays)
    assert asked == [("sentiment", "b", "a", START + timedelta(days=2))]


def test_missing_answers_are_computed_for_exactly_the_texts_that_lack_them():
    asked: dict[str, list[str]] = {"a": [], "b": []}
    rows = [_row(1), _row(2, previous=None), _row(3, active=None), _row(4, previous=None)]
    truth, active, previous = evidence(
        rows, _version("b"), _version("a"), lambda name: Scorer(name, (0.25, 0.75), asked[name])
    )
    assert asked == {"a": ["text 2", "text 4"], "b": ["text 3"]}
    assert truth.tolist() == [1, 1, 1, 1]
    assert active.tolist() == [[0.9, 0.1], [0.9, 0.1], [0.25, 0.75], [0.9, 0.1]]
    assert previous.tolist() == [[0.1, 0.9], [0.25, 0.75], [0.1, 0.9], [0.25, 0.75]]


def test_both_adapters_columns_stand_in_the_serving_ones_order():
    rows = [AuditRow(1, "x", "c", (0.1, 0.2, 0.7), (0.5, 0.3, 0.2))]
    truth, active, previous = evidence(
        rows, _version("b", ("a", "b", "c")), _version("a", ("c", "a", "b")), _nothing_to_load
    )
    assert truth.tolist() == [2]
    np.testing.assert_allclose(active, [[0.1, 0.2, 0.7]])
    np.testing.assert_allclose(previous, [[0.3, 0.2, 0.5]])


def test_a_label_that_no_adapter_knows_is_no_evidence():
    seen = []

    def judge(truth, active, previous, _weights) -> Check:
        seen.append((len(truth), active.shape, previous.shape))
        return Check("audit", True, 0, 1, "")

    _look(Adapters(_version("a"), _version("b")), [_row(1, label="unheard of")], judge)
    assert seen == [(0, (0, 2), (0, 2))]
