"""The conversation: what a key does to the queue, and what the annotator sees before and after."""

import io
from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from rich.console import Console

from console.labelling import AnnotatorQueue, make_choices
from reviewloop.labelling.session import Session, Sitting
from reviewloop.labelling.terminal import Screen
from reviews.errors import Unavailable, WrongUse
from reviews.queue_item import Guess, LeasedItem
from storage.labels.annotation_queue import ItemLeaseEnded

_NOW = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
_GUESS = Guess("neutral", 0.61, "sentiment-1")


def _item(number: int, text: str = "", **more) -> LeasedItem:
    return LeasedItem(
        **{
            "record": number, "task": "sentiment", "token": 1, "expires_at": _NOW, "reason": "uncertain",
            "review_id": f"review-{number}", "text": text or f"Text {number}.", "product": "boots",
            "source": None, "published_at": _NOW, "is_edited": False, "guess": _GUESS, **more,
        }
    )  # fmt: skip


class FakeQueue:
    """Hands out its items in order; keeps what was said of them."""

    def __init__(self, items: Iterable[LeasedItem]) -> None:
        self.open = list(items)
        self.answers: list[tuple[int, str | None]] = []
        self.seconds: list[float | None] = []
        self.skipped: list[int] = []
        self.given_back: list[int] = []
        self.undone: list[int] = []
        self.trouble: list[BaseException] = []
        self.is_held_elsewhere = False

    def lease_several(self, task, annotator, seconds, most, among=None):
        return [self.open.pop(0)] if self.open else []

    def renew(self, item, annotator, seconds):
        return True

    def held(self, task, record, annotator):
        return None

    def answer(self, item, label, annotator, *, is_late=False, action=None, seconds=None):
        self._fail()
        self.answers.append((item.record, label))
        self.seconds.append(seconds)
        return True

    def skip(self, item, annotator, action=None):
        self._fail()
        self.skipped.append(item.record)

    def undo(self, item, annotator, seconds, action=None):
        self._fail()
        self.undone.append(item.record)
        return None if self.is_held_elsewhere else item

    def give_back(self, item):
        self.given_back.append(item.record)
        self.open.insert(0, item)

    def left_for(self, task, annotator, most=None):
        return len(self.open) + 1

    def _fail(self):
        if self.trouble:
            raise self.trouble.pop()


class FakeKeys:
    """Keys that were decided before."""

    def __init__(self, keys: str) -> None:
        self._keys = list(keys)

    def next(self):
        return self._keys.pop(0) if self._keys else None

    def forget(self):
        pass


def _asked(queue: FakeQueue) -> AnnotatorQueue:
    return AnnotatorQueue(queue, "sentiment", "ann")


def _sit(queue: FakeQueue, keys: str, **options) -> tuple[list[tuple[int, str | None, bool]], str]:
    printed = io.StringIO()
    console = Console(file=printed, width=80, highlight=False, emoji=False, markup=False)
    choices = make_choices(("negative", "neutral", "positive"))
    session = Session(_asked(queue), FakeKeys(keys), Screen(choices, console), choices, Sitting(**options))
    done = [(item.record, label, is_skip) for item, label, is_skip in session.run()]
    return done, printed.getvalue()


def test_an_answer_takes_from_the_moment_its_review_was_shown():
    queue, moments = FakeQueue(map(_item, range(2))), iter([10.0, 12.5, 100.0, 104.0])
    choices = make_choices(("negative", "neutral", "positive"))
    screen = Screen(choices, Console(file=io.StringIO(), width=80))
    Session(_asked(queue), FakeKeys("1p"), screen, choices, Sitting(), clock=lambda: next(moments)).run()
    assert queue.seconds == [2.5, 4.0]


def test_one_key_is_one_answer_until_nothing_is_left():
    queue = FakeQueue(map(_item, range(3)))
    done, printed = _sit(queue, "1pu")
    assert queue.answers == [(0, "negative"), (1, "positive"), (2, None)]
    assert done == [(0, "negative", False), (1, "positive", False), (2, None, False)]
    assert "Nothing is left" in printed


def test_the_guess_is_hidden_until_the_choice_is_made():
    queue = FakeQueue([_item(0)])
    _, before = _sit(queue, "")
    assert "0.61" not in before
    assert "the model" not in before
    _, after = _sit(queue, "1")
    assert after.index("→ negative") < after.index("the model: neutral (0.61)")


def test_the_guess_is_never_shown_where_that_was_asked_for():
    _, printed = _sit(FakeQueue([_item(0)]), "1", reveal_guess=False)
    assert "0.61" not in printed
    assert "→ negative" in printed


def test_what_is_on_the_screen_goes_back_when_the_annotator_stops():
    for keys in ("1q", "1"):
        queue = FakeQueue(map(_item, range(2)))
        _sit(queue, keys)
        assert queue.given_back == [1]


def test_an_error_gives_back_what_is_on_the_screen():
    queue = FakeQueue([_item(0)])
    queue.trouble = [RuntimeError("broken")]
    with pytest.raises(RuntimeError):
        _sit(queue, "1")
    assert queue.given_back == [0]


@pytest.mark.parametrize("keys", ["1", "s"])
def test_an_interrupt_at_any_moment_stops_and_gives_back_what_is_on_the_screen(keys):
    queue = FakeQueue([_item(0)])
    queue.trouble = [KeyboardInterrupt()]
    done, printed = _sit(queue, keys)
    assert done == []
    assert queue.given_back == [0]
    assert "Stopped." in printed


def test_the_limit_counts_answers_and_no_skips():
    queue = FakeQueue(map(_item, range(5)))
    done, _ = _sit(queue, "1s23", limit=2)
    assert done == [(0, "negative", False), (1, None, True), (2, "neutral", False)]
    assert queue.given_back == []


def test_undo_goes_back_item_by_item_and_what_was_on_the_screen_comes_again():
    queue = FakeQueue(map(_item, range(3)))
    done, printed = _sit(queue, "1szz32")
    assert queue.undone == [1, 0]
    assert queue.answers == [(0, "negative"), (0, "positive"), (1, "neutral")]
    assert done == [(0, "positive", False), (1, "neutral", False)]
    assert queue.given_back == [2, 1, 2]
    assert "nothing to take back" not in printed


@pytest.mark.parametrize("options", [{}, {"limit": 1}])
def test_the_very_last_answer_can_be_taken_back(options):
    queue = FakeQueue([_item(0)])
    done, printed = _sit(queue, "1z3q", **options)
    assert queue.undone == [0]
    assert done == [(0, "positive", False)]
    assert "z takes the last answer back" in printed


def test_undo_without_anything_done_says_so_and_keeps_the_item():
    queue = FakeQueue([_item(0)])
    done, printed = _sit(queue, "z1")
    assert "nothing to take back" in printed
    assert done == [(0, "negative", False)]


def test_an_undone_item_that_somebody_else_has_comes_later():
    queue = FakeQueue(map(_item, range(2)))
    queue.is_held_elsewhere = True
    done, printed = _sit(queue, "1z2")
    assert "comes again later" in printed
    assert done == [(1, "neutral", False)]


def test_an_undo_that_finds_nothing_keeps_the_item_on_the_screen():
    queue = FakeQueue(map(_item, range(2)))

    class Once(FakeKeys):
        def next(self):
            key = super().next()
            if key == "z":
                queue.trouble = [WrongUse("no answer to take back")]
            return key

    choices = make_choices(("negative", "neutral", "positive"))
    screen = Screen(choices, Console(file=io.StringIO()))
    done = Session(_asked(queue), Once("1z2"), screen, choices, Sitting()).run()
    assert [(item.record, label) for item, label, _ in done] == [(1, "neutral")]


def test_an_answer_that_comes_too_late_is_stored_all_the_same_and_the_annotator_is_told():
    queue = FakeQueue([_item(0)])
    queue.trouble = [ItemLeaseEnded("too late")]
    _, printed = _sit(queue, "1")
    assert queue.answers == [(0, "negative")]
    assert "longer than the lease" in printed


def test_an_answer_that_the_database_did_not_take_can_be_given_again():
    queue = FakeQueue([_item(0)])
    queue.trouble = [Unavailable("The database is away.")]
    done, printed = _sit(queue, "13")
    assert queue.answers == [(0, "positive")]
    assert done == [(0, "positive", False)]
    assert "press the key again" in " ".join(printed.split())


def test_an_undo_that_the_database_did_not_take_can_be_repeated():
    queue = FakeQueue(map(_item, range(2)))

    class Once(FakeKeys):
        is_first = True

        def next(self):
            key = super().next()
            if key == "z" and self.is_first:
                self.is_first = False
                queue.trouble = [Unavailable("The database is away.")]
            return key

    choices = make_choices(("negative", "neutral", "positive"))
    screen = Screen(choices, Console(file=io.StringIO()))
    done = Session(_asked(queue), Once("1zz3"), screen, choices, Sitting()).run()
    assert queue.undone == [0]
    assert [(item.record, label) for item, label, _ in done] == [(0, "positive")]


def test_a_hostile_text_is_shown_and_not_obeyed():
    hostile = _item(0, "\x1b]0;owned\x07[bold red]not markup[/] :smile: \x1b[2J", product="\x1b[31m[link=x]y")
    _, printed = _sit(FakeQueue([hostile]), "?")
    assert "\x1b" not in printed
    assert "\x07" not in printed
    assert "[bold red]not markup[/] :smile: ␛[2J" in printed
    assert "␛[31m[link=x]y" in printed


def test_an_edited_review_is_shown_with_a_notice():
    assert "edited since" in _sit(FakeQueue([_item(0, is_edited=True)]), "")[1]
    assert "edited since" not in _sit(FakeQueue([_item(0)]), "")[1]


def test_a_long_text_is_cut_until_its_whole_is_asked_for():
    text = "word " * 1_000 + "the end"
    assert "the end" not in _sit(FakeQueue([_item(0, text)]), "")[1]
    assert "the end" in _sit(FakeQueue([_item(0, text)]), "m")[1]
    flooded = _sit(FakeQueue([_item(0, "\n" * 5_000 + "down here")]), "")[1]
    assert flooded.count("\n") < 60


def test_everything_fits_into_80_columns():
    _, printed = _sit(FakeQueue([_item(0, "very long words " * 30, review_id="x" * 200)]), "?k1")
    assert max(map(len, printed.splitlines())) <= 80
    assert "'k' means nothing" in printed


def test_an_item_that_no_model_scored_says_so_after_the_choice():
    assert "has not scored it" in _sit(FakeQueue([_item(0, guess=None)]), "1")[1]


def test_guidelines_are_shown_as_they_were_written_and_the_item_stays():
    done, printed = _sit(FakeQueue([_item(0)]), "g1", guidelines="Irony is \x1b[31mnegative.")
    assert "Irony is ␛[31mnegative." in printed
    assert done == [(0, "negative", False)]
    assert "no guidelines yet" in _sit(FakeQueue([_item(0)]), "g")[1]
