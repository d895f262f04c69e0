from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.interface import load
from classifier.tokenise import LongTextRule, Tokeniser, pieces, pool
from tests.tiny import MAX_LENGTH

BODY = list(range(100))


def test_truncate_keeps_the_beginning():
    assert pieces(BODY, 30, LongTextRule("truncate")) == ([list(range(30))], True)


def test_head_tail_keeps_a_quarter_from_the_beginning_and_the_rest_from_the_end():
    (kept,), cut = pieces(BODY, 40, LongTextRule("head_tail"))
    assert kept == [*range(10), *range(70, 100)]
    assert cut


@given(st.integers(2, 60), st.integers(0, 80), st.integers(0, 300))
def test_windows_overlap_and_together_hold_the_whole_text(room, overlap, extra):
    body = list(range(room + 1 + extra))
    windows, cut = pieces(body, room, LongTextRule("windows", overlap, max_windows=1000))
    assert not cut
    assert set().union(*windows) == set(body)
    assert all(0 < len(window) <= room for window in windows)
    assert all(later[0] <= earlier[-1] + 1 for earlier, later in pairwise(windows))
    assert windows[-1][-1] == body[-1]
    assert windows[-2][-1] != body[-1], "the last window would add nothing"


def test_more_windows_than_allowed_are_cut_and_that_is_said():
    windows, cut = pieces(BODY, 10, LongTextRule("windows", 0, max_windows=3))
    assert [window[0] for window in windows] == [0, 10, 20]
    assert cut


def test_pooling_weighs_windows_by_their_length():
    values = np.array([[1.0, 0.0], [4.0, 2.0], [9.0, 9.0]], np.float32)
    pooled = pool(values, np.array([0, 0, 1]), np.array([2, 1, 5]), 2)
    np.testing.assert_allclose(pooled, [[2.0, 2 / 3], [9.0, 9.0]], rtol=1e-6)


@pytest.mark.parametrize(("kind", "lost"), [("truncate", True), ("head_tail", True), ("windows", False)])
def test_each_rule_scores_mixed_lengths_in_order_and_says_what_it_lost(base, adapter, settings, kind, lost):
    update = {"long_texts": kind, "window_overlap_tokens": 10}
    classifier = load(str(base), adapter, settings.model_copy(update=update))
    long = "what a long story " * 12
    together = classifier.predict(["short", long, "x"])
    assert [said.truncated for said in together] == [False, lost, False]
    for text, said in zip(["short", long, "x"], together, strict=True):
        np.testing.assert_allclose(said.probabilities, classifier.predict([text])[0].probabilities, atol=1e-5)


def test_large_texts_are_tokenised_few_at_a_time_and_come_out_in_order():
    class Backend:
        """Counts characters: a text is as many tokens as it has, at most three."""

        def __init__(self) -> None:
            self.sizes: list[int] = []

        def no_truncation(self) -> None:
            pass

        no_padding = no_truncation

        def encode(self, text: str) -> SimpleNamespace:
            return SimpleNamespace(special_tokens_mask=[0])

        def encode_batch_fast(self, texts: list[str]) -> list[SimpleNamespace]:
            self.sizes.append(sum(map(len, texts)))
            return [SimpleNamespace(ids=[len(text)] * min(3, len(text))) for text in texts]

    lengths = [300_000, 5, 2_000_000, 700_000, 1, 400_000, 300_000]
    backend = Backend()
    encoded = Tokeniser(backend, 2).encode(["x" * length for length in lengths])
    assert backend.sizes == [300_005, 2_000_000, 700_001, 700_000]
    assert encoded.ids[encoded.starts[:-1]].tolist() == lengths
    assert encoded.truncated.tolist() == [length >= 3 for length in lengths]


def test_windows_pool_the_answers_to_the_pieces(base, adapter, settings):
    update = {"long_texts": "windows", "window_overlap_tokens": 0}
    classifier = load(str(base), adapter, settings.model_copy(update=update))
    room = MAX_LENGTH - 2
    first, second = "a" * room, "b" * room
    apart = classifier.logits(classifier.encode([first, second]))
    together = classifier.logits(classifier.encode([first + second]))
    np.testing.assert_allclose(together[0], apart.mean(axis=0), atol=1e-4)
    assert classifier.encode([first + second]).lengths.tolist() == [2 * MAX_LENGTH]


def test_the_encoding_of_some_texts_is_what_these_alone_give(base, adapter, settings):
    classifier = load(str(base), adapter, settings)
    texts = ["Good.", "long " * 60, "x", "", "also long " * 30]
    whole = classifier.encode(texts)
    for chosen in ([], [0], [1, 4], [0, 2, 3], [0, 1, 2, 3, 4]):
        alone, part = classifier.encode([texts[index] for index in chosen]), whole.select(chosen)
        assert len(part) == len(chosen)
        for one, other in zip(part.rows(), alone.rows(), strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(part.owners, alone.owners)
        np.testing.assert_array_equal(part.truncated, alone.truncated)


@pytest.mark.parametrize("kind", ["truncate", "head_tail", "windows"])
def test_the_tokens_for_people_are_those_that_the_model_reads(base, adapter, settings, kind):
    update = {"long_texts": kind, "window_overlap_tokens": 10}
    tokeniser = load(str(base), adapter, settings.model_copy(update=update)).tokeniser
    text = "ein größerer Text, 😀 " * 12
    rows = tokeniser.tokens(text)
    assert [len(row) for row in rows] == tokeniser.encode([text]).row_lengths.tolist()
    assert {token.text for row in rows for token in row if token.is_special} == {"<s>", "</s>"}
    assert "ö" in "".join(token.text for row in rows for token in row)
