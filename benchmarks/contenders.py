"""Ways to score texts on one machine, each a function from texts to seconds, and their race in turns."""

import json
from collections import defaultdict
from pathlib import Path

import torch

from benchmarks.classifier_data import ADAPTER, BASE, THREADS, clock
from benchmarks.figures import report
from classifier.adapters.manifest import read_manifest
from classifier.base_model import locate, quiet_transformers
from classifier.devices import multiplies_bf16
from classifier.interface import load
from classifier.model import attach, load_base, merge
from classifier.settings import ClassifierSettings

REPETITIONS = 5
WARM_TEXTS = 64


def compare(figure, texts, contenders, repetitions=REPETITIONS, champion="packed") -> None:
    """Each contender scores the same texts in each repetition, one after another; ratios are within one."""
    speeds = defaultdict(list)
    for run in contenders.values():
        run(texts[:WARM_TEXTS])
    for _ in range(repetitions):
        for name, run in contenders.items():
            speeds[name].append(len(texts) / run(texts))
    for name, values in speeds.items():
        report(f"{figure}.{name}", values, "texts/s")
    for name in contenders:
        if name != champion:
            ratios = [one / other for one, other in zip(speeds[champion], speeds[name], strict=True)]
            report(f"{figure}.{champion}_over_{name}", ratios, "times")


def timed(run):
    """Seconds that it takes, as a function of the texts."""

    def seconds(texts) -> float:
        began = clock()
        run(texts)
        return clock() - began

    return seconds


def ours(**settings):
    """This project, without remembering answers."""
    return timed(load(BASE, ADAPTER, ClassifierSettings(cache_texts=0, threads=THREADS, **settings)).predict)


def packed_formats(folder: Path, base: str = BASE, adapter: Path = ADAPTER, **settings):
    """The packed engine as it is chosen here, and in each number format that this processor multiplies.

    Args:
        folder: Remembers what is measured and decided.
        base: The base model.
        adapter: The adapter.
        settings: More of them.
    """

    def made(precision):
        chosen = ClassifierSettings(
            engine="packed", cache_texts=0, threads=THREADS, precision=precision, number_formats=folder,
            **settings,
        )  # fmt: skip
        return load(base, adapter, chosen)

    formats = ["auto", "fp32", "int8"] + (["bf16"] if multiplies_bf16(torch.device("cpu")) else [])
    found = {}
    for precision in formats:
        classifier = made(precision)
        name = "packed" if precision == "auto" else f"packed_{precision}"
        execution = classifier.execution
        said = {"number_format": execution.number_format, "reason": execution.format_reason}
        print(json.dumps({"contender": name, **said}), flush=True)
        found[name] = timed(classifier.predict)
    return found


def one_by_one():
    """What tutorials show: peft's layers beside the base's, a text at a time."""
    from transformers import AutoTokenizer

    model = attach(load_base(locate(BASE), 3), ADAPTER, read_manifest(ADAPTER))
    tokeniser = AutoTokenizer.from_pretrained(locate(BASE).directory)

    def run(texts) -> None:
        with torch.inference_mode():
            for text in texts:
                inputs = tokeniser(text, return_tensors="pt", truncation=True, max_length=512)
                model(**inputs).logits.softmax(-1).max(-1)

    return timed(run)


def pipeline(model, directory: Path, device: str = "cpu", batch_size: int = 32):
    """Transformers' own, on a merged model."""
    from transformers import AutoTokenizer
    from transformers import pipeline as make

    tokeniser = AutoTokenizer.from_pretrained(directory)
    with quiet_transformers():
        run = make(
            "text-classification", model=model, tokenizer=tokeniser, batch_size=batch_size, device=device
        )
    return timed(lambda texts: run(list(texts), truncation=True, max_length=512))


def merged(base: str = BASE, adapter: Path = ADAPTER):
    """The base with the adapter's matrices added in, as transformers runs it."""
    manifest = read_manifest(adapter)
    return merge(load_base(locate(base), len(manifest.labels)), adapter, manifest)
