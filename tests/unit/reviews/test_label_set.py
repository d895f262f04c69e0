"""What a name means after the labels of a task changed, and what two adapters both know."""

import pytest

from reviews.errors import InvalidMessage, WrongUse
from reviews.label import Vocabulary, resolve_label
from reviews.label_set import (
    ANOTHER_LABEL,
    MAX_CHANGES,
    LabelChange,
    LabelSet,
    called_now,
    common_labels,
    same_pairs,
)

FIRST = ("negative", "neutral", "positive")


def _changed(*changes: LabelChange, labels: tuple[str, ...] = FIRST) -> LabelSet:
    found = LabelSet(labels, first=labels)
    for change in changes:
        found = found.changed(change)
    return found


RENAMED = LabelChange("rename", ("neutral",), ("mixed",))
MERGED = LabelChange("merge", ("negative", "neutral"), ("not positive",))
SPLIT = LabelChange("split", ("neutral",), ("mixed", "no opinion"))
ADDED = LabelChange("add", (), ("spam",))


@pytest.mark.parametrize(
    ("change", "labels", "neutral"),
    [
        (RENAMED, ("negative", "mixed", "positive"), ("mixed",)),
        (MERGED, ("not positive", "positive"), ("not positive",)),
        (SPLIT, ("negative", "mixed", "no opinion", "positive"), ("mixed", "no opinion")),
        (ADDED, (*FIRST, "spam"), ("neutral",)),
    ],
    ids=lambda value: value.kind if isinstance(value, LabelChange) else "",
)
def test_a_change_takes_the_place_of_what_it_changes_and_says_what_old_names_mean(change, labels, neutral):
    after = _changed(change)
    assert (after.labels, after.version, after.now("neutral")) == (labels, 2, neutral)
    assert after.now("positive") == ("positive",)
    assert after.now("never heard of") == ("never heard of",)


def test_a_name_is_followed_through_all_changes_and_comes_back_only_to_its_own_meaning():
    there_and_back = _changed(RENAMED, LabelChange("rename", ("mixed",), ("neutral",)))
    assert there_and_back.labels == FIRST
    assert (there_and_back.now("mixed"), there_and_back.now("neutral")) == (("neutral",), ("neutral",))
    long = _changed(
        MERGED, LabelChange("rename", ("not positive",), ("bad",)), LabelChange("split", ("bad",), ("a", "b"))
    )
    assert long.now("negative") == ("a", "b")
    with pytest.raises(WrongUse, match=r"'neutral' was a label of this task before .*renamed to 'mixed'"):
        _changed(RENAMED, LabelChange("add", (), ("neutral",)))
    undone = _changed(MERGED, LabelChange("split", ("not positive",), ("negative", "neutral")))
    assert undone.now("neutral") == ("neutral",)
    assert undone.now("not positive") == ("negative", "neutral")


def test_a_part_of_a_split_label_cannot_take_the_name_of_the_whole():
    """Old answers and adapters name the whole: they would be taken for the part."""
    with pytest.raises(WrongUse, match=r"'neutral' was a label of this task before .*was split into"):
        _changed(SPLIT, LabelChange("rename", ("mixed",), ("neutral",)))
    whole = _changed(SPLIT, LabelChange("merge", ("mixed", "no opinion"), ("neutral",)))
    assert whole.now("mixed") == whole.now("neutral") == ("neutral",)


def test_a_name_is_followed_through_as_many_changes_as_are_kept():
    found = _changed()
    for number in range(MAX_CHANGES // 2):
        parts = (f"a{number}", f"b{number}")
        found = found.changed(LabelChange("split", (found.labels[1],), parts))
        found = found.changed(LabelChange("merge", parts, (f"both {number}",)))
    assert found.now("neutral") == found.now("a0") == (f"both {MAX_CHANGES // 2 - 1}",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (LabelChange("rename", ("angry",), ("sad",)), "'angry' is no label"),
        (LabelChange("rename", ("neutral",), ("positive",)), "merge 'positive' with it"),
        (LabelChange("merge", ("neutral",), ("mixed",)), "two labels or more"),
        (LabelChange("merge", ("neutral", "neutral"), ("mixed",)), "named twice"),
        (LabelChange("merge", FIRST, ("all",)), "One label would be left"),
        (LabelChange("merge", ("negative", "neutral"), ("positive",)), "among those that are merged"),
        (LabelChange("split", ("neutral",), ("mixed",)), "two new labels or more"),
        (LabelChange("split", ("neutral",), ("neutral", "mixed")), "add the other part"),
        (LabelChange("add", (), ("positive",)), "nothing to do"),
        (LabelChange("add", (), ("unsure",)), "answer of people who cannot tell"),
        (LabelChange("add", (), ("two\nlines",)), "cannot be printed"),
    ],
)
def test_a_change_that_cannot_be_made_is_refused_with_what_to_do(change, message):
    with pytest.raises(WrongUse, match=message):
        _changed(change)


def test_numbers_keep_their_meaning_when_labels_change():
    label_set = _changed(MERGED, ADDED)
    assert label_set.labels == ("not positive", "positive", "spam")
    assert label_set.numbered == (*FIRST, "not positive", "spam")
    vocabulary = Vocabulary(
        label_set.labels,
        became={"negative": "not positive", "neutral": "not positive"},
        numbered=label_set.numbered,
    )
    assert [resolve_label(number, vocabulary) for number in (0, 1, 2, 4)] == [
        "not positive", "not positive", "positive", "spam",
    ]  # fmt: skip
    assert resolve_label("2", vocabulary) == "positive"
    with pytest.raises(InvalidMessage, match=r"not positive \(3\), positive \(2\), spam \(4\), or unsure"):
        resolve_label("angry", vocabulary)


def test_an_old_name_of_a_split_label_is_refused_with_the_new_ones():
    vocabulary = Vocabulary(_changed(SPLIT).labels, split={"neutral": SPLIT.sentence}, numbered=FIRST)
    for given in ("neutral", 1):
        with pytest.raises(InvalidMessage, match=r"split into 'mixed', 'no opinion'\. Say which") as refused:
            resolve_label(given, vocabulary)
        assert refused.value.reason == "label_split"


@pytest.mark.parametrize(
    ("change", "names", "old", "new", "known"),
    [
        (RENAMED, ("negative", "mixed", "positive"), (0, 1, 2), (0, 1, 2), 3),
        (MERGED, ("not positive", "positive"), (0, 0, 1), (0, 1), 2),
        (SPLIT, ("negative", "mixed or no opinion", "positive"), (0, 1, 2), (0, 1, 1, 2), 3),
        (ADDED, (*FIRST, ANOTHER_LABEL), (0, 1, 2), (0, 1, 2, 3), 3),
    ],
    ids=lambda value: value.kind if isinstance(value, LabelChange) else "",
)
def test_two_adapters_meet_on_the_finest_classes_that_both_know(change, names, old, new, known):
    label_set = _changed(change)
    common = common_labels(FIRST, label_set.labels, label_set)
    assert (common.names, common.first, common.second, common.known) == (names, old, new, known)
    assert common.is_comparable
    assert common.class_of.get("spam") is None, "only the new adapter knows what people mean by it"
    assert {common.class_of[name] for name in label_set.now("neutral")} == {common.class_of["neutral"]}


def test_two_adapters_of_before_are_told_apart_by_what_they_said_but_not_by_what_people_say_now():
    label_set = _changed(MERGED)
    assert common_labels(FIRST, FIRST, label_set, with_truth=False).names == FIRST
    assert common_labels(FIRST, FIRST, label_set).names == ("not positive", "positive")
    assert same_pairs(FIRST, FIRST, label_set) == []
    assert same_pairs(FIRST, label_set.labels, label_set) == [
        ("negative", "not positive"),
        ("neutral", "not positive"),
    ]


def test_without_a_declaration_equal_names_mean_the_same_in_any_order():
    common = common_labels(("a", "b", "c"), ("c", "a"), None)
    assert (common.names, common.first, common.second) == (("a", "c", ANOTHER_LABEL), (0, 2, 1), (1, 0))
    assert not common_labels(("a", "b"), ("c", "d"), None).is_comparable


def test_old_labels_are_called_what_they_are_now_but_a_split_one_keeps_its_name():
    assert called_now(FIRST, _changed(MERGED)) == ("not positive", "not positive", "positive")
    assert called_now(FIRST, _changed(SPLIT)) == FIRST
    assert called_now(FIRST, None) == FIRST
