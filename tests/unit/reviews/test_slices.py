"""The slice of a review follows from its id alone, and the slices are as large as asked."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from reviews.slices import SliceShares, hash_position, slice_of


def test_the_slices_are_as_large_as_their_shares_say():
    shares = SliceShares(audit=0.1, test=0.2, validation=0.3)
    counts = Counter(slice_of(f"review-{number}", shares) for number in range(20_000))
    expected = {"audit": 0.1, "test": 0.9 * 0.2, "validation": 0.9 * 0.3, "train": 0.9 * 0.5}
    for name, share in expected.items():
        assert abs(counts[name] / 20_000 - share) < 0.01, counts


@given(st.text())
def test_every_id_has_one_position_for_ever(review_id: str):
    assert 0 <= hash_position(review_id) < 1
    assert slice_of(review_id, SliceShares()) == slice_of(review_id, SliceShares())


def test_the_position_of_an_id_is_part_of_the_contract():
    assert hash_position("r-1") == 0.7118775825249294


def test_another_draw_chooses_independently_of_the_slices():
    ids = [f"review-{number}" for number in range(20_000)]
    chosen = [name for name in ids if hash_position(name, "sample") < 0.1]
    counts = Counter(slice_of(name, SliceShares(audit=0.1, test=0.2)) for name in chosen)
    assert abs(len(chosen) / 20_000 - 0.1) < 0.01
    assert abs(counts["audit"] / len(chosen) - 0.1) < 0.02
    assert abs(counts["test"] / len(chosen) - 0.18) < 0.03
