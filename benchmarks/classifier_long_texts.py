"""Texts beyond the model's view: the three rules, for accuracy and speed, on reviews made too long for it.

The reviews at hand end before 512 tokens; a view of 48 tokens makes most of them too long.
"""

from pathlib import Path

import numpy as np
import torch

from benchmarks.classifier_data import ADAPTER, BASE, THREADS, clock, read, report_clock
from benchmarks.figures import report, report_machine
from classifier.interface import load
from classifier.settings import ClassifierSettings

VIEW_TOKENS = 48
REPETITIONS = 5


def main(data: Path | None) -> None:
    torch.set_num_threads(THREADS)
    report_machine()
    report_clock()
    rows = [row for name in ("clothing_test", "clothing_val") for row in read(data, name)]
    contenders = {
        rule: load(BASE, ADAPTER, ClassifierSettings(
            long_texts=rule, max_length_tokens=VIEW_TOKENS, window_overlap_tokens=12, cache_texts=0
        ))
        for rule in ("truncate", "head_tail", "windows")
    }  # fmt: skip
    contenders["whole_text"] = load(BASE, ADAPTER, ClassifierSettings(cache_texts=0))
    lengths = contenders["whole_text"].encode([row["text"] for row in rows]).lengths
    chosen = [row for row, length in zip(rows, lengths, strict=True) if length > VIEW_TOKENS]
    texts, truth = [row["text"] for row in chosen], np.array([int(row["label"]) for row in chosen])
    report("classifier.long_texts.texts", [len(texts)], "texts")
    speeds = {name: [] for name in contenders}
    for repetition in range(REPETITIONS):
        for name, classifier in contenders.items():
            began = clock()
            logits = classifier.logits(classifier.encode(texts))
            speeds[name].append(len(texts) / (clock() - began))
            if repetition == 0:
                report(
                    f"classifier.long_texts.{name}.accuracy",
                    [float((logits.argmax(1) == truth).mean())],
                    "share",
                )
    for name, values in speeds.items():
        report(f"classifier.long_texts.{name}.speed", values, "texts/s")
