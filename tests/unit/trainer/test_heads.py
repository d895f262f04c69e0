"""Heads fitted on frozen features: the fit itself, and the adapters that hold them."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from classifier.adapters.manifest import CARD, read_manifest
from classifier.adapters.sample import SAMPLE
from classifier.adapters.store import write_files
from classifier.base_model import locate
from classifier.calibration import fit_temperature, softmax
from classifier.interface import load
from classifier.settings import ClassifierSettings
from tests.tiny import MAX_LENGTH, tiny_adapter, tiny_base
from trainer.data.dataset import Dataset
from trainer.errors import RunStopped
from trainer.fitting import features as features_module
from trainer.fitting.features import FrozenFeatures, KeptFeatures, changes_nothing
from trainer.fitting.finish import measure
from trainer.fitting.fit import train
from trainer.fitting.fit_data import FitRequest, Splits
from trainer.fitting.head import (
    ENOUGH_NEW,
    ENOUGH_NEW_OF_EACH,
    STRENGTHS,
    USUAL_STRENGTH,
    Head,
    fit_head,
    judged_by,
)
from trainer.fitting.head_adapter import head_adapter_files, head_of
from trainer.fitting.head_fit import RunFits
from trainer.settings import TrainerSettings

NAMES = ("bad", "fine", "good")
SETTINGS = TrainerSettings(max_length_tokens=MAX_LENGTH, lora_r=4, epochs=1)


def clouds(rows, *, features=6, classes=3, seed=0, noise=1.0, weights=(0.2, 0.3, 0.5)):
    """Features (rows, features) and labels: one cloud a class, each column on a scale of its own."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, features)) * 2
    labels = random.choice(classes, rows, p=weights[:classes])
    columns = centres[labels] + random.normal(size=(rows, features)) * noise
    return (columns * 10.0 ** np.arange(features) + 3).astype(np.float32), labels


def classifier_settings(base):
    return ClassifierSettings(
        base_model=str(base), device="cpu", precision="fp32", max_length_tokens=MAX_LENGTH, cache_texts=0
    )


def rows_of(texts, labels, weights=None):
    return Dataset(tuple(texts), tuple(labels), NAMES, f"sha-{len(texts)}", weights)


def reviews(count, seed=0):
    """Texts whose bytes tell their label, and the labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count).tolist()
    words = ("awful broken mess", "it is all right", "lovely and great")
    return [f"{words[label]} {random.integers(1e6)}" for label in labels], labels


@pytest.fixture
def base(tmp_path):
    return tiny_base(tmp_path / "base", "bert")


@pytest.fixture
def request_of(base):
    """A request to fit a head on these texts."""
    texts, labels = reviews(90)
    splits = Splits(rows_of(texts[:60], labels[:60]), rows_of(texts[60:], labels[60:]))

    def make(**fields):
        return FitRequest(splits, classifier_settings(base), SETTINGS, **({"kind": "head"} | fields))

    return make


def test_a_head_on_columns_of_any_scale_predicts_as_the_one_on_standardised_columns():
    features, labels = clouds(300)
    head = fit_head(features, labels, 3)
    columns = (features - features.mean(0)) / features.std(0)
    balanced = LogisticRegression(C=head.strength, class_weight="balanced", max_iter=5000)
    balanced.fit(columns, labels)
    test, truth = clouds(500, seed=1)
    found = head.logits(test).argmax(axis=1)
    expected = balanced.predict((test - features.mean(0)) / features.std(0))
    assert (found == expected).mean() > 0.99
    assert (found == truth).mean() > 0.9


def test_each_class_counts_the_same_however_few_rows_it_has():
    features, labels = clouds(400, noise=4.0, weights=(0.03, 0.07, 0.9))
    test, _ = clouds(2000, seed=2, noise=4.0, weights=(1 / 3, 1 / 3, 1 / 3))
    found = fit_head(features, labels, 3).logits(test).argmax(axis=1)
    shares = np.bincount(found, minlength=3) / len(found)
    assert shares.min() > 0.15  # a fit that follows the mix of the rows calls nearly all of them the third


def test_the_penalty_follows_what_left_out_rows_say():
    clear, its_labels = clouds(300, noise=0.5)
    random = np.random.default_rng(1)
    noise, nothing = random.normal(size=(400, 300)).astype(np.float32), random.integers(0, 3, 400)
    assert fit_head(clear, its_labels, 3).strength == max(STRENGTHS)
    assert fit_head(noise, nothing, 3).strength == min(STRENGTHS)


def test_a_weight_of_two_is_a_row_that_stands_twice():
    features, labels = clouds(40)
    weights = np.ones(40)
    weights[labels == 0] = [2.0 if index % 2 else 1.0 for index in range((labels == 0).sum())]
    heavy = weights == 2.0
    twice = np.concatenate([features, features[heavy]]), np.concatenate([labels, labels[heavy]])
    one = fit_head(features, labels, 3, weights)
    groups = [*range(40), *np.flatnonzero(heavy)]
    other = fit_head(*twice, 3, groups=groups)
    test, _ = clouds(200, seed=3)
    assert np.abs(one.logits(test).argmax(1) == other.logits(test).argmax(1)).mean() > 0.97


def test_a_class_without_a_row_is_all_but_impossible():
    features, labels = clouds(100, classes=2, weights=(0.5, 0.5))
    logits = fit_head(features, labels * 2, 3).logits(features)
    assert logits.shape == (100, 3)
    assert (logits[:, 1] < logits.max(axis=1) - 10).all()
    assert (logits[:, [0, 2]].argmax(1) == labels).mean() > 0.9


def test_rows_of_one_class_alone_give_a_head_that_says_so():
    features, _ = clouds(10)
    head = fit_head(features, np.full(10, 2), 3)
    assert (head.strength, set(head.logits(features).argmax(1))) == (USUAL_STRENGTH, {2})


def test_few_rows_move_a_head_little_from_where_it_starts_and_many_rows_far():
    features, labels = clouds(400)
    centre = fit_head(features, labels, 3)
    others = (labels + 1) % 3  # what the rows to come say
    few, many = (
        fit_head(features[:4], others[:4], 3, centre=centre),
        fit_head(features, others, 3, centre=centre),
    )
    assert (few.logits(features).argmax(1) == labels).mean() > 0.6
    assert (many.logits(features).argmax(1) == others).mean() > 0.9


def test_a_head_that_continues_knows_classes_of_which_no_row_came():
    features, labels = clouds(400)
    centre = fit_head(features, labels, 3)
    new = labels < 2
    head = fit_head(features[new][:30], labels[new][:30], 3, centre=centre)
    assert (head.logits(features[labels == 2]).argmax(1) == 2).mean() > 0.8
    assert fit_head(features[:1], labels[:1], 3, centre=centre) is centre


def test_the_head_of_an_adapter_is_read_back_calibrated(base, tmp_path):
    random = np.random.default_rng(0)
    head = Head(random.normal(size=(3, 32)), random.normal(size=3))
    fields = {"task": "t", "labels": NAMES, "temperature": 2.0}
    files = head_adapter_files(head, locate(str(base)), classifier_settings(base), SETTINGS, fields)
    found = head_of(write_files(files, tmp_path))
    assert np.allclose(found.weights, head.weights / 2, atol=1e-6)
    assert np.allclose(found.bias, head.bias / 2, atol=1e-6)
    assert head_of(tiny_adapter(base, tmp_path)) is None


def test_labels_are_predicted_as_often_as_they_occur_where_rows_say_what_they_stand_for():
    features, labels = clouds(3000, noise=4.0, weights=(0.05, 0.1, 0.85))
    drawn = np.concatenate([np.flatnonzero(labels == label)[:60] for label in range(3)])
    stands_for = np.array([0.05, 0.1, 0.85])[labels[drawn]]
    evenly = fit_head(features[drawn], labels[drawn], 3)
    matched = fit_head(features[drawn], labels[drawn], 3, speaks_for=stands_for)
    shares = [
        np.bincount(head.logits(features).argmax(axis=1), minlength=3) / len(features)
        for head in (evenly, matched)
    ]
    wanted = np.bincount(labels) / len(labels)
    assert np.abs(shares[0] - wanted).max() > 0.15
    assert np.abs(shares[1] - wanted).max() < 0.06
    np.testing.assert_array_equal(evenly.weights, matched.weights, "only the bias differs")


def test_features_are_the_mean_over_the_tokens_of_the_base_or_of_an_adapter_on_it(base, tmp_path):
    texts, _ = reviews(20)
    settings = classifier_settings(base)
    alone = FrozenFeatures(locate(str(base)), settings, MAX_LENGTH)(texts)
    adapter = tiny_adapter(base, tmp_path)
    adapted = FrozenFeatures(locate(str(base)), settings, MAX_LENGTH, adapter)(texts)
    assert alone.shape == adapted.shape == (20, 32)
    assert np.abs(alone - adapted).max() > 0.1


def test_a_run_computes_each_text_once_for_each_model(base, monkeypatch):
    computed = []
    real = features_module.FrozenFeatures

    def counting(*given):
        features = real(*given)
        return lambda texts, tell: computed.append(len(texts)) or features(texts, tell)

    monkeypatch.setattr(features_module, "FrozenFeatures", counting)
    kept = KeptFeatures(classifier_settings(base))
    texts, _ = reviews(12)
    first = kept.of(locate(str(base)), MAX_LENGTH)(texts[:8])
    again = kept.of(locate(str(base)), MAX_LENGTH)(texts)
    assert computed == [8, 4]
    assert (first == again[:8]).all()


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "gpt2"])
def test_the_adapter_of_a_head_answers_as_the_head_does(tmp_path, architecture):
    base = tiny_base(tmp_path / "base", architecture)
    settings = classifier_settings(base)
    features = FrozenFeatures(locate(str(base)), settings, MAX_LENGTH)
    texts, labels = reviews(60)
    head = fit_head(features(texts), np.array(labels), 3)
    fields = {"task": "sentiment", "labels": NAMES, "temperature": 1.5}
    files = head_adapter_files(head, locate(str(base)), settings, SETTINGS, fields, features=features)
    served = load(str(base), write_files(files, tmp_path), settings)
    assert np.allclose(served.logits(served.encode(texts)), head.logits(features(texts)), atol=2e-3)
    assert served.manifest.pooling == "mean"
    assert len(served.manifest.probes) > 0


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_a_head_on_an_adapter_keeps_its_matrices_and_leaves_its_head(tmp_path, architecture):
    base = tiny_base(tmp_path / "base", architecture)
    settings, parent = classifier_settings(base), tiny_adapter(base, tmp_path, labels=NAMES)
    features = FrozenFeatures(locate(str(base)), settings, MAX_LENGTH, parent)
    texts, labels = reviews(60)
    head = fit_head(features(texts), np.array(labels), 3)
    fields = {"task": "sentiment", "labels": NAMES}
    files = head_adapter_files(
        head, locate(str(base)), settings, SETTINGS, fields, parent=parent, features=features
    )
    served = load(str(base), write_files(files, tmp_path), settings)
    assert np.allclose(served.logits(served.encode(texts)), head.logits(features(texts)), atol=2e-3)


def test_a_head_that_the_saved_form_does_not_answer_as_is_refused(base):
    from reviews.errors import AdapterError

    settings = classifier_settings(base)
    random = np.random.default_rng(0)
    head = Head(random.normal(size=(3, 32)), np.zeros(3))

    def others(texts):
        return random.normal(size=(len(texts), 32)).astype(np.float32)

    with pytest.raises(AdapterError, match="does not answer as its head"):
        head_adapter_files(
            head, locate(str(base)), settings, SETTINGS, {"task": "t", "labels": NAMES}, features=others
        )


def test_a_fit_of_a_head_is_measured_calibrated_and_says_what_it_is(request_of, tmp_path):
    outcome = RunFits(request_of().classifier)(request_of(), lambda _: None)
    directory = write_files(outcome.files, tmp_path)
    manifest = read_manifest(directory)
    assert manifest.metrics == outcome.measured.metrics
    assert manifest.temperature == outcome.measured.temperature
    assert outcome.measured.metrics["validation_macro_f1"] > 0.8
    assert manifest.training["recipe"]["kind"] == "head"
    assert manifest.training["recipe"]["strength"] in STRENGTHS
    card = (directory / CARD).read_text()
    assert "only its head was fitted" in card
    assert "Pooling: mean" in card


def test_the_same_request_gives_the_same_adapter(request_of):
    contents = [RunFits(request_of().classifier)(request_of(), lambda _: None).files for _ in range(2)]
    assert contents[0] == contents[1]


def test_a_fit_of_a_head_tells_which_texts_it_reads_and_ends_where_it_is_refused_to_go_on(request_of):
    steps = []
    fits = RunFits(request_of().classifier)

    def refuse(step):
        steps.append((step.epoch, step.step))
        raise RunStopped("the run was asked to stop")

    with pytest.raises(RunStopped):
        fits(request_of(), refuse)
    assert steps == [(0, 0)]
    told = []
    fits(request_of(), told.append)
    assert told
    assert all(one.step < one.steps for one in told)


def test_a_check_measures_and_makes_no_files(request_of):
    outcome = RunFits(request_of().classifier)(request_of(is_check=True), lambda _: None)
    assert (outcome.files, outcome.manifest) == ({}, None)
    assert "validation" in outcome.measured.predictions


@pytest.mark.parametrize("centre", [None, Head(np.zeros((3, 40)), np.zeros(3))])
def test_what_is_left_out_is_said_by_a_fit_that_did_not_see_it(centre):
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(90, 40)), random.integers(0, 3, 90)
    head = fit_head(features, labels, 3, centre=centre, speaks_for=np.ones(90))
    known = (head.logits(features).argmax(axis=1) == labels).mean()
    left_out = (head.left_out.argmax(axis=1) == labels).mean()
    assert known > 0.6, "labels that mean nothing are learned by heart"
    assert left_out < 0.45, "and then are no surprise to guess wrong"
    assert head.left_out.shape == (90, 3)


def test_of_a_class_without_a_row_what_is_left_out_says_what_the_head_says():
    features, labels = clouds(90)
    labels = np.minimum(labels, 1)
    fresh = fit_head(features, labels, 3)
    assert (fresh.left_out.argmax(axis=1) != 2).all()
    centre = Head(np.zeros((3, features.shape[1])), np.array([0.0, 0.0, 50.0]))
    kept = fit_head(features, labels, 3, centre=centre)
    assert (kept.logits(features).argmax(axis=1) == 2).all()
    assert (kept.left_out.argmax(axis=1) == 2).all()


def test_a_head_that_learns_the_validation_rows_is_measured_on_them_by_fits_without_them(request_of):
    request = request_of(learns_validation=True)
    fits = RunFits(request.classifier)
    outcome, apart = fits(request, lambda _: None), fits(request_of(), lambda _: None)
    assert not np.array_equal(outcome.head.weights, apart.head.weights)
    assert len(outcome.head.left_out) == 90, "of all rows that it was fitted on"
    said, measured = outcome.measured.predictions["validation"], outcome.measured
    np.testing.assert_allclose(said.probabilities, softmax(outcome.head.left_out[60:], measured.temperature))
    assert said.truth.tolist() == list(request.splits.validation.labels)
    assert outcome.manifest.training["recipe"]["learns_validation"] is True
    assert SAMPLE in apart.files
    assert SAMPLE not in outcome.files, "texts that it was trained on tell nothing of int8"


def test_the_head_that_a_fit_of_lora_begins_with_reads_the_features_that_the_run_knows(
    request_of, monkeypatch
):
    read, real = [], FrozenFeatures.__call__

    def counting(features, texts, *given):
        read.extend(texts)
        return real(features, texts, *given)

    monkeypatch.setattr(FrozenFeatures, "__call__", counting)
    fits = RunFits(request_of().classifier)
    fits(request_of(), lambda _: None)
    settings = SETTINGS.model_copy(update={"pooling": "mean"})
    fits(replace(request_of(kind="lora"), settings=settings), lambda _: None)
    assert read.count(request_of().splits.train.texts[0]) == 1


def test_lora_continues_from_the_adapter_of_a_head(request_of, tmp_path):
    outcome = RunFits(request_of().classifier)(request_of(), lambda _: None)
    head = write_files(outcome.files, tmp_path)
    trained = train(request_of(kind="lora", continues_from=head), tmp_path, lambda _: None)
    assert (trained.manifest.pooling, trained.manifest.parent) == ("mean", read_manifest(head).version)
    assert changes_nothing(head)
    assert not changes_nothing(trained.directory)
    # It begins where the head is: one epoch on the same rows leaves it about as good.
    assert trained.manifest.metrics["validation_macro_f1"] > 0.7


@pytest.mark.parametrize("learns_validation", [True, False])
def test_a_head_is_fitted_again_on_the_features_of_a_fit_of_lora(
    request_of, base, tmp_path, learns_validation
):
    request, again = request_of(kind="lora"), request_of(kind="refit", learns_validation=learns_validation)
    fits = RunFits(request.classifier)
    lora, outcome = fits(request, lambda _: None), fits(again, lambda _: None)
    first, second = (write_files(one.files, tmp_path / name) for name, one in (("a", lora), ("b", outcome)))
    texts = list(request.splits.train.texts)
    features = FrozenFeatures(locate(str(base)), request.classifier, 64, first)
    np.testing.assert_allclose(
        FrozenFeatures(locate(str(base)), request.classifier, 64, second)(texts), features(texts), atol=1e-6
    )
    served = load(str(base), second, request.classifier)
    assert np.allclose(served.logits(served.encode(texts)), outcome.head.logits(features(texts)), atol=2e-3)
    assert (outcome.manifest.parent, outcome.manifest.pooling) == (None, "mean")
    assert outcome.manifest.training["recipe"]["kind"] == "refit"
    assert outcome.position.steps == lora.position.steps > 0
    assert outcome.measured.metrics["validation_macro_f1"] > 0.7


@pytest.mark.parametrize("kind", ["head", "refit"])
def test_a_head_on_matrices_that_know_the_training_rows_is_calibrated_on_the_others(request_of, kind):
    request = request_of(kind=kind, learns_validation=True)
    truth = np.array(request.splits.train.labels + request.splits.validation.labels)
    said = 3.0 * np.eye(3)[truth]
    said[60::2] = np.roll(said[60::2], 1, axis=1)  # of the others, half are wrong
    temperature = measure(lambda texts: np.zeros((len(texts), 3)), request, said).temperature
    others, all_rows = fit_temperature(said[60:], truth[60:]), fit_temperature(said, truth)
    assert temperature == (others if kind == "refit" else all_rows)
    assert others > 1.2 * all_rows


@pytest.mark.parametrize("new", [ENOUGH_NEW, ENOUGH_NEW - 1])
def test_a_head_is_calibrated_on_rows_that_the_one_before_did_not_know_where_there_are_enough(
    request_of, new
):
    is_new = np.arange(90) >= 90 - new
    request = request_of(learns_validation=True, is_new=tuple(is_new.tolist()))
    truth = np.array(request.splits.train.labels + request.splits.validation.labels)
    said = 3.0 * np.eye(3)[truth]
    wrong = np.flatnonzero(is_new)[::2]
    said[wrong] = np.roll(said[wrong], 1, axis=1)
    temperature = measure(lambda texts: np.zeros((len(texts), 3)), request, said).temperature
    others, all_rows = fit_temperature(said[is_new], truth[is_new]), fit_temperature(said, truth)
    assert temperature == (others if new == ENOUGH_NEW else all_rows)
    assert others > 1.2 * all_rows


def test_a_head_moves_as_far_as_rows_ask_for_that_the_one_before_does_not_know_by_heart():
    random = np.random.default_rng(0)
    labels, clouds_at = random.integers(0, 2, 1240), random.normal(0, 0.3, (2, 40))
    features = clouds_at[labels] + random.normal(size=(1240, 40))
    known = np.linalg.lstsq(features[:120], np.eye(2)[labels[:120]] - 0.5, rcond=None)[0].T
    centre, is_new = Head(6 * known, np.zeros(2)), np.arange(240) >= 120
    rows, later = (features[:240], labels[:240]), (features[240:], labels[240:])
    by_all, by_new, by_few = (
        fit_head(*rows, 2, centre=centre, speaks_for=np.ones(240), is_new=flags)
        for flags in (None, is_new, is_new & (np.arange(240) < 120 + ENOUGH_NEW_OF_EACH))
    )
    assert (by_all.left_out.argmax(axis=1) == labels[:240])[:120].mean() > 0.9, "as if they had been seen"
    assert by_new.strength > by_all.strength == by_few.strength
    right = [(head.logits(later[0]).argmax(axis=1) == later[1]).mean() for head in (by_all, by_new)]
    assert right[1] > right[0]
    of_one = np.where(is_new, 0, labels[:240])
    assert judged_by(of_one, is_new, of_each=5).all(), "no new row has the other label"
    assert (judged_by(of_one, is_new) == is_new).all()


def test_lora_that_reads_the_mean_is_fitted_and_serves(request_of, base, tmp_path):
    settings = SETTINGS.model_copy(update={"pooling": "mean", "epochs": 2})
    request = request_of(kind="lora")
    trained = train(FitRequest(request.splits, request.classifier, settings), tmp_path, lambda _: None)
    served = load(str(base), trained.directory, request.classifier)
    assert served.manifest.pooling == "mean"
    assert len(served.predict(["lovely and great"])[0].probabilities) == 3
