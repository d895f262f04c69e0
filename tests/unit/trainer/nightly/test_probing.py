"""The load-and-query probe, where an answer depends on the batch that it was given in."""

from pathlib import Path

import numpy as np
import pytest

from classifier.adapters.manifest import read_files
from classifier.interface import load
from classifier.settings import ClassifierSettings
from reviews.errors import AdapterError
from tests.tiny import SENTIMENTS, tiny_adapter, tiny_base
from tests.unit.trainer.nightly.rows import review
from trainer.nightly.held_out import check_stored_copy, first_rows_alone, gather
from trainer.nightly.snapshot import HELD_OUT, Snapshot, freeze
from trainer.settings import NightlySettings

SETTINGS = ClassifierSettings(device="cpu", precision="bf16", engine="general")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_base(tmp_path / "base")


@pytest.fixture
def frozen() -> Snapshot:
    random = np.random.default_rng(0)
    reviews = [
        review(number, SENTIMENTS[number % 3], "".join(random.choice(list("abcxyz "), 3 + number % 57)))
        for number in range(600)
    ]
    return freeze(reviews, SENTIMENTS, NightlySettings().shares, lambda *_: 1.0, frozenset())


def test_a_candidate_in_bf16_on_the_general_engine_passes_the_probe(base, frozen, tmp_path):
    adapter = tiny_adapter(base, tmp_path / "adapters")
    candidate = load(str(base), adapter, SETTINGS)
    first_rows = first_rows_alone(candidate, frozen)
    evidence = gather(frozen, None, candidate)
    assert len(frozen.of(*HELD_OUT)) == len(evidence.candidate) > 2 * len(first_rows)
    files = read_files(adapter)[1]
    check = check_stored_copy(
        files, tmp_path / "stored", lambda found: load(str(base), found, SETTINGS), frozen, first_rows
    )
    assert (check.passed, check.value) == (True, 0.0), check.detail


def test_another_adapter_than_the_one_that_was_judged_fails_the_probe(base, frozen, tmp_path):
    judged, other = (tiny_adapter(base, tmp_path / "adapters", seed=seed) for seed in (1, 2))
    first_rows = first_rows_alone(load(str(base), judged, SETTINGS), frozen)
    files = read_files(other)[1]
    check = check_stored_copy(
        files, tmp_path / "stored", lambda found: load(str(base), found, SETTINGS), frozen, first_rows
    )
    assert not check.passed


def test_an_adapter_that_cannot_be_loaded_fails_the_probe_with_the_reason(base, frozen, tmp_path):
    adapter = tiny_adapter(base, tmp_path / "adapters")
    first_rows = first_rows_alone(load(str(base), adapter, SETTINGS), frozen)

    def refuse(directory: Path):
        raise AdapterError("It is damaged.")

    check = check_stored_copy(read_files(adapter)[1], tmp_path / "stored", refuse, frozen, first_rows)
    assert (check.passed, check.detail) == (False, "It is damaged.")
