"""How far the fast answers are from fp32 transformers with peft's own unmerged layers, on real texts."""

from pathlib import Path

import numpy as np
import torch

from benchmarks.classifier_data import ADAPTER, BASE, THREADS, read
from benchmarks.figures import report, report_machine
from classifier.adapters.manifest import read_manifest
from classifier.base_model import locate
from classifier.calibration import softmax
from classifier.engine.batching import padded_batches
from classifier.interface import load
from classifier.model import attach, load_base
from classifier.settings import ClassifierSettings

FILES = (("clothing_stream", 4000), ("clothing_test", 555), ("movies_stream", 1000))


def main(data: Path | None) -> None:
    torch.set_num_threads(THREADS)
    report_machine()
    rows = [row for name, count in FILES for row in read(data, name, count)]
    texts, truth = [row["text"] for row in rows], np.array([int(row["label"]) for row in rows])
    expected = None
    for precision in ("fp32", "int8", "bf16"):
        settings = ClassifierSettings(engine="packed", cache_texts=0, precision=precision)
        classifier = load(BASE, ADAPTER, settings)
        encoded = classifier.encode(texts)
        expected = reference(encoded) if expected is None else expected
        report_agreement(precision, classifier, expected, classifier.logits(encoded), truth)


def report_agreement(precision, classifier, expected, found, truth) -> None:
    """One number format beside the reference."""
    name = f"agreement.{precision}"
    temperature = classifier.manifest.temperature
    difference = np.abs(softmax(found, temperature) - softmax(expected, temperature)).max(axis=1)
    ours, theirs = found.argmax(1), expected.argmax(1)
    single(name, "texts", len(truth), "texts")
    single(name, "labels_that_agree", float((ours == theirs).mean()), "share")
    single(name, "accuracy_difference", float((ours == truth).mean() - (theirs == truth).mean()), "share")
    single(name, "largest_probability_difference", float(difference.max()), "probability")
    single(name, "mean_probability_difference", float(difference.mean()), "probability")


def single(name, figure, value, unit) -> None:
    report(f"classifier.{name}.{figure}", [value], unit)


def reference(encoded):
    """fp32 logits of transformers and peft, nothing merged, as they are."""
    model = attach(load_base(locate(BASE), 3), ADAPTER, read_manifest(ADAPTER))
    logits = np.empty((len(encoded), 3), np.float32)
    with torch.inference_mode():
        for batch in padded_batches(encoded.lengths, 4096):
            ids = [torch.from_numpy(encoded.row(int(index)).astype(np.int64)) for index in batch]
            padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
            mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
            logits[batch] = model(input_ids=padded, attention_mask=mask).logits.numpy()
    return logits
