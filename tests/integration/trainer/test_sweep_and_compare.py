import csv
import json
import time

from filelock import FileLock

from tests.integration.trainer.conftest import reviewloop, start


def test_a_sweep_fits_every_point_once_and_hands_out_the_best(project, train_options, tmp_path):
    files = train_options[:4]
    arguments = [
        "sweep", *files, "--lora-r", "4", "--lora-alpha", "8", "--learning-rate", "1e-5,1e-2",
        "--batch-size", "16",
        "--jobs", "2", "--output-dir", str(tmp_path / "sweep"), "--adapter-dir", str(tmp_path / "best"),
        "--", *train_options[6:10], "--epochs", "2",
    ]  # fmt: skip
    first = reviewloop(*arguments)
    assert first.returncode == 0, first.stderr
    with (tmp_path / "sweep" / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert rows[0]["notes"] == "best"
    assert rows[0]["lr"] == "1e-2"
    assert [float(row["macro-F1"]) for row in rows] == sorted(
        (float(row["macro-F1"]) for row in rows), reverse=True
    )
    assert (tmp_path / "sweep" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "best" / "adapter_model.safetensors").is_file()
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "sweep").glob("*/run.json")}
    again = reviewloop(*arguments)
    assert again.returncode == 0, again.stderr
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "sweep").glob("*/run.json")} == written


def test_a_sweep_that_is_ended_takes_its_runs_along(project, train_options, tmp_path):
    arguments = ["sweep", *train_options[:4], "--lora-r", "4", "--lora-alpha", "8", "--learning-rate", "1e-3"]
    arguments += ["--output-dir", str(tmp_path / "sweep"), "--", *train_options[6:10], "--epochs", "500"]
    process = start(*arguments)
    lock = tmp_path / "sweep" / "r4-alpha8-lr1e-3-batch16" / ".lock-0"
    deadline = time.monotonic() + 120
    while not lock.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()
    assert process.wait(timeout=60) != 0
    with FileLock(lock, timeout=30):
        pass  # nobody works in it any more


def test_compare_sets_three_ways_side_by_side(train_options, tmp_path):
    done = reviewloop(
        "compare", *train_options[:8], "--output-dir", str(tmp_path / "c"), "--full-learning-rate", "3e-3",
        "--", "--epochs", "2", "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert list(rows) == ["lora", "full fine-tuning", "logistic regression on frozen embeddings"]
    assert all(0 <= row["test macro-F1"] <= 1 and row["saved, MB"] > 0 for row in rows.values())
    assert rows["lora"]["saved, MB"] < rows["full fine-tuning"]["saved, MB"]
