"""Words that speak for a label."""

from console.highlighting import MOST_WORDS, telling_words


def test_a_word_of_one_label_speaks_for_it_and_a_word_of_all_speaks_for_none():
    texts = ["the strap broke again"] * 40 + ["the strap is lovely"] * 40
    words = telling_words(texts, ["negative"] * 40 + ["positive"] * 40)
    assert set(words["negative"]) == {"broke", "again"}
    assert words["positive"] == ["lovely"]


def test_a_rare_word_is_no_evidence():
    words = telling_words(["fine shoes"] * 50 + ["fine zipper"], ["positive"] * 50 + ["negative"])
    assert words["negative"] == []


def test_one_label_alone_and_nothing_at_all_have_no_telling_words():
    assert telling_words(["good good"] * 30, ["positive"] * 30) == {"positive": []}
    assert telling_words([], []) == {}
    assert telling_words(["", "…"], ["negative", "positive"]) == {"negative": [], "positive": []}


def test_the_list_of_a_label_is_bounded():
    many = [f"word{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(200)]
    words = telling_words([" ".join(many)] * 60 + ["plain"] * 60, ["a"] * 60 + ["b"] * 60)
    assert len(words["a"]) == MOST_WORDS
