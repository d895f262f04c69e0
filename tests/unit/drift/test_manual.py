"""Drift, read from top to bottom: a report on a window of reviews, and a detector that watches the stream.

A shop sells clothes; later, reviews of films get into its topic. Nothing here needs a database or a model: a
review is its text, its product, when it came, and the probabilities that a classifier gave it.
"""

import numpy as np

from drift.evaluation import evaluate
from drift.measures import text_length
from drift.online import Detector
from drift.settings import DriftSettings, WatchSettings
from drift.strata import Pair, SeenHours, Strata
from drift.summary import explain, summarise
from tests.unit.drift.made_up import clothes, films


def test_a_window_of_the_same_stream_is_stable_and_one_of_another_is_explained_and_raises_an_alarm():
    # What is compared: the reviews since the active adapter was promoted, and those of the last hours, as
    # columns. Ten minutes lie between two of these, so that the reference spans a week.
    reference = clothes(1_500)
    same, other = clothes(400, first=1_500), films(400, first=1_500)
    assert (len(reference), reference.classes) == (1_500, ("negative", "positive"))
    assert reference.probabilities.shape == (1_500, 2)

    # Like is compared with like. The reference is weighted so that it has the window's mix of products and
    # hours; hours that it has never seen are left out until it has seen a week.
    assert SeenHours.of(reference).saw_week
    weights = Strata(reference).weights(same)
    np.testing.assert_allclose(weights.sum(), 1)

    # A measure is a function of such a pair. Its finding has an effect in a unit of its own, the floor below
    # which nobody would care, and a p-value: how often chance alone makes such a difference.
    alike, apart = text_length(Pair.of(reference, same)), text_length(Pair.of(reference, other))
    assert alike.effect < alike.floor < apart.effect
    assert apart.p_value < 0.001 < alike.p_value
    assert apart.unit == "characters, mean"
    assert apart.window < apart.reference

    # A report holds all measures together: of texts, of classes, of confidence. Holm's correction keeps the
    # false alarms of all of them at the rate that the settings say, here 1 %.
    settings = DriftSettings()
    stable = evaluate(reference, same, settings)
    assert (stable.verdict, stable.moved) == ("stable", ())
    assert not any(item.is_drift for item in stable.judged)

    # Films are something else: texts moved, class shares did not. The report says what is new about them, by
    # product, source, word and cluster, since when, and which reviews to label because of it.
    found = evaluate(reference, other, settings)
    assert (found.verdict, found.moved) == ("drift", ("texts",))
    assert found.since_row is not None
    assert found.since_row < 20
    assert found.attribution is not None
    assert {part.name for part in found.attribution.products} == {"film-0", "film-1"}
    assert [part.name for part in found.attribution.sources] == ["cinema"]
    assert set(found.to_label) <= set(other.records)
    # As plain values for the page and the database:
    assert summarise(found, reference, other)["moved"] == ["texts"]
    assert explain(found, other)["sources"][0]["name"] == "cinema"

    # With too few reviews nothing is claimed.
    assert evaluate(reference, clothes(20, first=1_500), settings).verdict == "unknown"

    # The detector reads the stream in batches of any size, through windows of the last 30 to 1,920 reviews.
    # Its threshold comes from playing it on streams drawn from its own reference: an alarm by chance once in
    # a million reviews.
    detector = Detector(reference, WatchSettings(calibration_streams=5))
    assert detector.update(same) == []
    (alarm,) = detector.update(films(400, first=1_900))
    assert alarm.kind == "texts"
    assert 400 < alarm.after_reviews < 500
    assert alarm.strengths[alarm.feature] >= 1
    # After an alarm it is silent for a while, so that one event is told once.
    assert detector.update(films(400, first=2_300)) == []
