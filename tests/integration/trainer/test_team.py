import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.trainer.conftest import environment, reviewloop


# What reads the mean begins with a head that the first process fits: the other has to get it.
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_two_processes_see_the_rows_in_the_same_order_and_learn_as_well_as_one(
    train_options, tmp_path, pooling
):
    # Without dropout, what differs is only the order in which gradients are summed.
    options = [*train_options, "--lora-dropout", "0", "--pooling", pooling]
    one = reviewloop("train", *options, "--output-dir", str(tmp_path / "one"))
    assert one.returncode == 0, one.stderr
    launcher = Path(sys.executable).with_name("torchrun")
    two = subprocess.run(
        [launcher, "--standalone", "--nproc-per-node", "2", "--no-python", sys.executable, "-m", "reviewloop",
         "train", *options, "--output-dir", str(tmp_path / "two")],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert two.returncode == 0, two.stderr[-3000:]
    alone, together = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "two"))
    for mine, theirs in zip(alone["epochs"], together["epochs"], strict=True):
        assert abs(mine["loss"] - theirs["loss"]) < 0.02
        assert abs(mine["macro_f1"] - theirs["macro_f1"]) < 0.05
    assert abs(alone["metrics"]["test_macro_f1"] - together["metrics"]["test_macro_f1"]) < 0.05
