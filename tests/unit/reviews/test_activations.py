"""Where a rollback goes: back along what was brought, never forth to what was rolled back."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviews.adapter import Activation, before, last_of, services
from reviews.errors import WrongUse

START = datetime(2026, 1, 1, tzinfo=UTC)


class Chain:
    """A task's history, as the database keeps it, with what people do to it."""

    def __init__(self, *versions: str) -> None:
        self.history: list[Activation] = []
        for version in versions:
            self.promote(version)

    def promote(self, version: str, restores: Activation | None = None) -> None:
        last = self.history[0] if self.history else None
        number = len(self.history) + 1
        self.history.insert(
            0,
            Activation(
                number, "sentiment", version, last and last.version, START + timedelta(days=number),
                "test", "test", last and last.id, restores and restores.id,
            ),
        )  # fmt: skip

    def roll_back(self, to: str | None = None) -> str:
        restored = before(self.history) if to is None else last_of(self.history, to)
        self.promote(restored.version, restored)
        return restored.version


def test_rolling_back_twice_goes_further_back_and_not_forth():
    chain = Chain("a", "b", "c")
    assert [chain.roll_back(), chain.roll_back()] == ["b", "a"]
    with pytest.raises(WrongUse, match="before a"):
        chain.roll_back()


def test_what_is_promoted_after_a_rollback_goes_back_to_what_it_replaced():
    chain = Chain("a", "b", "c")
    chain.roll_back()
    chain.promote("d")
    assert [chain.roll_back(), chain.roll_back()] == ["b", "a"]


def test_an_adapter_that_served_twice_is_gone_back_to_twice():
    chain = Chain("a", "b", "a")
    assert [chain.roll_back(), chain.roll_back()] == ["b", "a"]


def test_the_same_adapter_activated_anew_is_no_step_back():
    assert Chain("a", "b", "b").roll_back() == "a"


def test_what_was_rolled_back_is_reached_by_name_and_its_past_with_it():
    chain = Chain("a", "b", "c")
    chain.roll_back()
    chain.roll_back()
    assert chain.roll_back(to="c") == "c"
    assert [chain.roll_back(), chain.roll_back()] == ["b", "a"]


def test_neither_nothing_nor_what_never_served_nor_what_serves_can_be_gone_back_to():
    with pytest.raises(WrongUse, match="nothing to roll back"):
        before([])
    chain = Chain("a", "b")
    with pytest.raises(WrongUse, match="never active"):
        last_of(chain.history, "z")
    with pytest.raises(WrongUse, match="is the active adapter of the task 'sentiment'"):
        last_of(chain.history, "b")


@given(st.lists(st.sampled_from(["back", *"abcd"]), max_size=30))
def test_promotions_and_rollbacks_are_a_stack(steps: list[str]):
    chain, stack = Chain(), list[str]()
    for step in steps:
        if step != "back":
            if not stack or stack[-1] != step:
                chain.promote(step)
                stack.append(step)
        elif len(stack) > 1:
            stack.pop()
            assert chain.roll_back() == stack[-1]
        else:
            with pytest.raises(WrongUse):
                chain.roll_back()


def test_each_service_ends_where_the_next_of_its_task_begins():
    chain = Chain("a", "b")
    other = Activation(9, "tone", "t", None, START + timedelta(hours=1), "test", "test")
    found = services([*chain.history, other])
    assert [(item.activation.version, item.ended_at) for item in found] == [
        ("b", None),
        ("a", START + timedelta(days=2)),
        ("t", None),
    ]
