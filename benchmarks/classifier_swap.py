"""How long batches take while the next adapter is loaded, proven and exchanged beside them."""

import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.classifier_data import ADAPTER, BASE, THREADS, read
from benchmarks.figures import percentile, report, report_machine
from classifier.adapter import read_files
from classifier.adapter_store import assemble, write_files
from classifier.settings import ClassifierSettings
from classifier.tasks import TaskClassifiers

SWAPS = 5
BATCH_TEXTS = 128


def main(data: Path | None) -> None:
    torch.set_num_threads(THREADS)
    report_machine()
    texts = [row["text"] for row in read(data, "clothing_stream", BATCH_TEXTS)]
    with tempfile.TemporaryDirectory() as folder:
        adapters = [ADAPTER, another(Path(folder))]
        serving = TaskClassifiers(BASE, ClassifierSettings(cache_texts=0))
        answers = {}
        for directory in adapters:
            built = serving.add_adapter("sentiment", directory)
            answers[built.adapter_version] = chances(built.predict(texts))
        quiet = [score(serving, texts, answers)[0] for _ in range(10)]
        busy, wrong = during_swaps(serving, texts, adapters, answers)
    middle = median(quiet)
    report("classifier.swap.batch_while_quiet", quiet, "s")
    report("classifier.swap.batch_while_swapping", busy, "s")
    report("classifier.swap.slowest_over_median", [max(busy) / middle], "times")
    report("classifier.swap.p95_over_median", [percentile(busy, 0.95) / middle], "times")
    report("classifier.swap.rows_of_another_version_than_named", [wrong], "rows")


def another(folder: Path) -> Path:
    """The same weights under another temperature: another version with other answers."""
    manifest, files = read_files(ADAPTER)
    fields = manifest.model_dump(exclude={"files", "probes"}) | {"temperature": 3.0}
    return write_files(assemble(files, fields), folder)


def during_swaps(serving, texts, adapters, answers):
    swapping = threading.Event()

    def swap() -> None:
        for turn in range(SWAPS):
            serving.add_adapter("sentiment", adapters[turn % 2])
        swapping.set()

    threading.Thread(target=swap).start()
    seconds, wrong = [], 0
    while not swapping.is_set():
        took, errors = score(serving, texts, answers)
        seconds.append(took)
        wrong += errors
    return seconds, wrong


def score(serving, texts, answers):
    began = time.perf_counter()
    said = serving.predict(texts, "sentiment")
    took = time.perf_counter() - began
    expected = answers[said[0].adapter_version]
    return took, int((np.abs(chances(said) - expected).max(axis=1) > 0.01).sum())


def chances(said):
    return np.array([one.probabilities for one in said])
