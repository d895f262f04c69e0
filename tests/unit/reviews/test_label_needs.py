"""What a purpose lacks: labelled reviews in all, and of each label."""

import pytest

from reviews.label_needs import LabelNeed


@pytest.mark.parametrize(
    ("counts", "more", "classes"),
    [
        ({"negative": 0, "positive": 0}, 10, {"negative": 3, "positive": 3}),
        ({"negative": 9, "positive": 3}, 0, {}),
        ({"negative": 90, "positive": 1}, 2, {"positive": 2}),
        ({"negative": 4, "positive": 3}, 3, {}),
    ],
)
def test_what_is_lacking_is_the_greater_of_the_sum_and_the_labels(counts, more, classes):
    need = LabelNeed("to judge by", ("test", "audit"), 10, 3)
    assert need.lacking(counts) == (more, classes, sum(counts.values()))
