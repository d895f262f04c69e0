"""Units of work over processes: each night's line is on the disk before the next night begins."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from reviews.errors import ReviewLoopError
from trainer.simulation.experiment import fingerprint
from trainer.simulation.night import nights
from trainer.simulation.results import Unit, append, mend, nights_done, read_lines
from trainer.simulation.world import Ground, World, build

_worlds: list[World] = []


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


def run(world: World, file: Path, jobs: int) -> Iterator[tuple[int, int]]:
    """Compute what the results file lacks.

    Args:
        world: What is simulated.
        file: Lines are added to it; those that are there are not computed again.
        jobs: Processes at work.

    Yields:
        Units done, and units in all, whenever one is done.
    """
    mend(file)
    done, wanted = nights_done(read_lines(file)), units(world)
    whole = set(range(world.ground.experiment.size(world.ground.fit).nights + 1))
    missing = [unit for unit in wanted if done.get(unit, set()) < whole]
    finished = len(wanted) - len(missing)
    yield finished, len(wanted)
    for _ in _worked(world, missing, file, jobs):
        finished += 1
        yield finished, len(wanted)


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


def work(world: World, unit: Unit, file: Path) -> None:
    """Live through the nights of a unit, and write down those that are not there.

    Nights that are there are lived through again, as those after them follow from them: heads are fitted in
    no time, adapters are in the cache.
    """
    done = nights_done(read_lines(file)).get(unit, set())
    for line in nights(world.loop(unit.strategy, unit.seed)):
        if line["night"] not in done:
            append(file, unit.line(line))


def _begin(ground: Ground) -> None:
    import torch

    # Processes share the cores already.
    torch.set_num_threads(1)
    _worlds.append(build(ground, lambda _: None))


def _work_here(unit: Unit, file: Path) -> None:
    work(_worlds[-1], unit, file)
