"""The labelling queue: one annotator an item, the most important first, and each answer counts once."""

import threading
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reviews.errors import WrongUse
from reviews.label import Label
from reviews.queue_item import NewItem, QueueCount
from storage.database import Database
from storage.labels.annotation_queue import ItemLeaseEnded
from storage.labels.completion import close_answered
from storage.labels.queue_contents import queued_records
from storage.labels.store import LabelStore
from tests.integration.queued_reviews import (
    TASK,
    answers,
    execute,
    lease_item,
    queue_reviews,
    rows,
    states,
    store_reviews,
    wanted,
)


def _label_from_elsewhere(
    store: Database, record: int, annotator: str, label: str | None = "positive"
) -> None:
    execute(
        store,
        "INSERT INTO label (record, task, label, annotator, source, labelled_at) "
        "VALUES (:record, :task, :label, :annotator, 'topic', clock_timestamp())",
        record=record, task=TASK, label=label, annotator=annotator,
    )  # fmt: skip


def _leases(store: Database) -> list[tuple[Any, ...]]:
    return rows(store, "SELECT holder, lease_token FROM label_task ORDER BY record")


def test_the_item_shows_the_record_and_the_models_guess(store, queue, contents):
    (record,) = store_reviews(store, ["Fine boots."], product="boots", source="shop")
    contents.add([wanted(record, reason="audit")])
    item = lease_item(queue)
    assert (item.record, item.text, item.product, item.source) == (record, "Fine boots.", "boots", "shop")
    assert (item.review_id, item.reason, item.is_edited) == ("review-0", "audit", False)
    assert item.guess is not None
    assert (item.guess.label, round(item.guess.confidence, 2)) == ("positive", 0.61)


def test_the_answer_pins_the_record_that_was_shown_although_the_review_was_edited(store, queue, contents):
    first, newer = store_reviews(store, ["First words.", "Second thoughts."], ids=["one", "one"])
    contents.add([wanted(first, 0.9), wanted(newer, 0.1)])
    item = lease_item(queue)
    assert (item.record, item.text, item.is_edited) == (first, "First words.", True)
    assert queue.answer(item, "negative", "ann")
    assert answers(store) == [(first, "negative", "ann", "terminal")]
    assert not lease_item(queue).is_edited


def test_two_annotators_at_once_never_hold_the_same_item_and_finish_all(store, queue):
    records = queue_reviews(store, 60)
    held: Counter[int] = Counter()
    guard, start, errors = threading.Lock(), threading.Barrier(4), []

    def work(annotator: str) -> None:
        try:
            start.wait()
            while item := queue.lease(TASK, annotator, 600):
                with guard:
                    held[item.record] += 1
                    assert held[item.record] == 1, "two annotators hold the same item"
                queue.answer(item, "positive", annotator)
        except Exception as err:  # noqa: BLE001  the test's own thread tells of it
            errors.append(err)

    threads = [threading.Thread(target=work, args=(f"annotator {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not errors
    assert sorted(record for record, *_ in answers(store)) == records
    assert set(states(store)) == {"done"}


def test_an_item_locked_by_another_transaction_is_passed_over_without_waiting(store, queue):
    first, second = queue_reviews(store, 2)
    with store.begin() as other:
        other.exec_driver_sql(f"SELECT FROM label_task WHERE record = {first} FOR UPDATE")
        other.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        assert lease_item(queue).record == second


def test_a_leased_item_comes_to_others_only_when_the_lease_has_ended(store, queue):
    (record,) = queue_reviews(store, 1)
    mine = lease_item(queue, "ann")
    assert queue.lease(TASK, "bob", 600) is None
    _end_leases(store)
    his = lease_item(queue, "bob")
    assert (his.record, his.token) == (record, mine.token + 1)


def _end_leases(store: Database) -> None:
    execute(store, "UPDATE label_task SET lease_expires_at = now() - interval '1 second'")


def test_an_answer_after_the_lease_is_refused_and_nothing_is_stored(store, queue):
    queue_reviews(store, 1)
    item = lease_item(queue)
    _end_leases(store)
    with pytest.raises(ItemLeaseEnded, match="took longer than its lease"):
        queue.answer(item, "positive", "ann")
    assert answers(store) == []
    assert states(store) == ["open"]


def test_an_answer_with_an_old_token_is_refused_while_another_has_the_item(store, queue):
    queue_reviews(store, 1)
    mine = lease_item(queue, "ann")
    _end_leases(store)
    his = lease_item(queue, "bob")
    with pytest.raises(ItemLeaseEnded):
        queue.answer(mine, "positive", "ann")
    assert queue.answer(his, "negative", "bob")
    assert answers(store) == [(his.record, "negative", "bob", "terminal")]


def test_a_late_answer_is_one_more_opinion_and_leaves_the_others_lease_alone(store, queue):
    queue_reviews(store, 1, wanted_answers=2)
    mine = lease_item(queue, "ann")
    _end_leases(store)
    his = lease_item(queue, "bob")
    assert not queue.answer(mine, "positive", "ann", is_late=True)
    assert _leases(store) == [("bob", his.token)]
    assert queue.answer(his, "positive", "bob")
    assert [annotator for _, _, annotator, _ in answers(store)] == ["ann", "bob"]


def test_who_holds_an_item_that_was_closed_meanwhile_may_still_answer(store, queue):
    queue_reviews(store, 1)
    mine = lease_item(queue, "ann")
    _end_leases(store)
    his = lease_item(queue, "bob")
    assert queue.answer(mine, "positive", "ann", is_late=True)
    assert states(store) == ["done"]
    queue.answer(his, "negative", "bob")
    assert len(answers(store)) == 2


def test_two_answers_of_one_annotator_are_not_the_two_that_were_wanted(store, queue, contents):
    (record,) = queue_reviews(store, 1, wanted_answers=2)
    assert not queue.answer(lease_item(queue, "ann"), "positive", "ann")
    assert queue.lease(TASK, "ann", 600) is None
    _label_from_elsewhere(store, record, "ann", "negative")
    assert contents.close_answered(TASK) == 0
    assert queue.answer(lease_item(queue, "bob"), None, "bob")
    assert states(store) == ["done"]


def test_an_item_whose_answers_are_a_tie_stays_open_until_somebody_breaks_it(store, queue):
    (record,) = queue_reviews(store, 1, wanted_answers=2)
    queue.answer(lease_item(queue, "ann"), "positive", "ann")
    assert not queue.answer(lease_item(queue, "bob"), "negative", "bob")
    assert not queue.answer(lease_item(queue, "cy"), None, "cy")
    assert states(store) == ["open"]
    assert queue.answer(lease_item(queue, "dan"), "negative", "dan")
    assert LabelStore(store).consensus(TASK, [record]) == {record: "negative"}


def test_answers_that_nobody_was_sure_of_are_no_tie(store, queue):
    queue_reviews(store, 1, wanted_answers=2)
    queue.answer(lease_item(queue, "ann"), None, "ann")
    assert queue.answer(lease_item(queue, "bob"), None, "bob")


def test_a_second_look_that_contradicts_the_first_is_followed_by_a_third(store, queue, contents):
    (record,) = queue_reviews(store, 1)
    queue.answer(lease_item(queue, "ann"), "positive", "ann")
    contents.add([wanted(record, reason="second_look")])
    queue.answer(lease_item(queue, "bob"), "negative", "bob")
    assert queue.answer(lease_item(queue, "cy"), "positive", "cy")
    assert LabelStore(store).consensus(TASK, [record]) == {record: "positive"}


def test_a_done_item_is_opened_again_when_a_label_from_elsewhere_makes_it_a_tie(store, queue, contents):
    records = queue_reviews(store, 3)
    for _ in records:
        queue.answer(lease_item(queue, "ann"), "positive", "ann")
    execute(store, "UPDATE label_task SET queued_at = now() - interval '8 days'")
    now = datetime.now(UTC)
    answers = [Label(records[0], TASK, "negative", "bob", "topic", now),
               Label(records[1], TASK, "positive", "bob", "topic", now)]  # fmt: skip
    LabelStore(store).add(answers)
    assert states(store) == ["open", "done", "done"]
    _label_from_elsewhere(store, records[2], "bob", "negative")
    assert contents.close_answered(TASK) == 0
    assert states(store) == ["open", "done", "open"]
    assert contents.expire(TASK, 7) == 0, "both were opened again just now"


def test_unsure_is_an_answer_without_a_label(store, queue):
    (record,) = queue_reviews(store, 1)
    assert queue.answer(lease_item(queue), None, "ann")
    assert answers(store) == [(record, None, "ann", "terminal")]
    assert queue.lease(TASK, "ann", 600) is None


def test_a_skipped_item_goes_to_others_and_after_three_skips_to_nobody(store, queue):
    queue_reviews(store, 1)
    for annotator in ("ann", "bob", "cy"):
        assert states(store) == ["open"]
        queue.skip(lease_item(queue, annotator), annotator)
        assert queue.lease(TASK, annotator, 600) is None
    assert states(store) == ["skipped"]
    assert queue.lease(TASK, "dan", 600) is None
    assert answers(store) == []


def test_an_item_given_back_is_free_at_once_and_an_old_lease_gives_nothing_back(store, queue):
    queue_reviews(store, 1)
    mine = lease_item(queue, "ann")
    queue.give_back(mine)
    his = lease_item(queue, "bob")
    queue.give_back(mine)
    assert _leases(store) == [("bob", his.token)]


def test_old_items_expire_unless_somebody_has_them_and_may_be_queued_again(store, queue, contents):
    records = queue_reviews(store, 3)
    lease_item(queue)  # the first
    old = "UPDATE label_task SET state_changed_at = now() - interval '8 days' WHERE record <> :last"
    execute(store, old, last=records[2])
    assert contents.expire(TASK, 7) == 1
    assert states(store) == ["open", "expired", "open"]
    assert contents.add([wanted(records[1], 0.01)]) == 1
    look = (
        "SELECT state, queued_at > now() - interval '1 hour', priority FROM label_task WHERE record = :record"
    )
    assert rows(store, look, record=records[1]) == [("open", True, pytest.approx(0.01))]


def test_items_of_other_tasks_do_not_expire(store, contents):
    (record,) = queue_reviews(store, 1)
    contents.add([NewItem(record, "tone", "uncertain", "margin", 1.0)])
    execute(store, "UPDATE label_task SET state_changed_at = now() - interval '8 days'")
    assert contents.expire("tone", 7) == 1
    assert rows(store, "SELECT task FROM label_task WHERE state = 'open'") == [(TASK,)]


def test_labels_from_elsewhere_close_items_of_their_task_alone(store, contents):
    first, second, third = queue_reviews(store, 3, wanted_answers=2)
    for record, annotator in (
        (first, "ann"),
        (first, "bob"),
        (second, "ann"),
        (third, "ann"),
        (third, "bob"),
    ):
        _label_from_elsewhere(store, record, annotator)
    assert contents.close_answered("tone") == 0
    with store.begin() as connection:
        assert close_answered(connection, TASK, [first, second]) == 1
    assert states(store) == ["done", "open", "open"]
    assert contents.close_answered(TASK) == 1
    assert states(store) == ["done", "open", "done"]


def test_closing_does_not_wait_for_an_answer_that_is_being_stored(store, contents):
    (record,) = queue_reviews(store, 1)
    _label_from_elsewhere(store, record, "ann")
    with store.begin() as other:
        other.exec_driver_sql("SELECT FROM label_task FOR UPDATE")
        assert contents.close_answered(TASK) == 0
    assert contents.close_answered(TASK) == 1


def test_a_done_item_is_opened_again_for_a_second_look_only_and_then_asks_the_same_annotator(
    store, queue, contents
):
    (record,) = queue_reviews(store, 1)
    queue.answer(lease_item(queue), "negative", "ann")
    assert contents.add([wanted(record, 0.99)]) == 0
    assert states(store) == ["done"]
    assert contents.add([wanted(record, 0.2, reason="second_look", strategy="suspects")]) == 1
    assert contents.close_answered(TASK) == 0
    item = lease_item(queue, "ann")
    assert (item.reason, item.token) == ("second_look", 2)
    assert queue.answer(item, "positive", "ann")
    assert states(store) == ["done"]


def test_of_two_wishes_for_an_open_item_the_greater_priority_stays_with_its_reason(store, contents):
    (record,) = store_reviews(store, ["Fine."])
    look = "SELECT reason, strategy, priority, wanted_answers FROM label_task"
    assert contents.add([wanted(record, 0.5), wanted(record, 0.75, reason="drift", strategy="drift")]) == 1
    assert contents.add([wanted(record, 0.25)]) == 0
    assert rows(store, look) == [("drift", "drift", 0.75, 1)]
    assert contents.add([wanted(record, 0.25, wanted_answers=3)]) == 1
    assert rows(store, look) == [("drift", "drift", 0.75, 3)]
    assert contents.add([wanted(record, 0.875)], run_id=7) == 1
    assert rows(store, look) == [("uncertain", "margin", 0.875, 3)]
    assert rows(store, "SELECT training_run_id FROM label_task") == [(7,)]


def test_what_the_audit_drew_gives_way_to_nothing(store, contents):
    first, second = store_reviews(store, ["Fine.", "Bad."])
    drawn = [wanted(record, 0.5, reason="audit", strategy="audit") for record in (first, second)]
    assert (
        contents.add([wanted(first, 0.75, reason="edited"), *drawn, wanted(second, 0.75, reason="edited")])
        == 2
    )
    assert contents.add([wanted(first, 0.875, reason="drift")]) == 0
    assert contents.add([wanted(second, 0.875, reason="drift", wanted_answers=2)]) == 1
    look = "SELECT reason, strategy, priority, wanted_answers FROM label_task ORDER BY record"
    assert rows(store, look) == [("audit", "audit", 0.5, 1), ("audit", "audit", 0.5, 2)]


@pytest.mark.parametrize("priority", [float("nan"), float("inf"), 1e39])
def test_a_priority_that_the_column_cannot_hold_is_refused(contents, priority):
    with pytest.raises(WrongUse, match="finite"):
        contents.add([wanted(1, priority)])


def test_a_wish_for_no_answers_is_refused_and_no_wish_at_all_changes_nothing(contents):
    with pytest.raises(WrongUse, match="0 answers"):
        contents.add([wanted(1, wanted_answers=0)])
    assert contents.add([]) == 0


_PRIORITIES = st.floats(-1e-50, 1, width=64)  # down to what a 32-bit number rounds to 0


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wishes=st.lists(st.tuples(st.integers(0, 14), _PRIORITIES), min_size=1, max_size=40))
def test_items_are_handed_out_by_the_greatest_priority_wished_for_them(store, queue, contents, wishes):
    if not rows(store, "SELECT FROM review LIMIT 1"):
        store_reviews(store, ["Text."] * 15)
    (first,) = rows(store, "SELECT min(record) FROM review")[0]
    execute(store, "TRUNCATE label_task")
    half = len(wishes) // 2
    for some in (wishes[:half], wishes[half:]):
        contents.add([wanted(first + number, priority) for number, priority in some])
    greatest: dict[int, float] = {}
    for number, priority in wishes:
        greatest[number] = max(greatest.get(number, priority), priority)
    given_out = [lease_item(queue).record - first for _ in greatest]
    assert queue.lease(TASK, "ann", 600) is None
    # Priorities are 32-bit numbers: what differs by less than they can tell may come in either order.
    assert sorted(given_out) == sorted(greatest)
    shown = [greatest[number] for number in given_out]
    assert all(before >= after - 1e-7 for before, after in pairwise(shown))


def test_the_counts_and_the_top_of_the_queue_say_what_is_left_and_who_has_it(store, queue, contents):
    records = queue_reviews(store, 3, wanted_answers=2)
    contents.add([NewItem(records[0], "tone", "uncertain", "margin", 1.0)])
    queue.answer(lease_item(queue, "ann"), "positive", "ann")
    lease_item(queue, "bob")
    queue.skip(lease_item(queue, "cy"), "cy")
    contents.add([wanted(records[1], 2.0, reason="drift")])
    assert sorted(contents.counts(TASK)) == [
        QueueCount("drift", "open", 1, 0),
        QueueCount("uncertain", "open", 2, 1),
    ]
    assert [(item.record, item.answers, item.holder) for item in contents.top(TASK, 2)] == [
        (records[1], 0, None),
        (records[0], 1, "bob"),
    ]
    assert [queue.left_for(TASK, name) for name in ("ann", "bob", "cy", "dan")] == [2, 3, 2, 3]


def test_any_number_of_records_can_be_looked_up_in_the_queue(store, contents):
    records = queue_reviews(store, 2)
    contents.add([NewItem(records[1] + 1, "tone", "uncertain", "margin", 1.0)])
    asked = range(records[0], records[0] + 70_000)
    assert queued_records(store, TASK, asked) == set(records)


def test_an_item_without_its_review_is_never_handed_out(store, queue, contents):
    (record,) = store_reviews(store, ["Fine."])
    contents.add([wanted(record + 1, 0.9), wanted(record, 0.1)])
    assert lease_item(queue).record == record
    assert queue.lease(TASK, "bob", 600) is None
