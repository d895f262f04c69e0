"""Promotion, rollback and history by the real commands: each a compare-and-set on what it expects."""

import json
from collections.abc import Callable

import pytest

from reviews.adapter import AdapterVersion
from reviews.errors import ReviewLoopError, WrongUse
from storage.adapters.registry import ActivationConflict, AdapterStore
from tests.integration.in_process import VERSION, InProcess, Stream

Run = Callable[..., str]
NAMES = ("sentiment-aaaaaaaaaaaa", "sentiment-bbbbbbbbbbbb", "sentiment-cccccccccccc")
A, B, C = NAMES


@pytest.fixture
def made(stream: Stream) -> InProcess:
    """A database with three registered adapters, none of them active."""
    made = stream()
    for number, name in enumerate(NAMES):
        adapter = AdapterVersion(name, "sentiment", ("negative", "positive"), "none", None, str(number) * 64)
        AdapterStore(made.database).add(adapter, {"adapter_config.json": b"{}"})
    return made


def _active(made: InProcess) -> str | None:
    active = AdapterStore(made.database).active("sentiment")
    return active and active.version


def _history(made: InProcess, run: Run) -> list[dict]:
    return [json.loads(line) for line in run(made, "adapters", "history", "--format", "jsonl").splitlines()]


def test_a_rollback_during_a_night_is_not_overwritten_by_the_night(made: InProcess, run: Run):
    for name in (A, B):
        run(made, "adapters", "promote", name)
    adapters = AdapterStore(made.database)
    seen_by_the_night = adapters.active("sentiment")

    run(made, "adapters", "rollback", "--reason", "customers complain")

    with pytest.raises(ActivationConflict, match="nothing was changed"):
        adapters.activate(
            adapters.find(C), expected=seen_by_the_night, decided_by="nightly", reason="3 points better"
        )
    assert _active(made) == A
    assert _history(made, run)[0]["reason"] == "customers complain"


def test_rolling_back_twice_goes_further_back_and_the_history_tells_all_of_it(made: InProcess, run: Run):
    for name in NAMES:
        run(made, "adapters", "promote", name, "--reason", f"try {name[-1]}")
    run(made, "adapters", "rollback")
    assert _active(made) == B
    run(made, "adapters", "rollback")
    assert _active(made) == A
    with pytest.raises(WrongUse, match="before sentiment-a"):
        run(made, "adapters", "rollback")
    run(made, "adapters", "rollback", "--to", "sentiment-c")

    told = _history(made, run)
    assert [item["version"] for item in told] == [C, A, B, C, B, A]
    assert [item["reason"] for item in told[3:]] == ["try c", "try b", "try a"]
    assert [item["restores"] for item in told] == [3, 1, 2, None, None, None]
    assert all(item["decided_by"] for item in told)
    assert told[0]["ended_at"] is None
    assert [item["ended_at"] for item in told[1:]] == [item["activated_at"] for item in told[:-1]]


def test_expect_refuses_when_another_adapter_serves(made: InProcess, run: Run):
    run(made, "adapters", "promote", A, "--expect", "none")
    for command in (["promote", C], ["rollback"]):
        with pytest.raises(ReviewLoopError, match=f"{A} is active now, not {B}: nothing was changed"):
            run(made, "adapters", *command, "--expect", B)
    with pytest.raises(ReviewLoopError, match="not none"):
        run(made, "adapters", "promote", C, "--expect", "none")
    run(made, "adapters", "promote", C, "--expect", "sentiment-a")
    assert _active(made) == C


def test_a_promotion_needs_a_reason_and_a_registered_adapter(made: InProcess, run: Run):
    with pytest.raises(WrongUse, match="say in a sentence why"):
        run(made, "adapters", "promote", A, "--reason", " ")
    with pytest.raises(WrongUse, match="not registered"):
        run(made, "adapters", "promote", "sentiment-zzz")
    with pytest.raises(WrongUse, match="has no active adapter"):
        run(made, "adapters", "rollback")
    run(made, "adapters", "promote", A)
    with pytest.raises(WrongUse, match="never active"):
        run(made, "adapters", "rollback", "--to", VERSION)
    assert _active(made) == A


def test_the_old_name_of_promote_works_for_one_version_and_says_the_new_one(made: InProcess, run: Run):
    told = run(made, "adapters", "activate", "sentiment-a", whole=True)
    assert _active(made) == A
    assert "say 'adapters promote'" in told.stderr
    assert "activate" not in run(made, "adapters", "--help")
    assert _history(made, run)[0]["reason"] == "promoted by hand"
