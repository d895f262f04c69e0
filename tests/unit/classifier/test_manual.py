"""The classifier, read from top to bottom: from a base and an adapter to probabilities that mean something.

The model is tiny and random, so that its labels mean nothing; everything else is as with a real one.
"""

import numpy as np
import pytest

from classifier import ClassifierSettings, Ensemble, PEFTClassifier, TaskClassifiers, load
from classifier.adapters.manifest import describe_adapter, read_manifest
from classifier.calibration import softmax
from classifier.ensemble import describe_ensemble
from reviews.errors import AdapterError, WrongUse
from tests.tiny import tiny_adapter

TEXTS = ["Great boots.", "The zipper broke on the second day, and nobody answers.", "Fine."]


def test_from_a_base_and_an_adapter_to_answers_of_one_of_several_and_of_several_together(base, tmp_path):
    # An adapter is a directory as peft writes it, with a manifest beside peft's two files. The manifest has
    # task, labels, the temperature that calibrates, and the hash of every file: content is the name.
    directory = tiny_adapter(base, tmp_path, temperature=1.5)
    manifest = read_manifest(directory)
    assert (manifest.task, manifest.labels) == ("sentiment", ("negative", "neutral", "positive"))
    assert manifest.version == f"sentiment-{directory.name[:12]}"

    # The shortest way to an answer: a label, and how sure the model is of it.
    label, confidence = PEFTClassifier(base, directory).predict(TEXTS[0])
    assert label in manifest.labels
    assert 1 / 3 <= confidence <= 1

    # load() gives the classifier itself, one immutable snapshot. It has passed a self-check: the engine that
    # runs it answered like the model in transformers, and the adapter's probes came out as the manifest says.
    settings = ClassifierSettings(device="cpu", precision="fp32", max_length_tokens=32)
    classifier = load(base, directory, settings)
    assert classifier.execution.engine == "packed"
    assert classifier.adapter_version == manifest.version

    # Scoring has three steps. Texts to token ids: unpadded, one after another; a text beyond what the model
    # reads at once becomes several rows, windows of it.
    encoded = classifier.encode(TEXTS)
    assert (len(encoded), len(encoded.row_lengths)) == (3, 5)
    assert encoded.row_lengths.max() == 32
    # Token ids to logits: rows of similar length go through the model together, and each text has one row of
    # logits again, the mean over its windows.
    logits = classifier.logits(encoded)
    assert (logits.shape, logits.dtype) == ((3, 3), np.float32)
    # Logits to predictions: divided by the temperature, they become calibrated probabilities.
    said = classifier.score(encoded)
    np.testing.assert_allclose([one.probabilities for one in said], softmax(logits, 1.5))
    assert [one.adapter_version for one in said] == [manifest.version] * 3
    assert not any(one.truncated for one in said)
    # predict() is these three in a row, and a text gets the same answer whatever is beside it.
    assert classifier.predict(TEXTS)[2].probabilities == pytest.approx(said[2].probabilities, abs=1e-5)
    assert classifier.predict(TEXTS[2:])[0].probabilities == pytest.approx(said[2].probabilities, abs=1e-5)

    # Several tasks on one base: with adapters = shared, its layers are in memory once, and texts are
    # tokenised once for all tasks. An adapter is exchanged while others score.
    tasks = TaskClassifiers(base, settings.model_copy(update={"adapters": "shared"}))
    tasks.add_adapter("sentiment", directory)
    tasks.add_adapter("intent", tiny_adapter(base, tmp_path, task="intent", labels=("ask", "tell"), seed=2))
    answers = tasks.predict_all(TEXTS)
    assert {task: len(found) for task, found in answers.items()} == {"sentiment": 3, "intent": 3}
    assert answers["sentiment"][0].probabilities == pytest.approx(said[0].probabilities, abs=1e-4)

    # Several adapters of one task: an ensemble answers with the mean of their probabilities. Its name is made
    # of its members' content, and the registry of adapters knows it by the same name.
    other = tiny_adapter(base, tmp_path, seed=3)
    ensemble = Ensemble([classifier, load(base, other, settings)])
    mean = np.mean([said[0].probabilities, load(base, other, settings).predict(TEXTS)[0].probabilities], 0)
    assert ensemble.predict(TEXTS)[0].probabilities == pytest.approx(tuple(mean), abs=1e-5)
    members = [describe_adapter(read_manifest(one)) for one in (directory, other)]
    assert describe_ensemble(members)[0].version == ensemble.adapter_version

    # What is wrong is an error with a sentence: a wrong argument, or files that are not what they say.
    with pytest.raises(WrongUse, match=r"\[text\] for one"):
        classifier.predict("a single text, whose letters would be scored")
    (directory / "adapter_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(AdapterError, match="does not match its hash"):
        load(base, directory, settings)
