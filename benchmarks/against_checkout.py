"""The speed of the stream's path, of the classifier and of training here and in another checkout, in turns.

``python -m benchmarks.against_checkout DIR --data DATA [--only NAME]``: DIR is for instance a worktree of an
older commit. ``training`` computes in fp32, as a processor without matrix instructions for bf16 does, and
``training_bf16`` in bf16; with ONEDNN_MAX_CPU_ISA=AVX2 and ATEN_CPU_CAPABILITY=avx2 the first emulates a
processor with AVX2 alone. Each repetition runs both on the same Kafka, PostgreSQL and texts, each in a
process of its own that imports its own modules.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import path_null
from benchmarks.classifier_data import BASE
from benchmarks.figures import report, report_machine
from benchmarks.made_up import made_up_messages
from benchmarks.services import open_services
from benchmarks.stream import fill

REPETITIONS = 5
_INSTRUCTIONS = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
_HERE = Path(__file__).parent.parent
_PATH = """
import sys
from benchmarks import path_null
from benchmarks.services import Services
services = Services(sys.argv[1], sys.argv[2])
print(path_null._rate(path_null._run_ours(services, sys.argv[3])))
"""
_CLASSIFIER = """
import sys
from pathlib import Path
from benchmarks.classifier_speed import texts_of_each_kind
from benchmarks.contenders import ours
texts = texts_of_each_kind(Path(sys.argv[1]))["short"]
run = ours(engine="packed")
run(texts)
print(len(texts) / min(run(texts) for _ in range(3)))
"""
_TRAINING = """
import contextlib, sys, time
from itertools import pairwise
from pathlib import Path
from statistics import median
import torch
from classifier.settings import ClassifierSettings
from trainer.data.dataset import read_dataset
from trainer.fitting.fit import fit
from trainer.fitting.fit_data import FitRequest, Splits
from trainer.settings import TrainerSettings
rows = read_dataset(Path(sys.argv[1]) / "clothing_train.csv.gz", task="sentiment")
classifier = ClassifierSettings(base_model=sys.argv[2], device="cpu", precision=sys.argv[3])
moments = []
class Enough(Exception): pass
def tell(_):
    moments.append(time.perf_counter())
    if len(moments) > 9: raise Enough
with contextlib.suppress(Enough):
    fit(FitRequest(Splits(rows, rows), classifier, TrainerSettings()), tell)
print(1 / median(later - earlier for earlier, later in pairwise(moments[1:])))
"""
# A whole fit, as a nightly run does it for each recipe, but of few rows: with loading, validation and saving.
_FIT = """
import sys
from pathlib import Path
from classifier.settings import ClassifierSettings
from trainer.data.dataset import Dataset, read_dataset
from trainer.fitting.fit import fit
from trainer.fitting.fit_data import FitRequest, Splits
from trainer.settings import TrainerSettings
splits = []
for name, limit in (("train", 320), ("val", 80)):
    rows = read_dataset(Path(sys.argv[1]) / f"clothing_{name}.csv.gz", task="sentiment")
    splits.append(Dataset(rows.texts[:limit], rows.labels[:limit], rows.names, ""))
classifier = ClassifierSettings(base_model=sys.argv[2], device="cpu", precision=sys.argv[3])
# The same steps in both: an older checkout does not know the second setting.
asked = {"epochs": 1, "least_steps": 0}
settings = TrainerSettings(**{name: asked[name] for name in asked if name in TrainerSettings.model_fields})
made = fit(FitRequest(Splits(*splits), classifier, settings), lambda _: None)
print(1 / made.resources.seconds)
"""
NAMES = ("path", "classifier", "training", "training_bf16", "fit")


def main(older: Path, data: Path, names: Sequence[str] = NAMES) -> None:
    """Print the speeds of both checkouts, and the ratios within each repetition."""
    report_machine()
    print(json.dumps({"instructions": {name: os.environ.get(name) for name in _INSTRUCTIONS}}), flush=True)
    if "path" in names:
        _race_path(older)
    if "classifier" in names:
        _race("classifier_short_packed", older, _CLASSIFIER, data.resolve())
    programs = {
        "training": (_TRAINING, "fp32"),
        "training_bf16": (_TRAINING, "bf16"),
        "fit": (_FIT, "fp32"),
    }
    for name in [name for name in names if name in programs]:
        program, precision = programs[name]
        _race(name, older, program, data.resolve(), BASE, precision)


def _race_path(older: Path) -> None:
    with open_services() as services, services.topic() as topic:
        fill(services.bootstrap_servers, topic, made_up_messages(path_null.REVIEWS))
        _race("path_null", older, _PATH, services.bootstrap_servers, services.url, topic)


def _race(figure: str, older: Path, program: str, *arguments: object) -> None:
    here: list[float] = []
    there: list[float] = []
    for _ in range(REPETITIONS):
        here.append(_run(_HERE, program, *arguments))
        there.append(_run(older.resolve(), program, *arguments))
    report(f"{figure}.here", here, "1/s")
    report(f"{figure}.older", there, "1/s")
    report(f"{figure}.here_over_older", [new / old for new, old in zip(here, there, strict=True)], "times")


def _run(checkout: Path, program: str, *arguments: object) -> float:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        check=True,
        timeout=600,
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("older", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", choices=NAMES, action="append", help="several times for several; else all")
    asked = parser.parse_args()
    main(asked.older, asked.data, asked.only or NAMES)
