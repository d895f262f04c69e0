"""Three tasks on one base beside one task: reviews a second as a worker scores them, merged and shared.

Adapters of all layers have no layer in common; adapters of the uppermost layers leave the others to be
computed once in shared mode. Their weights are random: speed does not depend on them. Answers are not
remembered. A batch is tokenised once for all tasks, and tokenising counts.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.classifier_data import BASE, THREADS, clock, read, report_clock
from benchmarks.figures import report, report_machine
from classifier.adapters.store import assemble, peft_files, write_files
from classifier.base_model import locate
from classifier.interface import TaskClassifiers
from classifier.model import load_base
from classifier.settings import ClassifierSettings
from consumer.embeddings import EmbeddingSettings
from consumer.scoring import score_texts, tokenise_texts
from trainer.fitting.recipe import adapt
from trainer.settings import TrainerSettings

TASKS = ("sentiment", "tone", "topic")
RECIPES = {"all layers": None, "3 uppermost of 6": 3, "2 uppermost of 6": 2}
TEXTS = 96
WARM = 16
REPETITIONS = 5
_KEEP_NONE = EmbeddingSettings(keep="none")


def main(data: Path | None = None) -> None:
    texts = [row["text"] for row in read(data, "clothing_stream", TEXTS)]
    report_machine()
    report_clock()
    with TemporaryDirectory() as folder:
        for recipe, layers in RECIPES.items():
            adapters = {
                task: make_adapter(Path(folder), task, layers, seed) for seed, task in enumerate(TASKS)
            }
            for mode in ("merged", "shared"):
                compare(recipe, mode, adapters, texts)


def compare(recipe: str, mode: str, adapters: dict[str, Path], texts: list[str]) -> None:
    """One task and three in turns; a review counts once, however many tasks score it."""
    counts = {count: serve(mode, dict(list(adapters.items())[:count])) for count in (1, len(TASKS))}
    speeds: dict[int, list[float]] = {count: [] for count in counts}
    for classifiers in counts.values():
        score(classifiers, texts[:WARM])
    for _ in range(REPETITIONS):
        for count, classifiers in counts.items():
            began = clock()
            score(classifiers, texts)
            speeds[count].append(len(texts) / (clock() - began))
    for count, values in speeds.items():
        report(f"classifier.tasks.{recipe}.{mode}.{count}", values, "reviews/s")
    one, three = speeds.values()
    ratios = [slow / fast for slow, fast in zip(three, one, strict=True)]
    report(f"classifier.tasks.{recipe}.{mode}.three_over_one", ratios, "times")


def serve(mode: str, adapters: dict[str, Path]) -> list:
    tasks = TaskClassifiers(BASE, ClassifierSettings(adapters=mode, cache_texts=0, threads=THREADS))
    return [tasks.add_adapter(task, directory) for task, directory in adapters.items()]


def score(classifiers, texts: list[str]) -> None:
    encoded = tokenise_texts(classifiers, texts)
    score_texts(classifiers, texts, encoded, lambda: texts, _KEEP_NONE)


def make_adapter(folder: Path, task: str, layers: int | None, seed: int) -> Path:
    """An adapter for a task with drawn weights."""
    base = locate(BASE)
    torch.manual_seed(seed)
    model = adapt(load_base(base, 3), TrainerSettings(adapted_layers=layers))
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.02)
    fields = {"task": task, "labels": ("a", "b", "c"), "base_model": BASE, "base_sha256": base.weights_sha256}
    return write_files(assemble(peft_files(model, BASE, torch.bfloat16), fields), folder)
