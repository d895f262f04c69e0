"""Texts per second of the packed engine beside today's practice and other engines, interleaved in one run."""

import json
import os
import shutil
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

import torch

from benchmarks.classifier_data import (
    ADAPTER,
    BASE,
    THREADS,
    clock,
    forward_operations,
    matrix_rate,
    read,
    report_clock,
)
from benchmarks.figures import report, report_machine
from classifier.adapter import read_manifest
from classifier.base_model import locate
from classifier.classifier import load
from classifier.merging import attach, load_base, merge
from classifier.quiet import quiet_transformers
from classifier.settings import ClassifierSettings

REPETITIONS = 5
PEERS_PYTHON = "REVIEWLOOP_PEERS_PYTHON"


def main(data: Path | None) -> None:
    torch.set_num_threads(THREADS)
    report_machine()
    report_clock()
    peers = Peers()
    contenders = {
        "one_by_one_unmerged": one_by_one(attached()),
        "pipeline_32": pipeline(merged(), locate(BASE).directory),
        "general_fp32": ours(engine="general", precision="fp32"),
        "general_bf16": ours(engine="general"),
        "packed": ours(engine="packed"),
        **{name: peers.runner(name) for name in peers.names},
    }
    for kind, name, count in (("short", "movies_stream", 256), ("reviews", "clothing_stream", 128)):
        compare(kind, [row["text"] for row in read(data, name, count)], contenders)
    peers.close()
    share_of_the_machine([row["text"] for row in read(data, "clothing_stream", 128)])
    with tempfile.TemporaryDirectory() as folder:
        roberta_base_shape(Path(folder), [row["text"] for row in read(data, "clothing_stream", 16)])


def compare(kind, texts, contenders) -> None:
    speeds = defaultdict(list)
    for run in contenders.values():
        run(texts[:64])
    for _ in range(REPETITIONS):
        for name, run in contenders.items():
            seconds = run(texts)
            speeds[name].append(len(texts) / seconds)
    for name, values in speeds.items():
        report(f"classifier.{kind}.{name}", values, "texts/s")
    for name in contenders:
        if name != "packed":
            ratios = [one / other for one, other in zip(speeds["packed"], speeds[name], strict=True)]
            report(f"classifier.{kind}.packed_over_{name}", ratios, "times")


def share_of_the_machine(texts) -> None:
    classifier = load(BASE, ADAPTER, ClassifierSettings(engine="packed", cache_texts=0))
    encoded = classifier.encode(texts)
    operations = forward_operations(encoded.lengths)
    shares, rates = [], []
    for _ in range(REPETITIONS):
        rate = matrix_rate()
        began = clock()
        classifier.logits(encoded)
        shares.append(operations / (clock() - began) / rate)
        rates.append(rate / 1e9)
    report("classifier.machine.bf16_matrix_rate", rates, "Gop/s")
    report("classifier.machine.share_of_matrix_rate", shares, "share")


def roberta_base_shape(folder: Path, texts) -> None:
    """Random weights in RoBERTa base's shape (a smaller vocabulary, which costs nothing): speed alone."""
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import RobertaConfig, RobertaModel

    base = folder / "base"
    with quiet_transformers():
        RobertaModel(RobertaConfig(vocab_size=30522, pad_token_id=0, type_vocab_size=1)).save_pretrained(base)
        for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
            shutil.copy(locate(BASE).directory / file, base)
        config = LoraConfig(task_type=TaskType.SEQ_CLS, r=8, target_modules=["query", "value"])
        get_peft_model(load_base(locate(str(base)), 3), config).save_pretrained(folder / "adapter")
    classifier = load(str(base), folder / "adapter", ClassifierSettings(engine="packed", cache_texts=0))
    manifest = read_manifest(folder / "adapter")
    model = merge(load_base(locate(str(base)), 3), folder / "adapter", manifest)
    compare(
        "roberta_base_shape",
        texts,
        {"pipeline_32": pipeline(model, base), "packed": timed(classifier.predict)},
    )


def timed(run):
    def seconds(texts) -> float:
        began = clock()
        run(texts)
        return clock() - began

    return seconds


def ours(**settings):
    return timed(load(BASE, ADAPTER, ClassifierSettings(cache_texts=0, threads=THREADS, **settings)).predict)


def attached():
    return attach(load_base(locate(BASE), 3), ADAPTER, read_manifest(ADAPTER))


def merged():
    return merge(load_base(locate(BASE), 3), ADAPTER, read_manifest(ADAPTER))


def one_by_one(model):
    """What tutorials show."""
    from transformers import AutoTokenizer

    tokeniser = AutoTokenizer.from_pretrained(locate(BASE).directory)

    def run(texts) -> None:
        with torch.inference_mode():
            for text in texts:
                inputs = tokeniser(text, return_tensors="pt", truncation=True, max_length=512)
                model(**inputs).logits.softmax(-1).max(-1)

    return timed(run)


def pipeline(model, directory):
    from transformers import AutoTokenizer
    from transformers import pipeline as make

    tokeniser = AutoTokenizer.from_pretrained(directory)
    with quiet_transformers():
        run = make("text-classification", model=model, tokenizer=tokeniser, batch_size=32, device="cpu")
    return timed(lambda texts: run(list(texts), truncation=True, max_length=512))


class Peers:
    """Engines in an environment of their own, named by REVIEWLOOP_PEERS_PYTHON; none without it."""

    def __init__(self) -> None:
        python = os.environ.get(PEERS_PYTHON)
        self.names = ["onnxruntime_int8", "openvino_bf16"] if python else []
        self._process = None
        if python:
            site = str(Path(torch.__file__).parents[1])
            self._process = subprocess.Popen(
                [python, "-m", "benchmarks.peers.classifier_engines"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), site])},
            )  # fmt: skip

    def runner(self, name):
        def run(texts) -> float:
            self._process.stdin.write(json.dumps({"engine": name, "texts": list(texts)}) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())["seconds"]

        return run

    def close(self) -> None:
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait()
