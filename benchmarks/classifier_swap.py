"""How long batches take while the next adapter is loaded, proven and exchanged beside them."""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.classifier_data import ADAPTER, BASE, THREADS, read
from benchmarks.figures import percentile, report, report_machine
from classifier.adapters.manifest import read_files
from classifier.adapters.store import assemble, write_files
from classifier.interface import TaskClassifiers
from classifier.settings import ClassifierSettings

SWAPS = 24
BATCH_TEXTS = 128
QUIET_BATCHES = 15
TOLERANCE = 0.001


def main(data: Path | None) -> None:
    torch.set_num_threads(THREADS)
    report_machine()
    texts = [row["text"] for row in read(data, "clothing_stream", BATCH_TEXTS)]
    with tempfile.TemporaryDirectory() as folder:
        adapters = [ADAPTER, another(Path(folder))]
        serving = TaskClassifiers(BASE, ClassifierSettings(cache_texts=0, threads=THREADS))
        answers = {}
        for directory in reversed(adapters):
            built = serving.add_adapter("sentiment", directory)
            answers[built.adapter_version] = chances(built.predict(texts))
        quiet = [score(serving, texts, answers).seconds for _ in range(QUIET_BATCHES)]
        busy = during_swaps(serving, texts, adapters, answers)
    seconds, middle = [batch.seconds for batch in busy], median(quiet)
    report("classifier.swap.batch_while_quiet", quiet, "s")
    report("classifier.swap.batch_while_swapping", seconds, "s")
    report("classifier.swap.slowest_over_median", [max(seconds) / middle], "times")
    report("classifier.swap.p95_over_median", [percentile(seconds, 0.95) / middle], "times")
    report("classifier.swap.batches_while_swapping", [len(busy)], "batches")
    report(
        "classifier.swap.versions_seen",
        [len({name for batch in busy for name in batch.versions})],
        "versions",
    )
    report("classifier.swap.rows_whose_score_tells_the_version", [told_apart(answers)], "share")
    report("classifier.swap.rows_of_another_version_than_named", [sum(batch.wrong for batch in busy)], "rows")
    report("classifier.swap.largest_difference", [max(batch.difference for batch in busy)], "probability")


def another(folder: Path) -> Path:
    """The same weights under another temperature: another version with other answers."""
    manifest, files = read_files(ADAPTER)
    fields = manifest.model_dump(exclude={"files", "probes"}) | {"temperature": 3.0}
    return write_files(assemble(files, fields), folder)


def during_swaps(serving, texts, adapters, answers):
    """Batches one after another while a second thread exchanges adapters; its error is raised here."""

    def swap() -> None:
        for turn in range(1, SWAPS + 1):
            serving.add_adapter("sentiment", adapters[turn % 2])

    batches = []
    with ThreadPoolExecutor(1) as beside:
        swapping = beside.submit(swap)
        while not swapping.done():
            batches.append(score(serving, texts, answers))
        swapping.result()
    return batches


@dataclass(frozen=True)
class Batch:
    """How long it took, which versions its rows name, how far they are from those versions' scores."""

    seconds: float
    versions: frozenset[str]
    wrong: int
    difference: float


def score(serving, texts, answers) -> Batch:
    began = time.perf_counter()
    said = serving.predict(texts, "sentiment")
    took = time.perf_counter() - began
    expected = np.array([answers[one.adapter_version][row] for row, one in enumerate(said)])
    off = np.abs(chances(said) - expected).max(axis=1)
    versions = frozenset(one.adapter_version for one in said)
    return Batch(took, versions, int((off > TOLERANCE).sum()), float(off.max()))


def told_apart(answers) -> float:
    """The share of texts for which one version's score is no score of the other's."""
    one, other = answers.values()
    return float((np.abs(one - other).max(axis=1) > 2 * TOLERANCE).mean())


def chances(said):
    return np.array([one.probabilities for one in said])
