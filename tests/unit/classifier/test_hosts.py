"""One host per base: what several adapters of a worker share, and what the next one costs."""

import gc
import shutil
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

import classifier.engine.build
from classifier.host import Hosts
from classifier.interface import load
from reviews.errors import AdapterError
from tests.tiny import tiny_adapter, tiny_base, with_probes

TEXTS = ["Good.", "A rather long sentence about a kettle.", "x", "meh " * 12]
TASKS = {"sentiment": ("bad", "so-so", "good"), "tone": ("rude", "polite"), "topic": ("a", "b", "c", "d")}


@pytest.fixture(scope="module", params=["roberta", "bert"])
def a_base(request, tmp_path_factory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"), request.param)


@pytest.fixture(scope="module")
def adapters(a_base, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    return {
        task: with_probes(a_base, tiny_adapter(a_base, root, labels=labels, seed=number, task=task))
        for number, (task, labels) in enumerate(TASKS.items(), start=1)
    }


@pytest.fixture
def base_loads(monkeypatch) -> list[int]:
    """One item each time that a base is loaded."""
    loads: list[int] = []
    real = classifier.engine.build.load_base

    def counted(base, num_labels, pooling):
        loads.append(num_labels)
        return real(base, num_labels, pooling)

    monkeypatch.setattr(classifier.engine.build, "load_base", counted)
    return loads


def _chances(predictions):
    return np.array([said.probabilities for said in predictions])


def _shared(settings) -> Hosts:
    return Hosts(settings.model_copy(update={"adapters": "shared"}))


def test_three_tasks_on_one_base_load_it_once_and_answer_as_each_alone(
    a_base, adapters, settings, base_loads
):
    hosts = _shared(settings)
    together = {task: hosts.load(str(a_base), directory) for task, directory in adapters.items()}
    assert len(base_loads) == 1
    for task, directory in adapters.items():
        alone = load(str(a_base), directory, settings).predict(TEXTS)
        np.testing.assert_allclose(_chances(together[task].predict(TEXTS)), _chances(alone), atol=1e-5)
    encoders = [one.answering.engine.encoder for one in together.values()]
    assert len({id(one.tables) for one in encoders}) == 1
    for layers in zip(*(one.layers for one in encoders), strict=True):
        assert len({id(layer.wide) for layer in layers}) == 1, "adapted by none of them"
        assert len({id(layer.attended) for layer in layers}) == 3
        assert len({id(layer.attended.shared) for layer in layers}) == 1


def test_an_exchange_does_not_load_the_base_again(a_base, adapters, settings, base_loads, tmp_path):
    hosts = _shared(settings)
    before = hosts.load(str(a_base), adapters["sentiment"])
    another = with_probes(a_base, tiny_adapter(a_base, tmp_path, seed=77))
    loads_before = len(base_loads)
    after = hosts.load(str(a_base), another)
    assert len(base_loads) == loads_before
    assert after.answering.engine.encoder.tables is before.answering.engine.encoder.tables
    assert not np.allclose(_chances(after.predict(TEXTS)), _chances(before.predict(TEXTS)), atol=0.01)


def test_an_adapter_that_does_not_answer_its_probes_is_refused_beside_others_too(
    a_base, adapters, settings, tmp_path
):
    hosts = _shared(settings)
    serving = hosts.load(str(a_base), adapters["sentiment"])
    wrong = with_probes(a_base, tiny_adapter(a_base, tmp_path, seed=5), shift=0.3)
    with pytest.raises(AdapterError, match="does not answer its own probe 1"):
        hosts.load(str(a_base), wrong)
    assert len(serving.predict(TEXTS)) == len(TEXTS)


def test_an_adapter_without_probes_is_examined_against_the_whole_model(
    a_base, adapters, settings, base_loads, tmp_path
):
    hosts = _shared(settings)
    first = hosts.load(str(a_base), adapters["sentiment"])
    second = hosts.load(str(a_base), tiny_adapter(a_base, tmp_path, seed=6))
    assert len(base_loads) == 2
    assert second.answering.engine.encoder.tables is first.answering.engine.encoder.tables


@pytest.mark.parametrize("targets", [["dense"], ["query", "word_embeddings"]])
def test_an_adapter_that_reaches_outside_the_layers_is_merged_and_answers_as_alone(
    a_base, adapters, settings, tmp_path, targets
):
    hosts = _shared(settings)
    serving = hosts.load(str(a_base), adapters["sentiment"])  # the base is in memory as long as it serves
    beyond = with_probes(a_base, tiny_adapter(a_base, tmp_path, seed=4, targets=targets))
    found = hosts.load(str(a_base), beyond).predict(TEXTS)
    alone = load(str(a_base), beyond, settings).predict(TEXTS)
    np.testing.assert_allclose(_chances(found), _chances(alone), atol=1e-5)
    assert serving.predict(TEXTS)


@pytest.mark.parametrize("mode", ["merged", "shared"])
def test_all_adapters_on_a_base_have_one_tokeniser(a_base, adapters, settings, mode):
    hosts = Hosts(settings.model_copy(update={"adapters": mode}))
    together = [hosts.load(str(a_base), directory) for directory in adapters.values()]
    assert len({id(one.tokeniser) for one in together}) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc/self/maps elsewhere")
@pytest.mark.parametrize("mode", ["merged", "shared"])
def test_a_classifier_keeps_no_file_of_the_base_in_memory(a_base, adapters, settings, mode):
    hosts = Hosts(settings.model_copy(update={"adapters": mode, "engine": "packed"}))
    together = [hosts.load(str(a_base), directory) for directory in adapters.values()]
    gc.collect()
    assert str(a_base) not in Path("/proc/self/maps").read_text(encoding="utf-8")
    assert len(together) == len(adapters)


def test_a_base_that_no_adapter_uses_any_more_is_released(a_base, adapters, settings):
    hosts = _shared(settings)
    serving = hosts.load(str(a_base), adapters["sentiment"])
    tables = weakref.ref(serving.answering.engine.encoder.tables.words)
    assert tables() is not None
    del serving
    gc.collect()
    assert tables() is None


def test_weights_that_were_replaced_on_disk_are_another_base(a_base, adapters, settings, tmp_path):
    copied = tmp_path / "base"
    shutil.copytree(a_base, copied)
    hosts = _shared(settings)
    first = hosts.load(str(copied), adapters["sentiment"])
    other = tiny_base(tmp_path / "other", "roberta", seed=9)
    (other / "model.safetensors").replace(copied / "model.safetensors")
    with pytest.raises(AdapterError, match="weights differ"):
        hosts.load(str(copied), adapters["tone"])
    assert first.predict(TEXTS)
