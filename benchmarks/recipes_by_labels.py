"""Which recipes are worth their time, with how many labels: each is fitted on the labels of one night.

The zero-shot adapter serves, the default strategy draws, and every recipe of the plan is fitted by the code
of a nightly run, LoRA without cross-checks, and measured on held-back reviews.

    python -m benchmarks.recipes_by_labels fit DATA WORK --counts 100 200 400 --seeds 0 1 2 3
    python -m benchmarks.recipes_by_labels show WORK

DATA has movies_stream.csv.gz and clothing_stream.csv.gz; plans are chosen on movies and on the even half of
clothing. It may be killed and started again.
"""

import argparse
import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.figures import report, report_machine
from classifier.settings import ClassifierSettings
from trainer.fitting.fit_data import FitProgress
from trainer.fitting.head_fit import RunFits
from trainer.metrics import evaluate
from trainer.nightly.candidates import CandidateFitter, plan_fits
from trainer.nightly.snapshot import Row, Snapshot
from trainer.settings import NightlySettings, RecipeSettings, SelectionSettings, TrainerSettings
from trainer.simulation.experiment import Experiment, Size, Start
from trainer.simulation.fits import AdapterModel, StoredFeatures, StreamRows, adapter_directory
from trainer.simulation.loop import Loop, Model, nights
from trainer.simulation.world import Ground, build

STREAMS = {"movies": ("movies_stream.csv.gz", None), "clothing": ("clothing_stream.csv.gz", "even"),
           "clothing-odd": ("clothing_stream.csv.gz", "odd")}  # fmt: skip
STRATEGIES = {"default": SelectionSettings(), "random": SelectionSettings(strategy="random")}
HELD_BACK, BACKLOG = 1000, 1000
Night = tuple[str, int, str, int]  # stream, labels, strategy, seed
RECIPES = (
    RecipeSettings(name="head-active", kind="head", start="active"),
    RecipeSettings(name="head-base", kind="head", start="base"),
    RecipeSettings(name="lora-active-slow", kind="lora", start="active", learning_rate=1e-4),
    RecipeSettings(name="lora-active", kind="lora", start="active", learning_rate=5e-4),
    RecipeSettings(name="lora-base", kind="lora", start="base", learning_rate=5e-4),
    RecipeSettings(name="refit-active-slow", kind="refit", start="active", learning_rate=1e-4),
    RecipeSettings(name="refit-active", kind="refit", start="active", learning_rate=5e-4),
    RecipeSettings(name="refit-base", kind="refit", start="base", learning_rate=5e-4),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=("fit", "show"))
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--streams", nargs="+", choices=list(STREAMS), default=["movies", "clothing"])
    parser.add_argument("--strategies", nargs="+", choices=list(STRATEGIES), default=["default"])
    parser.add_argument("--counts", nargs="+", type=int, default=[100, 200, 400])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3])
    parser.add_argument("--recipes", nargs="+", choices=[one.name for one in RECIPES])
    asked = parser.parse_args()
    if asked.task == "show":
        show(asked.folders[0] / "recipes.jsonl")
        return
    data, work = asked.folders
    for seed in asked.seeds:
        for stream in asked.streams:
            for count in asked.counts:
                for strategy in asked.strategies:
                    fit(data, work, (stream, count, strategy, seed), asked.recipes)


def fit(data: Path, work: Path, night: Night, names: list[str] | None) -> None:
    """Fit what is not done yet of one night."""
    stream, count, strategy, seed = night
    file, results = work / "recipes.jsonl", set[str]()
    if file.exists():
        lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
        results = {one["recipe"] for one in lines if _night(one) == night}
    wanted = {one.name for one in RECIPES} if names is None else set(names)
    recipes = [one for one in RECIPES if one.name in wanted - results]
    if not recipes:
        return
    world = build(_ground(data, work, stream, count), lambda _: None)
    loop = world.loop(strategy, seed)
    rows = StreamRows(world.rows.texts, world.ground.settings, 256, work / "cache")

    def fits(snapshot: Snapshot, active: Model | None, number: int) -> None:
        if not isinstance(active, AdapterModel):
            raise TypeError("The night begins without an adapter.")
        for recipe in recipes:
            line = _measured(loop, rows, recipe, snapshot, active, number)
            line |= {"stream": stream, "labels": count, "strategy": strategy, "seed": seed}
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
            print(line, flush=True)

    for _ in nights(replace(loop, fit=fits)):
        pass


def _ground(data: Path, work: Path, stream: str, count: int) -> Ground:
    file, half = STREAMS[stream]
    size = Size(
        nights=1, labels_a_night=count, backlog_rows=BACKLOG, arriving_rows=0, held_back_rows=HELD_BACK
    )
    experiment = Experiment.model_validate(
        {
            "name": stream,
            "stream": (file,),
            "half": half,
            "start": Start(zero_shot=True),
            "strategies": STRATEGIES,
            "lora": size,
            "nightly": {"min_train_rows": 1, "min_class_rows": 1, "min_validation_rows": 1},
            "gate": {"min_rows": 1, "min_class_rows": 1},
        }
    )
    classifier = ClassifierSettings(device="cpu")
    return Ground(experiment, "lora", (data / file,), None, None, work / "cache", classifier)


class _Unchecked(CandidateFitter):
    """Fits candidates as a nightly run does, but does not cross-check them: nothing is chosen here."""

    def _folds(self, count: int) -> list[tuple[Row, ...]]:
        del count
        return []


def _measured(  # noqa: PLR0917  one call
    loop: Loop, rows: StreamRows, recipe: RecipeSettings, snapshot: Snapshot, active: AdapterModel, seed: int
) -> dict[str, object]:
    nightly = NightlySettings(recipes=(recipe,), min_class_rows=1)
    settings: TrainerSettings = loop.settings.model_copy(update={"nightly": nightly})
    plans, skipped = plan_fits(snapshot, settings, active.directory, seed)
    line: dict[str, object] = {"recipe": recipe.name, "train_rows": len(snapshot.of("train"))}
    if skipped:
        return line | {"macro_f1": None, "skipped": skipped[0].reason}
    runs = RunFits(rows.classifier, features=StoredFeatures(rows, of_adapters=False))
    began = time.perf_counter()
    outcome = (
        _Unchecked(snapshot, rows.classifier, runs, lambda _: _silent, seed).candidate_of(plans[0]).outcome
    )
    seconds = time.perf_counter() - began
    named = hashlib.sha256(json.dumps([recipe.model_dump(), outcome.fingerprint]).encode()).hexdigest()
    candidate = AdapterModel(rows, adapter_directory(rows, replace(outcome, fingerprint=named)))
    held_back = loop.replay.held_back
    macro_f1 = evaluate(candidate(held_back), loop.replay.truth[held_back])["macro_f1"]
    return line | {"seconds": round(seconds, 2), "macro_f1": round(macro_f1, 5)}


def _silent(_: FitProgress) -> None:
    """What a fit calls after each step."""


def show(file: Path) -> None:
    """Print the figures: macro-F1 of each recipe, and what it gains over the head on the active adapter."""
    report_machine()
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    found = {(*_night(one), one["recipe"]): one["macro_f1"] for one in lines if one["macro_f1"]}
    for kind in sorted({(*key[:3], key[4]) for key in found}):
        stream, labels, strategy, recipe = kind
        fits = {key[3]: value for key, value in found.items() if (*key[:3], key[4]) == kind}
        heads = {seed: found.get((stream, labels, strategy, seed, "head-active")) for seed in fits}
        gains = [100 * (value - heads[seed]) for seed, value in fits.items() if heads[seed]]
        title = f"recipes.{stream}.{strategy}.{labels} labels.{recipe}"
        if gains:
            report(f"{title}: macro-F1", [100 * value for value in fits.values()], "%")
            report(f"{title}: gain over head-active", gains, "points")


def _night(line: dict[str, Any]) -> Night:
    return line["stream"], line["labels"], line.get("strategy", "default"), line["seed"]


if __name__ == "__main__":
    main()
