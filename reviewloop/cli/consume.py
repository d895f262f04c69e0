"""``reviewloop consume``: one worker, or several, that score what is published."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from reviewloop.cli.progress import show_progress
from reviews.errors import ReviewLoopError

if TYPE_CHECKING:
    from consumer.worker import Totals
    from reviewloop.settings import Settings

_CHECK_SECONDS = 0.2


def consume(
    *,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine, sharing the group.")] = 1,
    until_idle: Annotated[
        float | None, typer.Option(min=0.1, help="End when nothing has come for so many seconds.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Instead of the configured reviews topic.")] = None,
    group: Annotated[str | None, typer.Option(help="Instead of the configured consumer group.")] = None,
    start: Annotated[
        str | None, typer.Option(help="Where a topic begins that was never read: earliest, latest or a time.")
    ] = None,
) -> None:
    """Score reviews as they are published, and take labels in; SIGTERM or Ctrl-C finishes what is in hand.

    With metrics.port set, each worker serves /metrics, /healthz and /readyz: the first on that port, the
    second on the next, and so on.
    """
    from reviewloop.settings import load_settings

    settings = load_settings({"kafka": {"reviews_topic": topic, "group_id": group, "start": start}})
    if workers == 1:
        run_worker(settings, until_idle)
    else:
        _run_workers(settings, workers, until_idle)


def run_worker(settings: "Settings", until_idle: float | None) -> int:
    """Run one worker in this process until a signal, or until it is idle.

    Returns:
        How many reviews it stored.
    """
    from consumer.measures import Measures
    from reviewloop.logs import configure_logging
    from reviewloop.monitoring.server import watched
    from reviewloop.wiring import open_worker, reading_labels

    configure_logging(debug=bool(os.environ.get("REVIEWLOOP_DEBUG")))
    stopping, measures = threading.Event(), Measures()
    with (
        on_signals(stopping),
        watched(settings.metrics, measures, settings.consumer.tasks),
        show_progress("scoring reviews") as progress,
        open_worker(settings, stopping, lambda totals: progress(totals.reviews), measures) as worker,
        ExitStack() as stack,
    ):
        labels = None
        if settings.consumer.read_labels:
            labels = stack.enter_context(reading_labels(settings, stopping, until_idle))
        totals = worker.run(until_idle)
    typer.echo(f"Stored {totals.reviews:,} reviews and {totals.dead_letters:,} dead letters.")
    if labels is not None and (labels.totals.reviews or labels.totals.dead_letters):
        typer.echo(say_labels(labels.totals))
    return totals.reviews


def say_labels(totals: "Totals") -> str:
    """What became of the records of the labels topic."""
    return f"Stored {totals.reviews:,} labels and {totals.dead_letters:,} dead letters of labels."


def _run_workers(settings: "Settings", workers: int, until_idle: float | None) -> None:
    """Workers as processes; when one fails, the others are told to stop."""
    environment = {**os.environ, **_as_environment(settings, workers)}
    ports = [_metrics_port(settings, index) for index in range(workers)]
    command = [sys.executable, "-m", "reviewloop", "consume"]
    if until_idle is not None:
        command += ["--until-idle", str(until_idle)]
    stopping = threading.Event()
    with on_signals(stopping):
        processes = [subprocess.Popen(command, env={**environment, **port}) for port in ports]
        _watch(processes, stopping)
    failed = [process.returncode for process in processes if process.returncode]
    if failed:
        raise ReviewLoopError(f"{len(failed)} of {workers} workers failed; their errors stand above.")


def _watch(processes: "list[subprocess.Popen[bytes]]", stopping: threading.Event) -> None:
    while any(process.poll() is None for process in processes):
        has_failed = any(process.returncode for process in processes)
        if stopping.wait(_CHECK_SECONDS) or has_failed:
            for process in processes:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
            for process in processes:
                process.wait()


def _as_environment(settings: "Settings", workers: int) -> dict[str, str]:
    """What the command line changed, for the children; and an equal share of the processor for each."""
    kafka = settings.kafka
    variables = {
        "REVIEWLOOP_KAFKA__REVIEWS_TOPIC": kafka.reviews_topic,
        "REVIEWLOOP_KAFKA__GROUP_ID": kafka.group_id,
        "REVIEWLOOP_KAFKA__START": kafka.start,
    }
    if settings.classifier.threads is None and settings.classifier.device in {"auto", "cpu"}:
        variables["REVIEWLOOP_CLASSIFIER__THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))
    return variables


def _metrics_port(settings: "Settings", index: int) -> dict[str, str]:
    """A port of its own for each child, in a row, where one is configured."""
    port = settings.metrics.port
    return {} if port is None else {"REVIEWLOOP_METRICS__PORT": str(port + index)}


class on_signals:  # noqa: N801  reads as a phrase in its with statement
    """Set an event on SIGTERM and SIGINT; the handlers before are put back."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._before: dict[int, object] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, lambda *_: self._stopping.set())

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() itself returned
