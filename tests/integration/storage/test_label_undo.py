"""Answers taken back: they stay in the history, count for nothing, and the item comes again."""

import pytest

from reviews.errors import WrongUse
from storage.labels.store import LabelStore
from tests.integration.queued_reviews import (
    TASK,
    answers,
    execute,
    lease_item,
    queue_reviews,
    states,
    wanted,
)


def test_an_answer_taken_back_stays_in_the_history_and_the_item_is_leased_anew(store, queue):
    (record,) = queue_reviews(store, 1)
    item = lease_item(queue)
    queue.answer(item, "negative", "ann")
    again = queue.undo(item, "ann", 600)
    assert again is not None
    assert (again.record, again.token) == (record, item.token + 1)
    assert states(store) == ["open"]
    assert queue.answer(again, "positive", "ann")
    assert [row[1:] for row in answers(store)] == [
        ("negative", "ann", "terminal"),
        (None, "ann", "undo"),
        ("positive", "ann", "terminal"),
    ]


def test_an_answer_taken_back_is_not_counted_and_the_item_is_offered_again(store, queue, contents):
    (record,) = queue_reviews(store, 1)
    item = lease_item(queue)
    queue.answer(item, "negative", "ann")
    queue.undo(item, "ann", 600)
    assert contents.close_answered(TASK) == 0
    assert contents.release("ann") == 1
    assert lease_item(queue, "ann").record == record


def test_an_answer_taken_back_while_another_has_the_item_comes_again_later(store, queue):
    queue_reviews(store, 1, wanted_answers=2)
    item = lease_item(queue, "ann")
    queue.answer(item, "negative", "ann")
    his = lease_item(queue, "bob")
    assert queue.undo(item, "ann", 600) is None
    assert not queue.answer(his, "positive", "bob")
    assert lease_item(queue, "ann").record == item.record


def test_an_answer_that_bears_a_time_to_come_can_be_taken_back(store, queue, contents):
    (record,) = queue_reviews(store, 1)
    item = lease_item(queue)
    queue.answer(item, "negative", "ann")
    execute(store, "UPDATE label SET labelled_at = now() + interval '1 day'")
    queue.undo(item, "ann", 600)
    contents.release("ann")
    assert contents.close_answered(TASK) == 0
    assert lease_item(queue).record == record


def test_an_answer_counts_although_an_earlier_one_of_the_same_annotator_bears_a_time_to_come(
    store, queue, contents
):
    (record,) = queue_reviews(store, 1)
    queue.answer(lease_item(queue), "negative", "ann")
    execute(store, "UPDATE label SET labelled_at = now() + interval '2 hours'")
    contents.add([wanted(record, 0.2, reason="second_look", strategy="suspects")])
    assert queue.answer(lease_item(queue), "positive", "ann")
    assert states(store) == ["done"]
    assert queue.lease(TASK, "ann", 600) is None
    assert LabelStore(store).consensus(TASK, [record]) == {record: "positive"}


def test_an_answer_after_one_of_a_time_to_come_was_taken_back_counts(store, queue):
    (record,) = queue_reviews(store, 1)
    item = lease_item(queue)
    queue.answer(item, "negative", "ann")
    execute(store, "UPDATE label SET labelled_at = now() + interval '2 hours'")
    again = queue.undo(item, "ann", 600)
    assert again is not None
    assert queue.answer(again, "positive", "ann")
    assert LabelStore(store).consensus(TASK, [record]) == {record: "positive"}


def test_there_is_nothing_to_take_back_twice(store, queue):
    queue_reviews(store, 1)
    item = lease_item(queue)
    queue.answer(item, "negative", "ann")
    queue.undo(item, "ann", 600)
    with pytest.raises(WrongUse, match="no answer"):
        queue.undo(item, "ann", 600)
    with pytest.raises(WrongUse, match="'bob'"):
        queue.undo(item, "bob", 600)
    assert len(answers(store)) == 2


def test_a_skip_taken_back_leases_the_item_anew(store, queue):
    (record,) = queue_reviews(store, 1)
    item = lease_item(queue)
    queue.skip(item, "ann")
    again = queue.undo(item, "ann", 600)
    assert again is not None
    assert again.record == record
    assert answers(store) == []
