"""Memory: over a million texts, by number format, and for two tasks on one base in either mode."""

import gc
import multiprocessing
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.classifier_data import ADAPTER, BASE, THREADS
from benchmarks.figures import report, report_machine
from benchmarks.peers.processes import TOKENISER_FILES
from classifier.adapters.manifest import read_files
from classifier.adapters.store import assemble, write_files
from classifier.base_model import locate, quiet_transformers
from classifier.interface import load
from classifier.model import load_base
from classifier.settings import ClassifierSettings

TEXTS, MINILM_TEXTS = 1_000_000, 20_000
TEXTS_AT_ONCE, MOST_WORDS = 5_000, 62
MEBIBYTE = 2**20
WORDS = np.array(
    ["the", "fit", "is", "great", "and", "it", "looks", "lovely", "but", "thin", "fabric", "after", "washing"]
)


def main(data: Path | None) -> None:
    del data  # made-up texts: only their lengths matter
    report_machine()
    spawn = multiprocessing.get_context("spawn")
    for name, count, run in (
        ("a_million_texts", TEXTS, over_many_texts),
        ("minilm", MINILM_TEXTS, over_some_texts),
    ):
        with spawn.Pool(1, maxtasksperchild=1) as pool:
            marks = pool.apply(run)
        report(f"classifier.memory.{name}.texts", [count], "texts")
        for share, bytes_ in zip(("10", "50", "100"), marks, strict=True):
            report(f"classifier.memory.{name}.after_{share}_percent", [bytes_ / MEBIBYTE], "MiB")
        growth = (marks[-1] - marks[0]) / MEBIBYTE
        report(f"classifier.memory.{name}.growth_over_the_last_90_percent", [growth], "MiB")
    for precision in ("fp32", "bf16", "int8"):
        with spawn.Pool(1, maxtasksperchild=1) as pool:
            held = pool.apply(one_number_format, (precision,))
        report(f"classifier.memory.{precision}.process", [held / MEBIBYTE], "MiB")
    with tempfile.TemporaryDirectory() as folder:
        second = another_task(Path(folder))
        for mode in ("merged", "shared"):
            with spawn.Pool(1, maxtasksperchild=1) as pool:
                one, two = pool.apply(one_and_two_tasks, (mode, second))
            report(f"classifier.memory.{mode}.one_task", [one / MEBIBYTE], "MiB")
            report(f"classifier.memory.{mode}.two_tasks_over_one", [two / one], "times")


def one_number_format(precision: str) -> int:
    """Resident bytes of a process that has loaded MiniLM in this number format and scored two texts."""
    classifier = load(BASE, ADAPTER, ClassifierSettings(device="cpu", threads=THREADS, precision=precision))
    classifier.predict(["good", "bad"])
    gc.collect()
    return resident()


def over_many_texts() -> list[int]:
    """Resident bytes after a tenth, half and all texts, on a narrow encoder: what may grow is around it."""
    with tempfile.TemporaryDirectory() as folder:
        base, adapter = narrow(Path(folder))
        classifier = load(base, adapter, ClassifierSettings(device="cpu", threads=THREADS))
    return score_made_up(classifier, TEXTS, MOST_WORDS)


def over_some_texts() -> list[int]:
    """The same with MiniLM, whose matrices make the libraries keep more."""
    classifier = load(BASE, ADAPTER, ClassifierSettings(device="cpu", threads=THREADS))
    return score_made_up(classifier, MINILM_TEXTS, MOST_WORDS // 2)


def score_made_up(classifier, count: int, most_words: int) -> list[int]:
    """Score texts of random lengths and look at the memory on the way."""
    random_, marks = np.random.default_rng(0), []
    at_once = min(TEXTS_AT_ONCE, count // 20)
    for done in range(at_once, count + 1, at_once):
        lengths = random_.integers(1, most_words + 1, at_once)
        words = random_.choice(WORDS, int(lengths.sum()))
        classifier.predict([" ".join(part) for part in np.split(words, lengths.cumsum()[:-1])])
        if done in (count // 10, count // 2, count):
            marks.append(resident())
    return marks


def narrow(folder: Path) -> tuple[str, Path]:
    """A seeded encoder of two thin layers and an adapter for it, with MiniLM's tokeniser."""
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    base, adapter = folder / "base", folder / "adapter"
    shape = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    with quiet_transformers():
        BertModel(shape).save_pretrained(base)
        for file in TOKENISER_FILES:
            shutil.copy(locate(BASE).directory / file, base)
        config = LoraConfig(task_type=TaskType.SEQ_CLS, r=8, target_modules=["query", "value"])
        get_peft_model(load_base(locate(str(base)), 3), config).save_pretrained(adapter)
    return str(base), adapter


def one_and_two_tasks(mode: str, second: Path) -> tuple[int, int]:
    """Bytes of weights that one task, and two tasks, hold; tensors in common count once."""
    from classifier.interface import TaskClassifiers

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
