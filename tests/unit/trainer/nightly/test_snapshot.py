"""What is frozen: sides for ever, weights, copies of held-out rows, and what is missing."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from reviews.slices import SliceShares, slice_of
from tests.unit.trainer.nightly.rows import NAMES, records, review, snapshot
from trainer.data.near_duplicates import THRESHOLD, jaccard, word_pairs, words
from trainer.nightly.snapshot import HELD_OUT, dataset, freeze, missing, weighting
from trainer.settings import GateSettings, NightlySettings, RecipeSettings

SHARES = SliceShares()
LONG = "I would buy these warm boots again and again for my whole family, said my mother"
TEXTS = st.sampled_from(
    [
        "Good.",
        "good. ",
        "GOOD!!",
        "Bad!",
        "So so",
        LONG,
        LONG + "!",
        LONG.replace("mother", "father"),
        LONG[20:],
    ]
)


@given(st.lists(st.tuples(TEXTS, st.sampled_from([*NAMES, "other"])), max_size=60))
def test_nothing_that_is_held_out_is_trained_on_nor_anything_that_says_nearly_the_same(said):
    reviews = [review(number, label, text) for number, (text, label) in enumerate(said)]
    frozen = freeze(reviews, NAMES, SHARES, lambda *_: 1.0, frozenset())
    held = frozen.of(*HELD_OUT)
    assert all(slice_of(row.review.review_id, SHARES) == row.slice for row in frozen.rows)
    assert not _near_duplicates(held, frozen.of("train", "validation"))
    assert not _near_duplicates(frozen.of("train"), frozen.of("validation"))
    assert len(frozen.rows) + sum(frozen.left_out.values()) == len(reviews)
    assert frozen.left_out["other_label"] == sum(label == "other" for _, label in said)


def test_labelled_reviews_whose_text_was_deleted_are_counted():
    frozen = freeze([review(1)], NAMES, SHARES, lambda *_: 1.0, frozenset(), text_gone=7)
    assert frozen.manifest(SHARES, 0)["left_out"]["text_gone"] == 7


def _near_duplicates(some, others):
    return [
        (one.review.text, other.review.text)
        for one in some
        for other in others
        if jaccard(*(word_pairs(words(row.review.text)) for row in (one, other))) >= THRESHOLD
    ]


def test_copies_are_counted_by_the_side_that_they_are_copies_of():
    side_of = {side: number for number in range(200) for side in [slice_of(f"review-{number}", SHARES)]}
    said = {"test": "So so", "validation": "Good.", "train": "good. "}
    reviews = [review(side_of[side], "yes", text) for side, text in said.items()]
    reviews.append(review(1000, "yes", "SO SO", review_id=f"review-{side_of['validation']}"))
    frozen = freeze(reviews, NAMES, SHARES, lambda *_: 1.0, frozenset())
    assert frozen.left_out == {
        "other_label": 0,
        "copy_of_held_out": 1,
        "copy_of_validation": 1,
        "text_gone": 0,
        "models_held_out": 0,
    }
    assert [row.slice for row in frozen.rows] == sorted(
        ("test", "validation"), key=lambda side: side_of[side]
    )


def test_the_same_rows_have_the_same_hashes_and_any_change_another():
    first, again, other = snapshot(100), snapshot(100), snapshot(101)
    assert first.manifest(SHARES, 0) == again.manifest(SHARES, 0)
    assert first.manifest(SHARES, 0)["sha256"] != other.manifest(SHARES, 0)["sha256"]
    seen = snapshot(100, frozenset(range(100)))
    hashes = [each.manifest(SHARES, 0)["sha256"]["train"] for each in (first, seen)]
    assert hashes[0] != hashes[1], "weights are part of it"


def test_new_rows_and_those_that_were_uncertain_weigh_more_and_only_in_training():
    settings = NightlySettings(new_weight=2, uncertain_weight=1.5, uncertain_margin=0.2)
    weight_of = weighting(settings)
    unsure, sure = review(1, margin=0.1), review(2, margin=0.9)
    assert [weight_of(each, new) for each in (unsure, sure) for new in (True, False)] == [3.0, 1.5, 2.0, 1.0]
    assert weight_of(review(3), True) == 2.0, "never scored: nobody knows"
    frozen = snapshot(200)
    assert {row.weight for row in frozen.of(*HELD_OUT)} == {1.0}
    assert {row.weight for row in frozen.of("validation")} == {2.0}, "heads may train on them"
    train = dataset(frozen.of("train"), NAMES, weighted=True)
    assert set(train.weights) == {2.0}
    assert records(frozen.of("train")).isdisjoint(records(frozen.of("validation", *HELD_OUT)))


def test_what_is_missing_is_said_in_numbers():
    settings = NightlySettings(min_train_rows=40, min_class_rows=5, min_validation_rows=15)
    gate = GateSettings(min_rows=100, min_class_rows=5)
    assert missing(snapshot(1000), settings, gate) == []
    few = missing(snapshot(40), settings, gate)
    assert len(few) == 4
    train = len(snapshot(40).of("train", "validation"))
    assert few[0] == f"{40 - train} more labelled reviews are needed to train on: there are {train} of 40."
    alone = freeze([review(n, "yes") for n in range(1000)], NAMES, SHARES, lambda *_: 1.0, frozenset())
    assert (
        "5 more labelled reviews are needed to train on, among them 5 of 'no'"
        in missing(alone, settings, gate)[0]
    )
    said = few[-1].removeprefix("At today's mix of labels that takes about ").split()[0]
    assert missing(snapshot(40 + 2 * int(said)), settings, gate) == [], "twice as many are enough"
    assert missing(snapshot(40 + int(said) // 2), settings, gate) != [], "and half as many are not"
    rare = [review(n, "no" if n % 50 == 0 else "yes") for n in range(400)]
    more = GateSettings(min_rows=100, min_class_rows=10)
    needed = missing(freeze(rare, NAMES, SHARES, lambda *_: 1.0, ()), settings, more)[-1]
    assert 50 < int(needed.split()[8]) < 1000, needed
    one = freeze([review(1)], ("yes",), SHARES, lambda *_: 1.0, frozenset())
    assert missing(one, settings, gate) == ["The labels name only 'yes' so far: 2 classes are needed."]


def test_validation_rows_count_among_those_to_train_on_where_a_head_trains_on_them():
    gate = GateSettings(min_rows=1, min_class_rows=1)
    frozen = snapshot(300)
    validation = frozen.of("validation")
    rare = tuple(row for row in frozen.rows if row.slice != "train" or row.label == 1)
    known = replace(frozen, rows=rare)
    assert known.classes("train")["no"] == 0
    assert known.classes("validation")["no"] > 2
    lora = RecipeSettings(name="lora", start="base", learning_rate=1e-3)
    with_heads = NightlySettings(enough_validation_rows=1000)
    assert missing(known, with_heads, gate) == []
    for settings in (
        NightlySettings(enough_validation_rows=1000, recipes=(lora,)),
        NightlySettings(enough_validation_rows=len(validation)),
    ):
        assert "to train on, among them 2 of 'no'" in missing(known, settings, gate)[0]
    seen = frozenset(row.review.record for row in validation[:1])
    learned = replace(known, rows=tuple(replace(row, is_new=row.review.record not in seen) for row in rare))
    assert missing(learned, NightlySettings(enough_validation_rows=len(validation)), gate) == []


def test_a_night_that_waits_says_how_many_answers_name_labels_that_are_gone():
    settings, gate = NightlySettings(), GateSettings()
    reviews = [review(number, "gone" if number % 2 else "yes") for number in range(10)]
    frozen = freeze(reviews, NAMES, SHARES, lambda *_: 1.0, frozenset())
    assert missing(frozen, settings, gate)[-1].startswith("5 labelled reviews are left out")
    known = freeze(reviews[::2], NAMES, SHARES, lambda *_: 1.0, frozenset())
    assert not any("left out" in said for said in missing(known, settings, gate))
