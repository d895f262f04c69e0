import math
import threading

import numpy as np
import pytest
import torch
from peft import PeftModel

from classifier.adapters.manifest import read_manifest
from classifier.base_model import locate
from classifier.interface import load
from classifier.model import load_base
from reviews.errors import AdapterError, ModelError
from tests.tiny import MAX_LENGTH, SENTIMENTS, tiny_adapter, tiny_base, tiny_peft_model

TEXTS = ["Good.", "A rather long sentence about a kettle.", "x", "Ünïcödé 🙂", "-", "meh " * 12]


@pytest.fixture(scope="session")
def classifier(base, adapter, settings):
    return load(str(base), adapter, settings)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's own use of it
def test_probabilities_are_those_of_transformers_and_peft_one_text_at_a_time(base, adapter, classifier):
    model = PeftModel.from_pretrained(load_base(locate(str(base)), 3), adapter).eval()
    for text, said in zip(TEXTS, classifier.predict(TEXTS), strict=True):
        ids = torch.tensor([[0, *classifier.tokeniser.encode([text]).ids[1:-1], 2]])
        with torch.inference_mode():
            expected = torch.softmax(model(ids).logits[0] / read_manifest(adapter).temperature, 0)
        np.testing.assert_allclose(said.probabilities, expected.numpy(), atol=1e-5)


def test_a_prediction_says_what_its_probabilities_say(classifier):
    for said in classifier.predict(TEXTS):
        ordered = sorted(said.probabilities, reverse=True)
        assert sum(said.probabilities) == pytest.approx(1)
        assert said.label == SENTIMENTS[said.probabilities.index(ordered[0])]
        assert said.confidence == ordered[0]
        assert said.margin == pytest.approx(ordered[0] - ordered[1])
        assert said.entropy == pytest.approx(-sum(p * math.log(p) for p in ordered))
        assert said.task == "sentiment"
        assert said.adapter_version == classifier.adapter_version


def test_the_answer_does_not_depend_on_the_neighbours_in_the_batch(classifier):
    together = classifier.predict(TEXTS * 3)
    for position, text in enumerate(TEXTS * 3):
        alone = classifier.predict([text])[0]
        np.testing.assert_allclose(together[position].probabilities, alone.probabilities, atol=1e-5)


def test_no_texts_give_no_predictions(classifier):
    assert classifier.predict([]) == []


def test_a_text_beyond_the_model_is_cut_and_says_so(base, adapter, settings):
    classifier = load(str(base), adapter, settings.model_copy(update={"long_texts": "truncate"}))
    long = "b" * MAX_LENGTH * 2
    said = classifier.predict([long, "short"])
    assert [one.truncated for one in said] == [True, False]
    assert classifier.encode([long]).lengths.tolist() == [MAX_LENGTH]


def test_lengths_count_the_tokens_of_each_text(classifier):
    encoded = classifier.encode(["abc", "", "abcdef"])
    assert len(encoded) == 3
    assert encoded.lengths.tolist() == [5, 2, 8]


def test_threads_may_encode_at_once(classifier):
    expected = classifier.encode(TEXTS * 50).ids
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(classifier.encode(TEXTS * 50).ids)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(expected, ids) for ids in found)
    assert len(found) == 4


def test_a_lone_surrogate_is_refused_with_a_reason(classifier):
    with pytest.raises(ModelError, match="valid Unicode"):
        classifier.encode(["\ud800"])


def test_another_base_than_the_adapter_s_is_refused(adapter, settings, tmp_path):
    other = tiny_base(tmp_path, seed=5)
    with pytest.raises(AdapterError, match="whose weights differ"):
        load(str(other), adapter, settings)


def test_an_adapter_of_another_shape_is_refused_in_one_line(base, settings, tmp_path):
    distil = tiny_base(tmp_path / "distil", "distilbert")
    tiny_peft_model(distil).save_pretrained(tmp_path / "adapter")
    with pytest.raises(AdapterError, match="does not fit") as caught:
        load(str(base), tmp_path / "adapter", settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta", "distilbert", "deberta-v2", "modernbert"])
def test_every_architecture_answers_as_one_by_one(architecture, settings, tmp_path):
    base = tiny_base(tmp_path / "base", architecture)
    classifier = load(str(base), tiny_adapter(base, tmp_path), settings)
    together = classifier.predict(TEXTS)
    for text, said in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(said.probabilities, classifier.predict([text])[0].probabilities, atol=1e-4)


def test_bf16_answers_nearly_as_fp32(base, adapter, classifier, settings):
    rough = load(str(base), adapter, settings.model_copy(update={"precision": "bf16"}))
    for exact, said in zip(classifier.predict(TEXTS), rough.predict(TEXTS), strict=True):
        np.testing.assert_allclose(said.probabilities, exact.probabilities, atol=0.1)
