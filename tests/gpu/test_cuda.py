"""The packed engine on a CUDA device: skipped where there is none."""

import numpy as np
import pytest
import torch

from classifier.interface import load
from classifier.settings import ClassifierSettings
from tests.tiny import tiny_adapter, tiny_base

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
TEXTS = [
    "Good.",
    "A rather long sentence about a kettle.",
    "x",
    "Ünïcödé 🙂",
    "-",
    "meh " * 12,
    "Good.",
    "Bad!!",
]


@pytest.fixture(scope="module", params=["roberta", "bert"])
def family(request, tmp_path_factory):
    base = tiny_base(tmp_path_factory.mktemp("base"), request.param)
    return base, tiny_adapter(base, tmp_path_factory.mktemp("adapters"))


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 0.1)])
@pytest.mark.parametrize("adapters", ["merged", "shared"])
def test_it_answers_like_the_general_engine_on_the_cpu(family, precision, tolerance, adapters):
    base, adapter = family
    exact = load(str(base), adapter, ClassifierSettings(device="cpu", precision="fp32", engine="general"))
    options = {"device": "cuda", "precision": precision, "engine": "packed", "adapters": adapters}
    ours = load(str(base), adapter, ClassifierSettings(**options))
    for one, other in zip(ours.predict(TEXTS), exact.predict(TEXTS), strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=tolerance)
