"""Memory, numbers that are none, repeated texts, probes."""

import json

import numpy as np
import pytest
import torch

from classifier.adapters.manifest import MANIFEST, Probe, read_files, read_manifest
from classifier.adapters.store import assemble, write_files
from classifier.engine import EngineOutput
from classifier.engine.answering import AnswerCache, Answering, RowAnswer
from classifier.engine.batching import TokenBudget, answer_within, packed_batches
from classifier.interface import load
from reviews.errors import AdapterError, ModelError


def _rows(*lengths):
    return [np.full(length, length, np.int32) for length in lengths]


def test_a_batch_that_does_not_fit_is_halved_and_every_row_still_answered():
    sizes = []

    def forward(rows, embed):
        size = sum(map(len, rows))
        if size > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(size)
        return torch.tensor([[float(row[0]), 0.0] for row in rows]), None

    budget = TokenBudget(128)
    answers = answer_within(budget, packed_batches, forward, _rows(*range(1, 31)), embed=False)
    assert answers.logits[:, 0].tolist() == list(range(1, 31))
    assert budget.tokens == 32
    assert max(sizes) <= 40


def test_rows_that_were_answered_are_not_asked_again():
    asked = []

    def forward(rows, embed):
        if len(asked) == 2 and len(rows) > 1:
            raise torch.OutOfMemoryError
        asked.extend(len(row) for row in rows)
        return torch.zeros(len(rows), 2), None

    answer_within(TokenBudget(64), packed_batches, forward, _rows(30, 30, 20, 20, 20), embed=False)
    assert sorted(asked) == [20, 20, 20, 30, 30]


def test_a_single_row_that_does_not_fit_is_an_error():
    def forward(rows, embed):
        raise torch.OutOfMemoryError("too much")

    with pytest.raises(torch.OutOfMemoryError):
        answer_within(TokenBudget(64), packed_batches, forward, _rows(5), embed=False)


def test_another_error_is_not_taken_for_memory():
    def forward(rows, embed):
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape"):
        answer_within(TokenBudget(64), packed_batches, forward, _rows(5), embed=False)


def test_the_budget_recovers_after_a_quiet_while_and_never_exceeds_its_limit():
    budget = TokenBudget(100, recover_after=3)
    budget.shrink()
    budget.shrink()
    assert budget.tokens == 25
    found = []
    for _ in range(9):
        budget.went_well()
        found.append(budget.tokens)
    assert found == [25, 25, 50, 50, 50, 100, 100, 100, 100]


class FakeEngine:
    """Answers with the row's first id; NaN where told. Embeds by the id and how often it was asked."""

    name = "fake"

    def __init__(self, broken=(), unembeddable=()):
        self.broken = broken
        self.unembeddable = unembeddable
        self.asked = []

    def answer(self, rows, *, embed=False):
        self.asked += [int(row[0]) for row in rows]
        logits = [[np.nan, 0] if row[0] in self.broken else [row[0], 1] for row in rows]
        states = [[np.inf if row[0] in self.unembeddable else row[0], 7, 7] for row in rows]
        embeddings = np.array(states, np.float32) if embed else None
        return EngineOutput(np.array(logits, np.float32), embeddings)


def test_an_answer_that_is_no_number_is_asked_for_once_more_in_fp32():
    exact = FakeEngine()
    answering = Answering(FakeEngine(broken={2}), lambda: exact)
    assert answering.logits(_rows(1, 2, 3))[:, 0].tolist() == [1, 2, 3]
    assert exact.asked == [2]


def test_a_text_without_a_number_in_fp32_either_is_refused():
    answering = Answering(FakeEngine(broken={2, 3}), lambda: FakeEngine(broken={2}))
    with pytest.raises(ModelError, match=r"1 row\(s\) are not finite, not in fp32 either"):
        answering.logits(_rows(1, 2, 3))


def test_a_text_seen_before_is_not_asked_again():
    engine = FakeEngine()
    answering = Answering(engine, FakeEngine, cache_size=10)
    first = answering.logits(_rows(1, 2, 1))
    again = answering.logits(_rows(2, 1, 3))
    assert sorted(engine.asked) == [1, 2, 3]
    assert first[:, 0].tolist() == [1, 2, 1]
    assert again[:, 0].tolist() == [2, 1, 3]


def test_embeddings_come_with_the_answers_in_one_pass_and_each_distinct_row_once():
    engine = FakeEngine()
    answering = Answering(engine, FakeEngine, cache_size=10)
    logits, embeddings = answering.embeddings(_rows(1, 2, 1))
    assert engine.asked == [1, 2]
    assert (logits[:, 0].tolist(), embeddings[:, 0].tolist()) == ([1, 2, 1], [1, 2, 1])


def test_an_answer_remembered_with_its_embedding_serves_both_questions():
    engine = FakeEngine()
    answering = Answering(engine, FakeEngine, cache_size=10)
    _, first = answering.embeddings(_rows(1, 2))
    _, again = answering.embeddings(_rows(2, 1))
    answering.logits(_rows(1, 2))
    assert engine.asked == [1, 2]
    assert again.tolist() == first[::-1].tolist()


def test_an_answer_remembered_without_its_embedding_is_asked_for_again_and_then_has_it():
    engine = FakeEngine()
    answering = Answering(engine, FakeEngine, cache_size=10)
    answering.logits(_rows(1))
    for _ in range(2):
        assert answering.embeddings(_rows(1))[1].tolist() == [[1, 7, 7]]
    assert engine.asked == [1, 1]


def test_what_is_no_number_is_asked_for_in_fp32_with_its_embedding():
    exact = FakeEngine()
    answering = Answering(FakeEngine(broken={2}, unembeddable={3}), lambda: exact)
    logits, embeddings = answering.embeddings(_rows(1, 2, 3))
    assert exact.asked == [2, 3]
    assert (logits[:, 0].tolist(), embeddings[:, 0].tolist()) == ([1, 2, 3], [1, 2, 3])


def test_an_answer_stands_though_its_embedding_is_no_number_in_fp32_either():
    answering = Answering(FakeEngine(unembeddable={3}), lambda: FakeEngine(unembeddable={3}))
    logits, embeddings = answering.embeddings(_rows(1, 3))
    assert logits[:, 0].tolist() == [1, 3]
    assert np.isinf(embeddings[1, 0])


def test_the_cache_forgets_what_was_not_used_for_longest():
    cache = AnswerCache(2)
    value = RowAnswer(np.zeros(2, np.float32))
    cache.put(b"a", value)
    cache.put(b"b", value)
    cache.get(b"a")
    cache.put(b"c", value)
    assert cache.get(b"b") is None
    assert cache.get(b"a") is not None
    assert len(cache) == 2


def test_a_cache_of_no_size_remembers_nothing():
    cache = AnswerCache(0)
    cache.put(b"a", RowAnswer(np.zeros(2, np.float32)))
    assert len(cache) == 0


def _with_probe(adapter, root, probabilities):
    files = read_files(adapter)[1]
    fields = read_manifest(adapter).model_dump() | {
        "probes": [Probe(text="Fine.", probabilities=probabilities)]
    }
    return write_files(assemble(files, {name: fields[name] for name in fields if name != "files"}), root)


def test_an_adapter_that_answers_its_probes_serves(base, adapter, settings, tmp_path):
    said = load(str(base), adapter, settings).predict(["Fine."])[0]
    probed = _with_probe(adapter, tmp_path, said.probabilities)
    assert json.loads((probed / MANIFEST).read_text())["probes"]
    assert load(str(base), probed, settings).predict(["Fine."])[0].label == said.label


def test_an_adapter_that_does_not_answer_its_probes_does_not_serve(base, adapter, settings, tmp_path):
    said = load(str(base), adapter, settings).predict(["Fine."])[0]
    turned = tuple(reversed(said.probabilities))
    with pytest.raises(AdapterError, match="does not answer its own probe 1"):
        load(str(base), _with_probe(adapter, tmp_path, turned), settings)
