"""Memory: over a million texts, and for two tasks on one base in either mode."""

import multiprocessing
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.classifier_data import ADAPTER, BASE, THREADS
from benchmarks.figures import report, report_machine
from classifier.adapter import read_files
from classifier.adapter_store import assemble, write_files
from classifier.base_model import locate
from classifier.engine.encoder import take_apart
from classifier.engine.packed import PackedEngine
from classifier.settings import ClassifierSettings

TEXTS = 1_000_000
ROWS_AT_ONCE = 5_000
MEBIBYTE = 2**20


def main(data: Path | None) -> None:
    del data  # made-up texts: only their lengths matter
    report_machine()
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1, maxtasksperchild=1) as pool:
        marks = pool.apply(over_many_texts)
    for share, resident in zip(("10", "50", "100"), marks, strict=True):
        report(f"classifier.memory.after_{share}_percent_of_a_million_texts", [resident / MEBIBYTE], "MiB")
    report("classifier.memory.growth_over_the_last_90_percent", [(marks[-1] - marks[0]) / MEBIBYTE], "MiB")
    with tempfile.TemporaryDirectory() as folder:
        second = another_task(Path(folder))
        for mode in ("merged", "shared"):
            with spawn.Pool(1, maxtasksperchild=1) as pool:
                one, two = pool.apply(one_and_two_tasks, (mode, second))
            report(f"classifier.memory.{mode}.one_task", [one / MEBIBYTE], "MiB")
            report(f"classifier.memory.{mode}.two_tasks_over_one", [two / one], "times")


def over_many_texts() -> list[int]:
    """Resident bytes after a tenth, half and all of the texts, random lengths, a narrow two-layer encoder."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.set_num_threads(THREADS)
    config = BertConfig(
        vocab_size=1000, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    model = BertForSequenceClassification(config).eval()
    engine = PackedEngine(take_apart(model, torch.bfloat16, torch.device("cpu")), 16384)
    random, marks = np.random.default_rng(0), []
    for done in range(ROWS_AT_ONCE, TEXTS + 1, ROWS_AT_ONCE):
        lengths = random.integers(2, 65, ROWS_AT_ONCE)
        engine.answer([random.integers(0, 1000, length).astype(np.int32) for length in lengths])
        if done in (TEXTS // 10, TEXTS // 2, TEXTS):
            marks.append(resident())
    return marks


def one_and_two_tasks(mode: str, second: Path) -> tuple[int, int]:
    """Bytes of weights that one task, and two tasks, hold; tensors in common count once."""
    from classifier.tasks import TaskClassifiers

    tasks = TaskClassifiers(BASE, ClassifierSettings(adapters=mode, cache_texts=0, threads=THREADS))
    first = tasks.add_adapter("sentiment", ADAPTER)
    both = [first, tasks.add_adapter("second", second)]
    return weight_bytes([first]), weight_bytes(both)


def weight_bytes(classifiers) -> int:
    seen: dict[int, torch.Tensor] = {}
    for classifier in classifiers:
        gather(classifier.answering.engine.encoder, seen)
    return sum(tensor.numel() * tensor.element_size() for tensor in seen.values())


def gather(part, seen) -> None:
    """Every tensor that a part of an engine holds, by identity."""
    if isinstance(part, torch.Tensor):
        seen[id(part)] = part
    elif isinstance(part, tuple):
        for item in part:
            gather(item, seen)
    elif callable(part) and getattr(part, "__closure__", None):
        for cell in part.__closure__:
            gather(cell.cell_contents, seen)
    elif type(part).__module__.startswith("classifier."):
        names = getattr(part, "__dict__", None) or getattr(part, "__slots__", ())
        for name in names:
            gather(getattr(part, name), seen)


def another_task(folder: Path) -> Path:
    manifest, files = read_files(ADAPTER)
    fields = manifest.model_dump(exclude={"files"}) | {
        "task": "second",
        "base_sha256": locate(BASE).weights_sha256,
    }
    return write_files(assemble(files, fields), folder)


def resident() -> int:
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * 4096
