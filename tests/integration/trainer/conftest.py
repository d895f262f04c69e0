import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests import commands
from tests.tiny import tiny_base


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Path:
    """A tiny base and rows that only their first letters tell apart."""
    folder = tmp_path_factory.mktemp("project")
    tiny_base(folder / "base")
    random = np.random.default_rng(0)
    for name, count in (("train", 160), ("val", 48), ("test", 48)):
        lines = ["text,label"]
        for _ in range(count):
            label = int(random.integers(0, 3))
            lines.append("abc"[label] * 3 + "".join(random.choice(list("xyz"), 6)) + f",{label}")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def train_options(project) -> list[str]:
    return [
        "--train-file", str(project / "train.csv"), "--val-file", str(project / "val.csv"),
        "--test-file", str(project / "test.csv"), "--base-model", str(project / "base"),
        "--device", "cpu", "--precision", "fp32", "--epochs", "3", "--learning-rate", "5e-3",
        "--lora-dropout", "0.1", "--checkpoint-steps", "1", "--least-steps", "0",
    ]  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | more


def reviewloop(*arguments: str) -> subprocess.CompletedProcess[str]:
    return commands.run(*arguments, env=environment(), timeout=600)


def start(*arguments: str) -> commands.Running:
    return commands.start(*arguments, env=environment())
