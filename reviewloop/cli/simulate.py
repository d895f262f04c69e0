"""``reviewloop simulate``: replays labelled reviews as a stream through the learning loop."""

import json
import os
import signal
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from reviewloop import demo
from reviewloop.cli.arguments import model_options
from reviewloop.cli.output import print_table
from reviewloop.settings import load_settings
from reviewloop.terminal import say
from reviews.errors import WrongUse
from trainer.fitting.outputs import write_whole
from trainer.simulation.experiment import Experiment, FitKind, Size, Start, every_strategy, read_experiment
from trainer.simulation.plots import learning_curves
from trainer.simulation.results import read_lines, unit_of
from trainer.simulation.summary import condensed, summarise
from trainer.simulation.world import Ground, World, build, run, units

_HEAD_NOTE = (
    "Only the recipes of the kind head take part: heads on frozen embeddings, not LoRA. They rank strategies "
    "quickly; --fit lora fits the whole plan of a night."
)
_OUTPUT = "Output"
_COLUMNS = (
    "strategy", "labels for random's", "seconds for it", "last candidate", "served", "at first",
    "nights below", "nights fallen", "promotions", "worse", "seeds", "s a fit", "false alarms",
    "reviews to the alarm",
)  # fmt: skip
_SIZE = "Size"


class Fit(StrEnum):
    """What is fitted each night."""

    LORA = "lora"
    HEAD = "head"


@model_options(Size, [name for name in Size.model_fields if name != "strategies"], lambda _: _SIZE)
def simulate(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Labelled files, replayed one after the other; each in random order."),
    ] = None,
    *,
    experiment: Annotated[
        Path | None,
        typer.Option(
            help="TOML: the start, the strategies, the sizes. Unset: the demo's adapter, all of them."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the files that the experiment names; unset, its own.")
    ] = None,
    fit: Annotated[
        Fit, typer.Option(help="lora: an adapter each night. head: a head on frozen embeddings, quick.")
    ] = Fit.LORA,
    strategy: Annotated[
        list[str] | None, typer.Option(help="Of the experiment; may be repeated. Unset: all.")
    ] = None,
    noise: Annotated[
        float | None, typer.Option(min=0, max=0.99, help="Share of wrong answers.", rich_help_panel=_SIZE)
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at work.")] = 1,
    output_dir: Annotated[Path, typer.Option(help="Results and plots.", rich_help_panel=_OUTPUT)] = Path(
        "simulations"
    ),
    cache_dir: Annotated[
        Path | None,
        typer.Option(help="Embeddings and adapters; unset, in the output's folder.", rich_help_panel=_OUTPUT),
    ] = None,
    **sizes: Any,
) -> None:
    """Replay labelled files as a stream: learning curves, labels saved, drift alarms.

    Each night the active model scores what has come, a strategy chooses, an annotator who knows the labels
    answers, a candidate is fitted and the gate judges it; the drift watch follows what comes. Where another
    file begins, the stream has changed. What was interrupted goes on where it stopped.
    """
    # As Ctrl-C, so that the child processes end too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sizes = sizes | {"strategies": tuple(strategy) if strategy else None}
    asked = _experiment(experiment, fit.value, sizes, noise)
    asked.contenders(fit.value)  # an unknown name is refused before anything is read
    # Read by the maths libraries when they are loaded; one thread a process.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    ground = _ground(
        asked, fit.value, files or [], _folder(data, experiment), cache_dir or output_dir / "cache"
    )
    if fit is Fit.HEAD:
        say(_HEAD_NOTE, err=True)
    world = build(ground, _report)
    results = output_dir / f"simulation_{asked.name}_{fit.value}.jsonl"
    for done, of_all in run(world, results, jobs):
        say(f"{done} of {of_all} runs (a strategy and a seed each) are done", err=True)
    _show(world, results)


def _experiment(file: Path | None, fit: FitKind, sizes: dict[str, Any], noise: float | None) -> Experiment:
    """The experiment of the file, or one with every strategy, with what the command line says otherwise."""
    if file is not None:
        found = read_experiment(file)
    else:
        found = Experiment(name="stream", start=Start(adapter="demo"), strategies=every_strategy())
    given = {name: value for name, value in sizes.items() if value is not None}
    changed: dict[str, Any] = {fit: found.size(fit).model_copy(update=given)}
    return found.model_copy(update=changed if noise is None else changed | {"noise": noise})


def _folder(data: Path | None, experiment: Path | None) -> Path:
    return data or (experiment.parent if experiment else Path())


def _ground(experiment: Experiment, fit: FitKind, files: Sequence[Path], folder: Path, cache: Path) -> Ground:
    stream = tuple(files) or tuple(folder / name for name in experiment.stream)
    missing = [str(file) for file in stream if not file.is_file()]
    if missing:
        raise WrongUse(f"There is no file {', '.join(missing)}; name the files, or their folder with --data.")
    start = experiment.start
    bundled = Path(demo.__file__).parent / "adapter"
    named = None if start.adapter is None else bundled if start.adapter == "demo" else Path(start.adapter)
    return Ground(
        experiment=experiment,
        fit=fit,
        files=stream,
        adapter=named,
        train_on=None if start.train_on is None else folder / start.train_on,
        cache=cache,
        classifier=load_settings({}).classifier,
    )


def _report(step: Any) -> None:
    if step.validation is not None:
        say(f"First adapter: epoch {step.epoch} is done", err=True)


def _show(world: World, results: Path) -> None:
    """The table, and the pictures beside the results."""
    experiment, fit = world.ground.experiment, world.ground.fit
    wanted = set(units(world))
    lines = [line for line in read_lines(results) if unit_of(line) in wanted]
    names = list(experiment.contenders(fit))
    kind = "heads on frozen embeddings" if fit == "head" else "LoRA"
    title = f"{experiment.title or experiment.name} ({kind})"
    _print(title, summarise(lines, names))
    picture = learning_curves(lines, names, title)
    curves = "".join(json.dumps(line) + "\n" for line in condensed(lines, names)).encode()
    by_seconds = learning_curves(lines, names, title, "annotator_seconds")
    written = (
        (".curves.jsonl", curves),
        (".png", picture.png()),
        (".svg", picture.svg()),
        (".seconds.svg", by_seconds.svg()),
    )
    for suffix, content in written:
        write_whole(results.with_suffix(suffix), content)
        say(f"{results.with_suffix(suffix)}")
    say(f"{results}")


def _print(title: str, rows: Sequence[Any]) -> None:
    cells = (
        (
            row.strategy,
            _saving(row.saving),
            _saving(row.saved_seconds),
            f"{100 * row.candidate:.1f} ± {100 * row.candidate_half:.1f}",
            f"{100 * row.active:.1f}",
            f"{100 * row.start:.1f}",
            "" if row.below is None else f"{row.below:.0%}",
            str(row.fallen),
            f"{row.cost.promotions:.1f}",
            f"{row.cost.worse} ({row.cost.worse_beyond_chance})",
            str(row.seeds),
            f"{row.cost.fit_seconds:.2f}",
            *_alarms(row.alarms),
        )
        for row in rows
    )
    print_table(_COLUMNS, cells, title=title)


def _alarms(alarms: Any) -> tuple[str, str]:
    """``0 in 4,000`` and ``40 (30 – never)``; ``–`` of results whose stream nobody watched."""
    if alarms is None:
        return "–", "–"
    false = f"{alarms.false} in {alarms.watched:,}"
    if alarms.delay is None:
        return false, ""
    middle, low, high = ("never" if value == float("inf") else f"{value:.0f}" for value in alarms.delay)
    return false, f"{middle} ({low} – {high})"


def _saving(saving: Any) -> str:
    """``61 % (48–83 %)`` of random's labels."""
    if saving is None:
        return ""
    values = (saving.share, saving.low, saving.high)
    share, low, high = ("never" if value == float("inf") else f"{value:.0%}" for value in values)
    return f"{share} ({low} – {high})"
