"""``reviewloop consume``: one or several workers that score published reviews."""

import os
import sys
import threading
from contextlib import ExitStack, suppress
from typing import Annotated

import typer

from broker.publisher import require_topic
from consumer.measures import Measures
from consumer.worker import Totals
from reviewloop.cli.running import on_signals, show_progress
from reviewloop.operations.endpoints import watched
from reviewloop.operations.logs import configure_logging
from reviewloop.operations.supervisor import Child, Supervisor, tell_workers
from reviewloop.settings import WORKER_VARIABLE, Settings, load_settings
from reviewloop.terminal import say
from reviewloop.wiring.label_reader import open_label_reader
from reviewloop.wiring.topics import review_topics
from reviewloop.wiring.workers import open_worker
from reviews.errors import Unavailable


def consume(
    *,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine, sharing the group.")] = 1,
    until_idle: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="End when the whole topic is stored and nothing has come for so many seconds."
        ),
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Instead of the configured reviews topic.")] = None,
    group: Annotated[str | None, typer.Option(help="Instead of the configured consumer group.")] = None,
    start: Annotated[
        str | None, typer.Option(help="Where a topic begins that was never read: earliest, latest or a time.")
    ] = None,
) -> None:
    """Score reviews as they are published, and take labels in.

    SIGTERM or Ctrl-C finishes what is in hand.

    With metrics.port set, each worker serves /metrics, /healthz and /readyz: the first on that port, the
    second on the next, and so on.
    """
    settings = load_settings({"kafka": {"reviews_topic": topic, "group_id": group, "start": start}})
    if until_idle is not None:
        _require_topic(settings)
    if workers == 1:
        run_worker(settings, until_idle)
    else:
        _run_workers(settings, workers, until_idle)


def _require_topic(settings: Settings) -> None:
    """Before a model is loaded: a run that is to end does not wait for a topic that is not there."""
    with suppress(Unavailable):  # the worker waits for unavailable brokers
        for topic in review_topics(settings).names:
            require_topic(settings.kafka, topic)


def run_worker(settings: Settings, until_idle: float | None) -> int:
    """Run one worker in this process until a signal, or until it is idle.

    Returns:
        How many reviews it stored.
    """
    number = os.environ.get(WORKER_VARIABLE)
    configure_logging(worker=number)
    stopping, measures = threading.Event(), Measures()
    with (
        on_signals(stopping),
        watched(settings.metrics, measures, settings.consumer.tasks),
        show_progress("scoring reviews", is_logged=True, worker=number) as progress,
        open_worker(
            settings,
            stopping,
            lambda totals: progress(totals.accepted, dead_letters=totals.dead_letters),
            measures,
        ) as worker,
        ExitStack() as stack,
    ):
        label_reader = None
        if settings.consumer.read_labels:
            measures.labels = Measures()
            label_reader = stack.enter_context(
                open_label_reader(settings, stopping, until_idle, measures=measures.labels)
            )
        totals = worker.run(until_idle)
    name = f"Worker {number}: " if number else ""
    say(name + _say_reviews(totals))
    if label_reader is not None and (label_reader.totals.accepted or label_reader.totals.dead_letters):
        say(name + say_labels(label_reader.totals))
    return totals.accepted


def _say_reviews(totals: Totals) -> str:
    """What became of the records of the topics of reviews."""
    stored = [f"{totals.accepted:,} reviews", f"{totals.dead_letters:,} dead letters"]
    if totals.withdrawals:
        stored.insert(1, f"{totals.withdrawals:,} withdrawals of reviews")
    return f"Stored {', '.join(stored[:-1])} and {stored[-1]}."


def say_labels(totals: Totals) -> str:
    """What became of the records of the labels topic."""
    return f"Stored {totals.accepted:,} labels and {totals.dead_letters:,} dead letters of labels."


def _run_workers(settings: Settings, workers: int, until_idle: float | None) -> None:
    """Workers as processes, each started again when it dies."""
    configure_logging()
    command = [sys.executable, "-m", "reviewloop", "consume"]
    if until_idle is not None:
        command += ["--until-idle", str(until_idle)]
    told = tell_workers(settings.classifier, workers)
    children = [
        Child(
            f"worker {index + 1}",
            command,
            {**_overrides(settings), **variables, **_metrics_port(settings, index)},
            is_endless=until_idle is None,
        )
        for index, variables in enumerate(told)
    ]
    stopping = threading.Event()
    with on_signals(stopping):
        Supervisor(children, stopping, stop_seconds=stop_seconds(settings)).run()


def stop_seconds(settings: Settings) -> float:
    """How long a worker may take to end: reviews, labels and dead letters each have the grace period."""
    return 4 * settings.consumer.shutdown_grace_seconds + 60


def _overrides(settings: Settings) -> dict[str, str]:
    """What the command line may have changed, for the children."""
    kafka = settings.kafka
    return {
        "REVIEWLOOP_KAFKA__REVIEWS_TOPIC": kafka.reviews_topic,
        "REVIEWLOOP_KAFKA__GROUP_ID": kafka.group_id,
        "REVIEWLOOP_KAFKA__START": kafka.start,
    }


def _metrics_port(settings: Settings, index: int) -> dict[str, str]:
    """A port of its own for each child, in a row, where one is configured."""
    port = settings.metrics.port
    return {} if port is None else {"REVIEWLOOP_METRICS__PORT": str(port + index)}
