"""Actions of the console: done once however often they are sent, and taken back by name."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest

from reviews.queue_item import CONSOLE_SOURCE, Action, ItemLease
from storage.labels.actions import ActionKnown, done_actions
from storage.labels.annotation_queue import MAX_HELD, AnnotationQueue, ItemLeaseEnded
from storage.labels.guidelines import GuidelineChanged, GuidelineStore
from storage.labels.progress import answered_since, answers_of_others, consistency, queue_ties
from storage.labels.store import LabelStore
from tests.integration.queued_reviews import (
    PUBLISHED,
    TASK,
    answers,
    execute,
    lease_item,
    queue_reviews,
    rows,
    states,
    store_reviews,
)


@pytest.fixture
def console(store):
    """The queue as the console uses it."""
    return AnnotationQueue(store, CONSOLE_SOURCE)


def done_ids(store, annotator: str = "ann") -> list[UUID]:
    return [one.id for one in done_actions(store, TASK, annotator, seconds=3600, most=10)]


def test_an_answer_that_is_sent_again_is_one_answer(store, console):
    queue_reviews(store, 1, wanted_answers=2)
    item, action = lease_item(console), Action(uuid4(), 2.5)
    console.answer(item, "negative", "ann", action=action)
    for label in ("negative", "positive"):
        with pytest.raises(ActionKnown):
            console.answer(item, label, "ann", is_late=True, action=action)
    assert answers(store) == [(item.record, "negative", "ann", "console")]
    assert rows(store, "SELECT seconds FROM label_action") == [(2.5,)]


def test_of_many_threads_with_one_action_one_stores_it(store, console):
    queue_reviews(store, 1)
    item, action = lease_item(console), Action(uuid4())

    def answer(_: int) -> bool:
        try:
            console.answer(item, "negative", "ann", is_late=True, action=action)
        except ActionKnown:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(answer, range(8))) == 1
    assert len(answers(store)) == 1


def test_an_action_that_failed_can_be_sent_again(store, console):
    queue_reviews(store, 1)
    item, action = lease_item(console, seconds=0.001), Action(uuid4())
    with pytest.raises(ItemLeaseEnded):
        console.answer(item, "negative", "ann", action=action)
    console.answer(item, "negative", "ann", is_late=True, action=action)
    assert len(answers(store)) == 1


def test_an_undo_that_is_sent_again_takes_back_one_answer(store, console):
    queue_reviews(store, 1)
    item, first, undo = lease_item(console), Action(uuid4()), uuid4()
    console.answer(item, "negative", "ann", action=first)
    again = console.undo(item, "ann", 600, Action(undo, undoes=first.id))
    assert again is not None
    console.answer(again, "positive", "ann", action=Action(uuid4()))
    for other in (undo, uuid4()):
        with pytest.raises(ActionKnown):
            console.undo(item, "ann", 600, Action(other, undoes=first.id))
    assert [row[1] for row in answers(store)] == ["negative", None, "positive"]
    assert states(store) == ["done"]


def test_what_can_be_taken_back_is_what_was_done_and_not_taken_back_in_order(store, console):
    queue_reviews(store, 4)
    made = []
    for number in range(3):
        item, action = lease_item(console), Action(uuid4())
        if number == 1:
            console.skip(item, "ann", action)
        else:
            console.answer(item, "negative", "ann", action=action)
        made.append((item, action.id))
    assert done_ids(store) == [id_ for _, id_ in made]
    item, id_ = made.pop()
    console.undo(item, "ann", 600, Action(uuid4(), undoes=id_))
    assert done_ids(store) == [id_ for _, id_ in made]
    assert done_ids(store, "bob") == []
    execute(store, "UPDATE label_action SET acted_at = acted_at - interval '2 hours'")
    assert done_ids(store) == []


def test_several_items_are_leased_at_once_and_nobody_else_gets_one_of_them(store, console):
    records = queue_reviews(store, 6)
    ours = console.lease_several(TASK, "ann", 600, 4)
    assert [item.record for item in ours] == records[:4]
    assert [item.record for item in console.lease_several(TASK, "bob", 600, 4)] == records[4:]
    assert console.lease_several(TASK, "ann", 600, 4) == []


def test_annotators_who_lease_at_once_never_share_an_item(store, console):
    queue_reviews(store, 60)
    with ThreadPoolExecutor(8) as pool:
        leased = pool.map(lambda n: console.lease_several(TASK, f"annotator-{n}", 600, 10), range(8))
    records = [item.record for items in leased for item in items]
    assert len(records) == len(set(records)) == 60


def test_nobody_holds_more_than_so_many_items(store, console):
    queue_reviews(store, MAX_HELD + 5)
    for _ in range(4):
        console.lease_several(TASK, "ann", 600, 20)
    assert rows(store, "SELECT count(*) FROM label_task WHERE holder = 'ann'") == [(MAX_HELD,)]


def test_a_lease_is_renewed_by_its_holder_alone_and_only_before_it_ends(store, console):
    queue_reviews(store, 1)
    item = lease_item(console, seconds=60)
    assert console.renew(item, "ann", 6000)
    ((left,),) = rows(store, "SELECT extract(epoch FROM lease_expires_at - now()) FROM label_task")
    assert left > 5000
    assert not console.renew(item, "bob", 6000)
    assert not console.renew(item._replace(token=item.token + 1), "ann", 6000)
    execute(store, "UPDATE label_task SET lease_expires_at = now() - interval '1 second'")
    assert not console.renew(item, "ann", 6000)
    assert console.held(TASK, item.record, "ann") is None


def test_what_is_held_is_shown_to_its_holder_alone(store, console):
    queue_reviews(store, 1)
    item = lease_item(console)
    assert console.held(TASK, item.record, "ann") == item
    assert console.held(TASK, item.record, "bob") is None


def test_items_are_counted_up_to_a_limit(store, console):
    queue_reviews(store, 5)
    assert [console.left_for(TASK, "ann", most) for most in (None, 3, 9)] == [5, 3, 5]


def test_an_answer_without_a_lease_counts_as_an_answer(store, console):
    (record,) = store_reviews(store, ["Not queued."])
    console.answer(ItemLease(record, TASK), "negative", "ann", is_late=True, action=Action(uuid4()))
    assert LabelStore(store).consensus(TASK, [record]) == {record: "negative"}


def test_answers_of_today_are_counted_without_what_was_taken_back(store, console):
    queue_reviews(store, 2)
    first = lease_item(console)
    console.answer(first, "negative", "ann")
    console.answer(lease_item(console), None, "ann")
    assert answered_since(store, TASK, "ann", PUBLISHED) == 2
    console.undo(first, "ann", 600)
    assert answered_since(store, TASK, "ann", PUBLISHED) == 1
    assert answered_since(store, TASK, "bob", PUBLISHED) == 0


def test_consistency_compares_an_answer_with_the_one_before_it(store):
    labels = LabelStore(store)
    store_reviews(store, ["one", "two", "three"], ids=["a", "b", "c"])
    for review_id, label in (
        ("a", "negative"),
        ("a", "negative"),
        ("b", None),
        ("b", "positive"),
        ("c", None),
    ):
        labels.answer(review_id, TASK, label, "ann")
    labels.answer("c", TASK, "positive", "bob")
    assert consistency(store, TASK, "ann") == (2, 1)
    assert consistency(store, TASK, "bob") == (0, 0)


def test_what_others_say_is_their_latest_answer_that_was_not_taken_back(store, console):
    queue_reviews(store, 1, wanted_answers=3)
    (item,) = console.lease_several(TASK, "ann", 600, 1)
    console.answer(item, "negative", "ann")
    for name, label in (("bob", "positive"), ("cy", None), ("dora", "negative")):
        console.answer(lease_item(console, name), label, name, is_late=True)
    console.undo(item, "dora", 600)
    said = LabelStore(store).answers(TASK, [item.record])
    assert answers_of_others(said, "ann") == [("bob", "positive"), ("cy", None)]


def test_a_tie_is_decided_by_one_more_answer_and_leaves_the_queue_of_disagreements(store, console):
    labels = LabelStore(store)
    (tied, settled) = store_reviews(store, ["Tied.", "Settled."], ids=["a", "b"])
    for name, label in (("ann", "negative"), ("bob", "positive")):
        labels.answer("a", TASK, label, name)
        labels.answer("b", TASK, "negative", name)
    assert queue_ties(store, TASK) == queue_ties(store, TASK) == [tied]
    assert console.lease_several(TASK, "ann", 600, 5, [tied, settled]) == []  # ann has a vote already
    (item,) = console.lease_several(TASK, "olga", 600, 5, [tied, settled])
    console.answer(item, "positive", "olga")
    assert labels.consensus(TASK, [tied]) == {tied: "positive"}
    assert states(store) == ["done"]
    assert queue_ties(store, TASK) == []


def test_guidelines_keep_every_version_and_the_slower_author_is_told(store):
    guidelines = GuidelineStore(store)
    assert guidelines.current(TASK) is None
    guidelines.write(TASK, "Irony is negative.", "olga", replaces=0)
    guidelines.write(TASK, "Irony is what it means.", "olga", replaces=1)
    for seen in (0, 1, 5):
        with pytest.raises(GuidelineChanged):
            guidelines.write(TASK, "Mine.", "paul", replaces=seen)
    assert [(one.version, one.text) for one in guidelines.history(TASK)] == [
        (2, "Irony is what it means."), (1, "Irony is negative."),
    ]  # fmt: skip
