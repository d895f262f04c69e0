"""Trains a grid of recipes, each in its own process and directory; finished ones are not repeated."""

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reviews.errors import describe_exit
from trainer.fitting.outputs import RECORD

# Names of the grid's dimensions, as the table shows them, and the options of `train` that they are.
DIMENSIONS = {"r": "--lora-r", "alpha": "--lora-alpha", "lr": "--learning-rate", "batch": "--batch-size"}
_LOG = "train.log"


@dataclass(frozen=True, slots=True)
class Point:
    """One recipe of the grid: the value of each dimension, as it was written."""

    values: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """A name for people and for its directory: ``r8-alpha16-lr5e-4``."""
        return "-".join(f"{dimension}{value}" for dimension, value in self.values)

    @property
    def options(self) -> list[str]:
        """The options of ``train``."""
        return [part for name, value in self.values for part in (DIMENSIONS[name], value)]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a point.

    Attributes:
        point: Its recipe.
        record: See :func:`trainer.fitting.run_directory.record`; None where it failed.
        note: Why it failed, in a sentence; else empty.
    """

    point: Point
    record: Mapping[str, Any] | None
    note: str = ""

    @property
    def score(self) -> float:
        """Validation macro-F1; -1 where it failed."""
        return self.metric("macro_f1") if self.record else -1.0

    def metric(self, name: str) -> float:
        """A metric on the validation rows; NaN where there is none."""
        metrics = self.record["metrics"] if self.record else {}
        return float(metrics.get(f"validation_{name}", "nan"))


class TrainProcesses:
    """Runs ``reviewloop train --resume`` in processes: interrupted runs continue, finished ones are read.

    Args:
        options: Of ``train``, the same for every run.
        threads: CPU threads for each process; None leaves it to PyTorch.
    """

    def __init__(self, options: Sequence[str], threads: int | None = None) -> None:
        self._options = list(options)
        self._environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
        self._running: set[subprocess.Popen[bytes]] = set()

    def __call__(self, point: Point, directory: Path) -> str:
        """Fit a point; why it failed, empty when it is done."""
        return self.run(point.options, directory)

    def run(self, options: Sequence[str], directory: Path) -> str:
        """Fit with further options; why it failed, empty when it is done.

        Args:
            options: Of ``train``.
            directory: Of the run; what it says goes to ``train.log`` there.
        """
        directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "reviewloop", "train", *self._options, *options]
        command += ["--output-dir", str(directory), "--resume"]
        log = directory / _LOG
        with (
            log.open("w", encoding="utf-8") as said,
            subprocess.Popen(command, stdout=said, stderr=said, env=self._environment) as process,
        ):
            self._running.add(process)
            try:
                code = process.wait()
            except BaseException:
                process.terminate()
                raise
            finally:
                self._running.discard(process)
        return _failure(code, log)

    def stop(self) -> None:
        """End every process that is running."""
        for process in list(self._running):
            process.terminate()


def grid(values: Mapping[str, Sequence[str]]) -> list[Point]:
    """Every combination, in the order of the dimensions; one without values is left to the settings."""
    used = [(name, dict.fromkeys(values[name])) for name in DIMENSIONS if values.get(name)]
    names = [name for name, _ in used]
    combinations = itertools.product(*(options for _, options in used))
    return [Point(tuple(zip(names, combination, strict=True))) for combination in combinations]


def run_grid(points: Iterable[Point], root: Path, jobs: int, launch: TrainProcesses) -> Iterator[Result]:
    """Fit points, several at a time; results come as they are ready."""
    with ThreadPoolExecutor(jobs) as pool:
        started = {pool.submit(launch, point, root / point.name): point for point in points}
        try:
            for future in as_completed(started):
                point = started[future]
                error = future.result()
                yield Result(point, None if error else read_record(root / point.name), error)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            launch.stop()
            raise


def best_first(results: Iterable[Result]) -> list[Result]:
    """By validation macro-F1; of equals, the first by name."""
    return sorted(results, key=lambda result: (-result.score, result.point.name))


def _failure(code: int, log: Path) -> str:
    """The last line of what a process said; empty if it did its work."""
    if code == 0:
        return ""
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    last = re.sub(r"^Error: ", "", lines[-1]) if lines else "it said nothing"
    return f"{last} ({describe_exit(code)}; all of it in {log})"


def read_record(directory: Path) -> dict[str, Any]:
    """The record of a finished run."""
    content: dict[str, Any] = json.loads((directory / RECORD).read_bytes())
    return content
