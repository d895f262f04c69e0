"""Tasks on one base whose adapters leave the lowest layers alone: these are computed once for all of them."""

from collections import Counter

import numpy as np
import pytest
import torch

import classifier.engine.packed
from classifier.engine.lower_states import LowerStates
from classifier.interface import TaskClassifiers
from classifier.settings import ClassifierSettings
from tests.tiny import tiny_adapter, tiny_base

TASKS = {"sentiment": ("bad", "good"), "tone": ("rude", "polite"), "topic": ("a", "b", "c")}
UPPER = ["layer.1.attention.self.query", "layer.1.attention.self.value", "layer.1.output.dense"]
TEXTS = ["Good.", "It broke after two days.", "a kettle", "Good.", "x" * 50, "short and long " * 4]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapters(base, tmp_path_factory):
    root = tmp_path_factory.mktemp("adapters")
    return {
        task: tiny_adapter(base, root, labels=labels, task=task, seed=seed, targets=UPPER)
        for seed, (task, labels) in enumerate(TASKS.items(), start=3)
    }


@pytest.fixture(params=["fp32", "bf16"])
def settings(request):
    return ClassifierSettings(
        device="cpu", adapters="shared", precision=request.param, cache_texts=0, batch_tokens=64
    )


@pytest.fixture
def runs(monkeypatch):
    """How often each layer ran, by the identity of its first product."""
    counts: Counter[int] = Counter()
    real = classifier.engine.packed._run_layer

    def counted(layer, *arguments):
        counts[id(layer.query_keys_values)] += 1
        return real(layer, *arguments)

    monkeypatch.setattr(classifier.engine.packed, "_run_layer", counted)
    return counts


def serve(base, adapters, settings):
    together = TaskClassifiers(str(base), settings)
    for task, directory in adapters.items():
        together.add_adapter(task, directory)
    return together


def logits(together, task):
    one = together.classifier(task)
    return one.logits(one.encode(TEXTS))


def held(together, task):
    return together.classifier(task).answering.engine._lower_states.held_bytes


def test_three_tasks_compute_the_common_layer_once_and_answer_exactly_as_each_alone(
    base, adapters, settings, runs
):
    alone, batches = {}, 0
    for task, directory in adapters.items():
        by_itself = serve(base, {task: directory}, settings)
        runs.clear()
        alone[task] = logits(by_itself, task)
        batches = runs.total()
    together = serve(base, adapters, settings)
    runs.clear()
    for task in adapters:
        np.testing.assert_array_equal(logits(together, task), alone[task])
    assert batches > 1
    assert runs.total() == batches
    assert held(together, "topic") == 0  # every task has read what was kept


def test_an_adapter_that_changes_the_lowest_layer_takes_no_part_and_the_others_still_share(
    base, adapters, settings, runs, tmp_path
):
    whole = tiny_adapter(base, tmp_path, labels=("no", "yes"), task="whole", seed=8)
    alone = logits(serve(base, {"whole": whole}, settings), "whole")
    together = serve(base, {"whole": whole, **adapters}, settings)
    runs.clear()
    np.testing.assert_array_equal(logits(together, "whole"), alone)
    batches = runs.total()
    for task in adapters:
        logits(together, task)
    assert runs.total() == 2 * batches


def test_a_task_that_was_removed_is_waited_for_no_longer(base, adapters, settings):
    together = serve(base, adapters, settings)
    for task in ("tone", "topic"):
        together.remove_adapter(task)
    logits(together, "sentiment")
    assert held(together, "sentiment") == 0


class _Reader:
    """Takes part as an engine does."""


def of_readers(count, monkeypatch, **limits):
    monkeypatch.setattr("classifier.engine.lower_states.unadapted_layers", lambda encoder: encoder)
    states, readers = LowerStates(**limits), [_Reader() for _ in range(count)]
    for reader in readers:
        states.join(reader, 1)
    return states, readers


def test_states_are_kept_within_their_bound_and_the_first_ones_stay(monkeypatch):
    states, readers = of_readers(2, monkeypatch, limit_bytes=1000)
    assert states.common_layers(readers[0]) == 1
    for number in range(10):
        states.keep((number,), torch.zeros(100))
    assert states.held_bytes == 800
    assert [states.take((number,)) is not None for number in range(3)] == [True, True, False]
    assert states.take((0,)) is None  # its only other reader has it


def test_states_that_nobody_asks_for_are_forgotten(monkeypatch):
    states, readers = of_readers(3, monkeypatch, limit_bytes=1000)
    states.keep(("never asked for",), torch.zeros(100))
    for number in range(300):
        states.keep((number,), torch.zeros(1))
        assert [states.take((number,)) is not None for _ in range(3)] == [True, True, False]
    assert states.held_bytes == 0
    assert len(readers) == 3
