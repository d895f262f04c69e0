import numpy as np
import pytest
import torch

from classifier.calibration import expected_calibration_error, softmax
from reviews.errors import WrongUse
from trainer.errors import TrainingStopped
from trainer.fitting.checkpoint import Checkpoint
from trainer.fitting.fit_data import Position
from trainer.fitting.outputs import Places, place, prepare
from trainer.metrics import calibration_limit, evaluate, metric_intervals, standard_error_of_difference


def _calibrated(rows, seed):
    """Probabilities, and labels drawn from them."""
    random = np.random.default_rng(seed)
    probabilities = softmax(random.normal(0, 2, (rows, 3)))
    labels = (random.random((rows, 1)) > probabilities.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return probabilities, labels


def test_the_interval_holds_the_truth_in_about_95_of_100_samples():
    everything, truth = _calibrated(40_000, 0)
    known = evaluate(everything, truth)
    inside = dict.fromkeys(("accuracy", "macro_f1"), 0)
    for part in range(100):
        rows = slice(part * 400, part * 400 + 400)
        found = metric_intervals(everything[rows], truth[rows], seed=part)
        for name in inside:
            inside[name] += found[name][0] <= known[name] <= found[name][1]
    assert all(88 <= count <= 100 for count in inside.values())


def test_the_error_of_a_difference_is_that_of_samples_of_rows_and_smaller_where_predictions_are_alike():
    probabilities, truth = _calibrated(400, 0)
    first = probabilities.argmax(axis=1)
    random = np.random.default_rng(1)
    for share, truth_of in ((0.1, truth), (0.6, truth), (0.1, np.where(truth == 0, 1, truth))):
        second = np.where(random.random(400) < share, random.integers(0, 3, 400), first)
        found = standard_error_of_difference(first, second, truth_of)
        differences = []
        for _ in range(1000):
            rows = random.integers(0, 400, 400)
            both = (evaluate(np.eye(3)[one[rows]], truth_of[rows])["macro_f1"] for one in (first, second))
            differences.append(next(both) - next(both))
        assert found == pytest.approx(np.std(differences), rel=0.12)
    assert standard_error_of_difference(first, first, truth) == 0.0


def test_the_calibration_limit_holds_what_is_calibrated_and_not_what_is_too_sure():
    within = 0
    for seed in range(10):
        probabilities, labels = _calibrated(500, seed)
        within += expected_calibration_error(probabilities, labels) <= calibration_limit(probabilities)
    assert within >= 8
    probabilities, labels = _calibrated(500, 99)
    too_sure = softmax(3 * np.log(probabilities))
    assert expected_calibration_error(too_sure, labels) > calibration_limit(too_sure)


def test_a_checkpoint_keeps_every_bit(tmp_path):
    kept = Checkpoint(tmp_path / "run" / "c.safetensors", "f")
    position = Position(7, 1, 1, 0.1 + 0.2, 1, [{"loss": 1 / 3}], (2 / 3, 2))
    tensors = {"weight.a": torch.randn(3, 2), "first.a": torch.randn(2, 3).T}
    assert kept.load() is None
    kept.save(position, tensors)
    loaded, found = kept.load()
    assert loaded == position
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert [path.name for path in kept.path.parent.iterdir()] == ["c.safetensors"]


def test_another_runs_checkpoint_is_refused_and_a_damaged_one_told(tmp_path):
    path = tmp_path / "c.safetensors"
    Checkpoint(path, "one").save(Position(), {"weight.a": torch.ones(1)})
    with pytest.raises(WrongUse, match="another recipe"):
        Checkpoint(path, "two").load()
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(TrainingStopped, match="remove it to start anew"):
        Checkpoint(path, "one").load()


def test_a_checkpoint_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingStopped, match="cannot be written"):
        Checkpoint(tmp_path / "file" / "c.safetensors", "f").save(Position(), {})


def test_an_adapter_takes_the_place_of_an_adapter_and_of_nothing_else(tmp_path):
    target = tmp_path / "adapters"
    place({"adapter_config.json": b"1", "old": b""}, target)
    prepare(Places(tmp_path / "out", target), resume=False, overwrite=False)
    place({"adapter_config.json": b"2"}, target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"adapter_config.json": b"2"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapters", "out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(WrongUse, match="holds files that are no adapter"):
        prepare(Places(tmp_path / "out", tmp_path / "mine"), resume=False, overwrite=False)
