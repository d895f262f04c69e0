"""The bundled adapter on its real pretrained base: quality, not logic."""

import json
from pathlib import Path

import numpy as np
import pytest

import reviewloop
from classifier.adapters.manifest import CARD, read_files
from classifier.interface import load
from classifier.settings import ClassifierSettings

ADAPTER = Path(reviewloop.__file__).parent / "demo" / "adapter"


@pytest.fixture(scope="module")
def classifier():
    base = read_files(ADAPTER)[0].base_model
    return load(base, ADAPTER, ClassifierSettings(device="cpu", precision="fp32"))


def test_it_is_small_and_names_no_path_of_a_machine():
    manifest, files = read_files(ADAPTER)
    assert sum(map(len, files.values())) <= 1_150_000
    assert manifest.version in files[CARD].decode()
    assert not any(
        b"/root" in content or b"/home" in content or b"/work" in content for content in files.values()
    )


def test_it_reproduces_its_probes(classifier):
    probes = classifier.manifest.probes
    assert probes
    for probe, said in zip(probes, classifier.predict([probe.text for probe in probes]), strict=True):
        np.testing.assert_allclose(said.probabilities, probe.probabilities, atol=1e-3)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("I love this dress, the fabric is soft and it fits perfectly.", "positive"),
        ("Terrible quality, it fell apart after one wash and I returned it.", "negative"),
        ("The colour is lovely, but it runs large and the fabric is thin, so I am undecided.", "neutral"),
    ],
)
def test_it_tells_plain_reviews_of_clothes_apart(classifier, text, label):
    assert classifier.predict([text])[0].label == label


def test_its_metrics_are_on_rows_that_it_never_saw():
    manifest = json.loads((ADAPTER / "reviewloop.json").read_text())
    assert manifest["metrics"]["test_macro_f1"] >= 0.73
