"""How good an adapter is that no label has made, by the bundled sentences about sentiment.

On movies (all rows) and the even half of clothing, which sentences and rule were chosen on, and on the odd
half, which they were not. With the mean of the similarities as it is, and taken away.
"""

from pathlib import Path

import numpy as np

from benchmarks.classifier_data import read
from benchmarks.figures import report, report_machine
from benchmarks.kept_features import FrozenOfBase
from reviews.task import DEFAULT_LABELS
from trainer.fitting.prototypes import prototype_head
from trainer.fitting.zero_shot import MOST_SAMPLED
from trainer.metrics import evaluate
from trainer.simulation.stream import half_of


def main(data: Path | None) -> None:
    report_machine()
    features = FrozenOfBase()
    texts = [features(label.texts) for label in DEFAULT_LABELS]
    clothing = read(data, "clothing_stream", None)
    streams = {"movies": read(data, "movies_stream", None)} | {
        f"clothing.{half}": [row for row in clothing if half_of(row["text"]) == half]
        for half in ("even", "odd")
    }
    for name, rows in streams.items():
        found = features([row["text"] for row in rows])
        truth = np.array([int(row["label"]) for row in rows])
        sample = found[np.random.default_rng(0).permutation(len(found))[:MOST_SAMPLED]]
        head = prototype_head(texts, sample)
        measure(f"zero_shot.{name}", head.logits(found), truth)
        measure(f"zero_shot.{name}.centred", head.logits(found) - head.logits(sample).mean(axis=0), truth)


def measure(name: str, logits, truth) -> None:
    found = evaluate(np.eye(logits.shape[1])[logits.argmax(axis=1)], truth)
    for metric in ("macro_f1", "accuracy"):
        report(f"{name}.{metric}", [100 * found[metric]], "%")


if __name__ == "__main__":
    main(None)
