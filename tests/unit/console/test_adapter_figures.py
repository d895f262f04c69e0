"""What an adapter's page says of the texts behind a zero-shot adapter, whose manifest may say anything."""

import pytest

from console.adapters.figures import LabelTexts, label_texts
from reviews.adapter import AdapterVersion, Origin


def _adapter(origin: Origin = "zero-shot") -> AdapterVersion:
    return AdapterVersion("t-1", "t", ("bad", "good"), "base", None, "00", origin=origin)


def _manifest(made: object) -> dict[str, object]:
    return {"training": {"zero_shot": made}}


def test_the_texts_of_each_label_are_shown_in_its_order_with_what_they_were_standardised_on():
    texts = {"good": ["It is good.", "I like it."], "bad": ["It is bad."]}
    made = {"labels": texts, "standardised_on": 60, "source": "stored reviews"}
    expected = LabelTexts({"bad": "It is bad.", "good": "It is good. I like it."}, 60, "stored reviews")
    assert label_texts(_adapter(), _manifest(made)) == expected
    assert label_texts(_adapter("trained"), _manifest(made)) is None


@pytest.mark.parametrize("manifest", [{}, {"training": 1}, {"training": {}}, _manifest(1), _manifest(["x"])])
def test_a_manifest_that_says_nothing_of_it_has_no_texts(manifest):
    assert label_texts(_adapter(), manifest) is None


@pytest.mark.parametrize("labels", [1, None, [], {"good": "no list"}, {"unknown": ["x"]}, {"good": {"a": 1}}])
def test_texts_of_another_form_are_left_out(labels):
    found = label_texts(_adapter(), _manifest({"labels": labels, "standardised_on": "many"}))
    assert found == LabelTexts({}, 0, "")
