"""Texts per second of the packed engine beside today's practice and other engines, interleaved in one run."""

from pathlib import Path
from tempfile import TemporaryDirectory

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
from benchmarks.contenders import REPETITIONS, compare, merged, one_by_one, ours, packed_formats, pipeline
from benchmarks.figures import report, report_machine
from benchmarks.peers.processes import open_peers
from benchmarks.review_lengths import long_tail, of_lengths, report_lengths
from classifier.base_model import locate
from classifier.devices import multiplies_bf16
from classifier.interface import load
from classifier.settings import ClassifierSettings

SHORT_TEXTS, REVIEWS = 256, 128
HAS_BF16 = multiplies_bf16(torch.device("cpu"))


def main(data: Path | None) -> None:
    kinds = texts_of_each_kind(data)
    torch.set_num_threads(THREADS)
    report_machine()
    report_clock()
    for kind, texts in kinds.items():
        report_lengths(f"classifier.{kind}", texts, BASE)
    model = merged()
    with open_peers(model, kinds["short"][:8]) as peers, TemporaryDirectory() as folder:
        contenders = {
            "one_by_one_unmerged": one_by_one(),
            "pipeline_32": pipeline(model, locate(BASE).directory),
            "general_fp32": ours(engine="general", precision="fp32"),
            **({"general_bf16": ours(engine="general", precision="bf16")} if HAS_BF16 else {}),
            **packed_formats(Path(folder)),
            **peers,
        }
        for kind, texts in kinds.items():
            compare(f"classifier.{kind}", texts, contenders)
    for kind, texts in kinds.items():
        share_of_the_machine(kind, texts, "fp32", torch.float32)
        if HAS_BF16:
            share_of_the_machine(kind, texts, "bf16", torch.bfloat16)


def texts_of_each_kind(data: Path | None) -> dict[str, list[str]]:
    """Short film reviews, clothing reviews as they are, and the same joined and cut to a long tail."""
    clothing = [row["text"] for row in read(data, "clothing_stream", 10 * REVIEWS)]
    return {
        "short": [row["text"] for row in read(data, "movies_stream", SHORT_TEXTS)],
        "reviews": clothing[:REVIEWS],
        "reviews_long_tail": of_lengths(clothing, long_tail(REVIEWS), BASE),
    }


def share_of_the_machine(kind, texts, precision, dtype) -> None:
    """What the packed engine makes of the rate at which the machine multiplies, measured in turns."""
    settings = ClassifierSettings(engine="packed", cache_texts=0, precision=precision)
    classifier = load(BASE, ADAPTER, settings)
    encoded = classifier.encode(texts)
    operations = forward_operations(encoded.lengths)
    classifier.logits(encoded)
    shares, rates = [], []
    for _ in range(REPETITIONS):
        rate = matrix_rate(dtype)
        began = clock()
        classifier.logits(encoded)
        shares.append(operations / (clock() - began) / rate)
        rates.append(rate / 1e9)
    report(f"classifier.{kind}.{precision}_matrix_rate", rates, "Gop/s")
    report(f"classifier.{kind}.share_of_{precision}_matrix_rate", shares, "share")
