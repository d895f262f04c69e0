"""Which embeddings are kept is one decision, and what chance chose is not bent by what the model thought."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.embeddings import EmbeddingSettings, keep_reason, kept_embeddings
from consumer.scoring import score_batch, tokenise_batch
from reviews.prediction import Prediction
from reviews.slices import SliceShares, slice_of
from tests.unit.consumer.test_scoring import Model, make_batch

SHARES = EmbeddingSettings(audit_share=0.1, sample_share=0.1, uncertain_margin=0.2)
IDS = [f"review-{number}" for number in range(5_000)]


def _said(margin: float = 0.9) -> Prediction:
    return Prediction("sentiment", "good", 0.9, (0.1, 0.9), margin, 0.3, False, "sentiment-a")


@given(st.text(), st.floats(0, 1))
def test_none_keeps_nothing_and_all_keeps_everything(review_id: str, margin: float):
    assert keep_reason(review_id, margin, EmbeddingSettings(keep="none")) is None
    assert keep_reason(review_id, margin, EmbeddingSettings(keep="all")) is not None


@given(st.text(), st.floats(0, 1))
def test_the_audit_slice_and_what_is_uncertain_are_always_kept(review_id: str, margin: float):
    reason = keep_reason(review_id, margin, SHARES)
    assert (reason == "audit") is (slice_of(review_id, SliceShares(audit=0.1)) == "audit")
    assert reason is not None or margin >= 0.2


def test_what_chance_chose_is_the_same_whatever_the_model_thought():
    certain = {name: keep_reason(name, 0.9, SHARES) for name in IDS}
    uncertain = {name: keep_reason(name, 0.01, SHARES) for name in IDS}
    for reason in ("audit", "sample"):
        chosen = {name for name in IDS if certain[name] == reason}
        assert chosen == {name for name in IDS if uncertain[name] == reason}
        assert 0.07 < len(chosen) / len(IDS) < 0.12
    assert Counter(certain.values()).keys() == {"audit", "sample", None}
    assert Counter(uncertain.values()).keys() == {"audit", "sample", "uncertain"}


def test_vectors_are_half_precision_little_endian_and_come_back_within_rounding():
    vectors = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    kept = kept_embeddings(IDS[:20], [_said()] * 20, vectors, EmbeddingSettings(keep="all"))
    assert sorted(kept) == list(range(20))
    back = np.stack([np.frombuffer(kept[index].vector, "<f2") for index in range(20)])
    np.testing.assert_allclose(back, vectors, rtol=1e-3, atol=1e-6)
    assert {one.adapter_version for one in kept.values()} == {"sentiment-a"}


@pytest.mark.filterwarnings("error")
def test_a_vector_that_is_no_number_is_left_out_and_a_huge_one_stays_finite():
    vectors = np.array([[1, 2], [np.nan, 1], [np.inf, 1], [1e9, -1e9]], np.float32)
    kept = kept_embeddings(IDS[:4], [_said()] * 4, vectors, EmbeddingSettings(keep="all"))
    assert sorted(kept) == [0, 3]
    assert np.isfinite(np.frombuffer(kept[3].vector, "<f2")).all()


class EmbeddingModel(Model):
    """Embeds a text by its length; counts its passes, and fails to embed where told."""

    fails = False

    def score_and_embed(self, encoded):
        if self.fails:
            raise RuntimeError("no states")
        return self.score(encoded), np.array([[len(text)] for text in encoded], np.float32)


def _score(texts: list[str], *models: Model, keep: str = "all"):
    (scored,) = score_batch(tokenise_batch(make_batch(texts), models), EmbeddingSettings(keep=keep)).values()
    return scored


def test_each_review_gets_the_embedding_of_its_own_text_in_the_pass_that_scores_it():
    model = EmbeddingModel()
    scored = _score(["a", "abc", "ab"], model)
    assert [np.frombuffer(row.kept[0].vector, "<f2").tolist() for row in scored.accepted] == [[1], [3], [2]]
    assert model.calls == 1


def test_a_classifier_without_embeddings_scores_as_ever():
    scored = _score(["a", "abc"], Model(), EmbeddingModel())
    assert [len(row.predictions) for row in scored.accepted] == [2, 2]
    assert [len(row.kept) for row in scored.accepted] == [1, 1]


def test_with_none_no_embedding_is_asked_for():
    model = EmbeddingModel()
    model.fails = True
    assert [row.kept for row in _score(["a", "b"], model, keep="none").accepted] == [(), ()]
    assert model.calls == 1


def test_an_embedding_that_fails_costs_no_review():
    model = EmbeddingModel()
    model.fails = True
    scored = _score(["a", "b"], model)
    assert [row.kept for row in scored.accepted] == [(), ()]
    assert scored.dead_letters == []


def test_a_text_that_fails_takes_no_embedding_of_another_text_with_it_in_place():
    scored = _score(["abc", "bad", "abcde"], EmbeddingModel())
    assert [letter.offset for letter in scored.dead_letters] == [1]
    assert [row.review.message.text for row in scored.accepted] == ["abc", "abcde"]
    assert [row.kept for row in scored.accepted] == [(), ()]
