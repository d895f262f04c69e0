"""A shadow answers a share of the reviews; whatever it does, the stream goes on as without it."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from consumer.measures import Measures
from consumer.scoring import score_batch, tokenise_batch
from consumer.shadows import MAX_FAILURES, Shadow, Shadows
from reviews.adapter import ShadowRun
from reviews.errors import AdapterError, Unavailable
from reviews.prediction import Prediction
from tests.unit.consumer.test_scoring import Model, make_batch

TEXTS = [f"text {number}" for number in range(200)]


class Other(Model):
    """A shadow that calls everything "new"; fails as it is told."""

    adapter_version = "sentiment-bbbbbbbbbbbb"
    error: Exception | None = None

    def score(self, encoded):
        if self.error is not None:
            raise self.error
        confidence = 0.6 if self._confidence is None else self._confidence
        return [
            Prediction("sentiment", "new", confidence, (0.4, 0.6), 0.2, 0.6, False, self.adapter_version)
            for _ in encoded
        ]


def _score(shadow: Shadow, texts=TEXTS, model=None):
    item = tokenise_batch(make_batch(texts), [model or Model()], [shadow])
    (scored,) = score_batch(item).values()
    return scored, item.shadow_scoring


def test_a_shadow_scores_its_share_and_serves_nobody():
    scored, (trial,) = _score(Shadow(Other(), 0.25))
    tried = [row for row in scored.accepted if row.shadows]
    assert 30 <= len(tried) <= 70
    assert {row.shadows[0].label for row in tried} == {"new"}
    assert {row.predictions[0].label for row in scored.accepted} == {"tex"}
    assert (trial.rows, trial.disagreements, trial.has_failed) == (len(tried), len(tried), False)


def test_the_share_is_drawn_by_the_id_so_that_the_same_reviews_are_tried_each_time():
    first, again = (_score(Shadow(Other(), 0.25))[0] for _ in range(2))
    assert [bool(row.shadows) for row in first.accepted] == [bool(row.shadows) for row in again.accepted]
    more, _ = _score(Shadow(Other(), 0.5))
    assert all(
        row.shadows for row, before in zip(more.accepted, first.accepted, strict=True) if before.shadows
    )


def test_each_answer_goes_to_the_review_of_its_own_text():
    class Echo(Other):
        def score(self, encoded):
            return [
                said._replace(label=str(text))
                for said, text in zip(super().score(encoded), encoded, strict=True)
            ]

    scored, _ = _score(Shadow(Echo(), 0.5), ["bad", *TEXTS])
    assert [letter.offset for letter in scored.dead_letters] == [0]
    assert all(row.shadows[0].label == row.review.message.text for row in scored.accepted if row.shadows)


def _tokeniser_fails(text: str) -> str:
    raise ValueError(text)


@pytest.mark.parametrize("failure", ["score", "nan", "encode"])
def test_a_shadow_that_fails_costs_no_review_and_is_asked_no_more_after_a_few_batches(failure: str):
    shadow = Other(
        encode=_tokeniser_fails if failure == "encode" else str,
        confidence=math.nan if failure == "nan" else None,
    )
    shadow.error = RuntimeError("out of memory") if failure == "score" else None
    trial = Shadow(shadow, 1.0)
    for _ in range(MAX_FAILURES):
        assert not trial.is_given_up
        scored, (tried,) = _score(trial)
        assert (len(scored.accepted), scored.dead_letters) == (len(TEXTS), [])
        assert tried.has_failed
        assert not any(row.shadows for row in scored.accepted)
    assert trial.is_given_up
    assert _score(trial)[1] == []


def test_a_batch_that_goes_well_makes_up_for_those_that_failed():
    model = Other()
    shadow = Shadow(model, 1.0)
    for _ in range(3 * MAX_FAILURES):
        model.error = RuntimeError("now and then")
        _score(shadow, TEXTS[:1])
        model.error = None
        assert not _score(shadow, TEXTS[:1])[1][0].has_failed
    assert not shadow.is_given_up


class Runs:
    def __init__(self, *runs: ShadowRun) -> None:
        self.runs = {run.task: run for run in runs}
        self.is_away = False

    def running(self, task: str) -> ShadowRun | None:
        if self.is_away:
            raise Unavailable("away", "database")
        return self.runs.get(task)

    def same_labels(self, run: ShadowRun, served: Sequence[str]) -> frozenset[tuple[str, str]]:
        return frozenset({("tex", "new")} if served else ())


def _run(version: str = "sentiment-bbbbbbbbbbbb", share: float = 0.1, number: int = 1) -> ShadowRun:
    return ShadowRun(number, "sentiment", version, share, datetime(2026, 1, 1, tzinfo=UTC), None, "test")


def _load(version: str) -> Other:
    return Other()


def _shadows(runs: Runs, load=_load) -> tuple[Shadows, Measures]:
    measures = Measures()
    shadows = Shadows(runs, ["sentiment"], lambda version, **_: load(version), lambda: [Model()], measures)
    return shadows, measures


def test_a_trial_is_taken_up_once_and_let_go_when_it_ends():
    loads: list[str] = []

    def load(version: str) -> Other:
        loads.append(version)
        return Other()

    runs = Runs(_run())
    shadows, measures = _shadows(runs, load)
    shadows.refresh()
    shadows.refresh()
    assert [shadow.share for shadow in shadows.current()] == [0.1]
    assert measures.shadows == {"sentiment": "sentiment-bbbbbbbbbbbb"}
    runs.runs["sentiment"] = _run(share=0.5, number=2)
    shadows.refresh()
    assert [shadow.share for shadow in shadows.current()] == [0.5]
    runs.runs.clear()
    shadows.refresh()
    assert (shadows.current(), measures.shadows, len(loads)) == ((), {}, 2)


def test_a_shadow_that_cannot_be_loaded_is_tried_once_and_counted():
    tries: list[str] = []

    def load(version: str) -> Other:
        tries.append(version)
        raise AdapterError("damaged") if len(tries) < 2 else RuntimeError("out of memory")

    runs = Runs(_run())
    shadows, measures = _shadows(runs, load)
    for number in (1, 1, 2, 2):
        runs.runs["sentiment"] = _run(number=number)
        shadows.refresh()
        assert shadows.current() == ()
    assert (len(tries), measures.shadow_failures["sentiment"]) == (2, 2)


def test_what_means_the_same_after_the_labels_changed_is_no_disagreement():
    shadows, _ = _shadows(Runs(_run(share=1.0)))
    shadows.refresh()
    (shadow,) = shadows.current()
    _, (trial,) = _score(shadow, TEXTS[:5])
    assert (trial.rows, trial.disagreements) == (5, 0)


def test_an_adapter_that_serves_by_now_is_no_shadow_of_itself():
    shadows, _ = _shadows(Runs(_run(version=Model.adapter_version)))
    shadows.refresh()
    assert shadows.current() == ()


def test_the_shadows_stay_while_the_database_is_away():
    runs = Runs(_run())
    shadows, _ = _shadows(runs)
    shadows.refresh()
    runs.is_away = True
    with pytest.raises(Unavailable):
        shadows.refresh()
    assert len(shadows.current()) == 1
