"""What all strategies and seeds share, and the units of work over processes.

Each night's line is on the disk before the next night begins.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt

from classifier.adapters.manifest import read_manifest
from classifier.settings import ClassifierSettings
from reviews.errors import ReviewLoopError
from reviews.task import TaskSettings, described_labels
from trainer.data.dataset import Dataset, read_dataset
from trainer.fitting.fit_data import Report
from trainer.simulation.experiment import Experiment, FitKind, fingerprint
from trainer.simulation.fits import AdapterModel, NightFits, StreamRows, trained_start
from trainer.simulation.loop import FitNight, Loop, Model, nights
from trainer.simulation.results import Unit, append, nights_done, read_lines, repair
from trainer.simulation.stream import Annotator, Stream, read_stream, replay
from trainer.simulation.watch import Detect, Detectors

_worlds: list["World"] = []


@dataclass(frozen=True, slots=True)
class Ground:
    """Where an experiment is run: what a worker process needs to build its own world.

    Attributes:
        experiment: What is simulated.
        fit: ``head`` or ``lora``.
        files: The stream's labelled files, one after the other.
        adapter: Directory of the first adapter; None where it is made, or there is none.
        train_on: The file that the first adapter is trained on; None where it needs none.
        cache: Directory for embeddings and adapters.
        classifier: Device and precision; the experiment names base and task.
    """

    experiment: Experiment
    fit: FitKind
    files: tuple[Path, ...]
    adapter: Path | None
    train_on: Path | None
    cache: Path
    classifier: ClassifierSettings

    @property
    def settings(self) -> ClassifierSettings:
        """The classifier's settings with the experiment's base and task."""
        named = {"base_model": self.experiment.base_model, "task": self.experiment.task}
        return self.classifier.model_copy(update={**named, "base_revision": None})


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """What is computed once for all strategies and seeds.

    Attributes:
        ground: What it was made from.
        stream: The rows, and which file each is of.
        start: The active adapter before the first night; None in a cold start.
        fit: Fits the plan of a night.
        embeddings: float16 (rows, hidden); None where no strategy wants them.
        start_hash: Content hash of the first adapter; None in a cold start.
        detect: Makes drift detectors, for all strategies and seeds.
    """

    ground: Ground
    stream: Stream
    start: Model | None
    fit: FitNight
    embeddings: npt.NDArray[np.float16] | None
    start_hash: str | None
    detect: Detect

    @property
    def rows(self) -> Dataset:
        """The stream's rows."""
        return self.stream.rows

    def loop(self, strategy: str, seed: int) -> Loop:
        """The nights of one strategy and seed.

        Raises:
            WrongUse: If the stream has too few rows.
        """
        experiment, fit = self.ground.experiment, self.ground.fit
        annotator = Annotator(len(self.rows.names), experiment.noise)
        truth, size = np.array(self.rows.labels, np.int64), experiment.size(fit)
        return Loop(
            replay=replay(self.stream.groups, truth, self.stream.files, size, annotator, seed=seed),
            labels=self.rows.names,
            start=self.start,
            start_labels=experiment.start.labels,
            fit=self.fit,
            is_zero_shot=experiment.start.zero_shot,
            selection=experiment.strategies[strategy],
            settings=experiment.settings(fit),
            texts=self.rows.texts,
            embeddings=self.embeddings,
            seed=seed,
            detect=self.detect,
        )


def build(ground: Ground, report: Report) -> World:
    """Read the rows, make the first adapter if it is missing, and compute what the kind of fit needs.

    Raises:
        WrongUse: If a file is not as it should be.
        ModelError: If the base cannot be had.
        AdapterError: If the first adapter cannot be used.
    """
    experiment = ground.experiment
    stream = read_stream(ground.files, experiment.task, experiment.stream_rows, experiment.half)
    names, settings = stream.rows.names, experiment.settings(ground.fit)
    rows = StreamRows(stream.rows.texts, ground.settings, settings.max_length_tokens, ground.cache)
    detect = Detectors(experiment.watch)
    fit = NightFits(rows, settings, heads_alone=ground.fit == "head")
    embeddings = None
    if any(one.strategy == "diverse-margin" for one in experiment.contenders(ground.fit).values()):
        embeddings = rows.features(None).astype(np.float16)
    if experiment.start.zero_shot:
        labels = described_labels(experiment.task, _described(experiment), names)
        model, name = fit.zero_shot(labels)
        return World(ground, stream, model, fit, embeddings, name, detect)
    adapter = _adapter(ground, names, report)
    if adapter is None:
        return World(ground, stream, None, fit, embeddings, None, detect)
    start_hash = read_manifest(adapter, experiment.task).content_hash
    return World(ground, stream, AdapterModel(rows, adapter), fit, embeddings, start_hash, detect)


def run(world: World, file: Path, jobs: int) -> Iterator[tuple[int, int]]:
    """Compute what the results file lacks.

    Yields:
        Units done, and units in all, whenever one is done.
    """
    repair(file)
    done, wanted = nights_done(read_lines(file)), units(world)
    whole = set(range(world.ground.experiment.size(world.ground.fit).nights + 1))
    missing = [unit for unit in wanted if done.get(unit, set()) < whole]
    finished = len(wanted) - len(missing)
    yield finished, len(wanted)
    for _ in _worked(world, missing, file, jobs):
        finished += 1
        yield finished, len(wanted)


def units(world: World) -> list[Unit]:
    """Every strategy with every seed; seeds first, so that all strategies have some soon."""
    ground = world.ground
    experiment, fit = ground.experiment, ground.fit
    size = experiment.size(fit)
    names = {
        name: fingerprint(experiment, fit, name, world.rows.sha256, world.start_hash)
        for name in experiment.contenders(fit)
    }
    return [
        Unit(experiment.name, fit, strategy, seed, name)
        for seed in range(size.first_seed, size.first_seed + size.seeds)
        for strategy, name in names.items()
    ]


def work(world: World, unit: Unit, file: Path) -> None:
    """Simulate the nights of a unit, and append those that the file lacks.

    Nights that it has are simulated again, since the later ones follow from them: heads are fitted quickly,
    adapters are in the cache.
    """
    done = nights_done(read_lines(file)).get(unit, set())
    for line in nights(world.loop(unit.strategy, unit.seed)):
        if line["night"] not in done:
            append(file, unit.line(line))


def _described(experiment: Experiment) -> tuple[TaskSettings, ...]:
    labels = experiment.start.described
    return (TaskSettings(name=experiment.task, labels=labels),) if labels else ()


def _adapter(ground: Ground, names: tuple[str, ...], report: Report) -> Path | None:
    start = ground.experiment.start
    if ground.train_on is not None and start.train_on is not None:
        known = read_dataset(ground.train_on, names=names, task=ground.experiment.task)
        return trained_start(known, start, ground.settings, ground.cache, report)
    return ground.adapter


def _worked(world: World, missing: Sequence[Unit], file: Path, jobs: int) -> Iterator[None]:
    if jobs == 1:
        for unit in missing:
            work(world, unit, file)
            yield
        return
    # Spawned, because PyTorch has threads; each process builds its world from the cache.
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(world.ground,)) as pool:
        started = [pool.submit(_work_here, unit, file) for unit in missing]
        try:
            for future in as_completed(started):
                future.result()
                yield
        except BrokenProcessPool as err:
            raise ReviewLoopError(
                f"One of {jobs} processes died (for want of memory?). Nights that were done are kept: run it "
                "again, with fewer at once by --jobs."
            ) from err
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(ground: Ground) -> None:
    import torch

    # Processes share the cores already.
    torch.set_num_threads(1)
    _worlds.append(build(ground, lambda _: None))


def _work_here(unit: Unit, file: Path) -> None:
    work(_worlds[-1], unit, file)
