import contextlib
import json
import time
from pathlib import Path

import pytest

from tests.commands import Running
from tests.integration.trainer.conftest import reviewloop, start


def _version(output: Path) -> str:
    return json.loads((output / "run.json").read_text())["adapter"]["version"]


@pytest.fixture(scope="module")
def uninterrupted(train_options, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted") / "out"
    done = reviewloop("train", *train_options, "--output-dir", str(output))
    assert done.returncode == 0, done.stderr
    return output


def test_a_run_killed_again_and_again_ends_with_the_same_adapter_to_the_bit(
    train_options, uninterrupted, tmp_path
):
    output = tmp_path / "out"
    kills = 0
    for seen in (1, 3):
        process = start("train", *train_options, "--output-dir", str(output), "--resume")
        _wait_for_writes(output / "checkpoint.safetensors", seen, process)
        process.kill()
        kills += process.wait() == -9
    assert kills == 2, "the run ended before it was killed"
    assert not (output / "adapter").exists()
    done = reviewloop("train", *train_options, "--output-dir", str(output), "--resume")
    assert done.returncode == 0, done.stderr
    weights = "adapter/adapter_model.safetensors"
    assert (output / weights).read_bytes() == (uninterrupted / weights).read_bytes()
    assert _version(output) == _version(uninterrupted)
    assert not (output / "checkpoint.safetensors").exists()


def test_an_unfinished_run_is_not_replaced_unasked(train_options, tmp_path):
    output = tmp_path / "out"
    process = start("train", *train_options, "--output-dir", str(output))
    _wait_for_writes(output / "checkpoint.safetensors", 2, process)
    process.kill()
    process.wait()
    refused = reviewloop("train", *train_options, "--output-dir", str(output))
    assert refused.returncode == 2
    assert "--resume continues it" in refused.stderr
    foreign = reviewloop("train", *train_options, "--output-dir", str(output), "--resume", "--seed", "7")
    assert foreign.returncode == 2
    assert "another recipe" in foreign.stderr


def test_a_finished_run_is_only_read_when_it_is_resumed(train_options, uninterrupted):
    before = (uninterrupted / "run.json").stat().st_mtime_ns
    again = reviewloop("train", *train_options, "--output-dir", str(uninterrupted), "--resume")
    assert again.returncode == 0, again.stderr
    assert (uninterrupted / "run.json").stat().st_mtime_ns == before


def _wait_for_writes(file: Path, count: int, process: Running) -> None:
    """Until the file has been written so many times, or the process has ended."""
    states: set[int] = set()
    deadline = time.monotonic() + 120
    while len(states) < count and process.poll() is None and time.monotonic() < deadline:
        if file.exists():
            with contextlib.suppress(FileNotFoundError):
                states.add(file.stat().st_mtime_ns)
        time.sleep(0.002)
