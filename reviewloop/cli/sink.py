"""``reviewloop sink``: scored rows, published to topics of their own."""

import os
import threading
from typing import Annotated

import typer

from broker.publisher import require_topic
from consumer.sinks import SinkMeasures, SinkThreads
from reviewloop.cli.arguments import configured
from reviewloop.cli.output import FormatOption, RawOption, print_rows
from reviewloop.cli.running import on_signals
from reviewloop.operations.endpoints import served
from reviewloop.operations.logs import configure_logging
from reviewloop.operations.sink_metrics import SinkCollector, SinkHealth
from reviewloop.settings import load_settings
from reviewloop.terminal import say
from reviewloop.wiring.registry import open_database
from reviewloop.wiring.sinks import chosen_sinks, make_forwarder
from reviewloop.wiring.workers import rare_collections
from reviews.errors import ReviewLoopError, WrongUse
from reviews.sanitise import sanitise
from storage.stream.sinks import remove_sink, sink_lags

app = typer.Typer(no_args_is_help=True, help="Scored rows, published to topics of their own.")

_LIST = ("topic", "lag_records", "lag_seconds", "changes", "moved_at", "configured", "created_at")
NICENESS = 10
"""A sink steps back behind workers on the same machine."""


@app.command()
def run(
    *,
    topic: Annotated[
        list[str] | None, typer.Option(help="Only this sink; may be repeated. Unset, every configured one.")
    ] = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when all that is stored is published.")
    ] = False,
) -> None:
    """Publish scored rows as they are stored, and again when they change; SIGTERM or Ctrl-C ends it.

    Any number of processes may share the sinks. On one machine with workers, a sink steps back behind them:
    it runs with a lower priority. With metrics.port set, it serves /metrics, /healthz and /readyz.
    """
    settings = load_settings()
    configure_logging()
    sinks = chosen_sinks(settings, topic or ())
    for sink in sinks if until_idle else ():
        require_topic(settings.kafka, sink.topic)  # a run that is to end waits for none
    stopping = threading.Event()
    measures = [SinkMeasures(sink.topic) for sink in sinks]
    health = SinkHealth(measures, settings.metrics.stalled_after_seconds)
    os.nice(NICENESS)
    with (
        on_signals(stopping),
        open_database(settings) as database,
        served(settings.metrics, health, SinkCollector(measures)),
        rare_collections(),
    ):
        forwarders = {
            sink.topic: make_forwarder(settings, sink, database, stopping, measure)
            for sink, measure in zip(sinks, measures, strict=True)
        }
        for name, rows in SinkThreads(forwarders, stopping).run(until_idle=until_idle).items():
            say(f"Published {rows:,} rows to {name}.")


@app.command()
def show(*, output: FormatOption = None, raw: RawOption = False) -> None:
    """Every sink, and how far it is behind what is stored."""
    with configured() as (settings, database):
        lags = sink_lags(database, settings.kafka.labels_topic)
    names = {sink.topic for sink in settings.sinks}
    rows = [
        {
            "topic": lag.topic,
            "lag_records": lag.records,
            "lag_seconds": None if lag.seconds is None else round(lag.seconds, 1),
            "changes": lag.changes,
            "moved_at": lag.moved_at,
            "configured": lag.topic in names,
            "created_at": lag.created_at,
        }
        for lag in lags
    ]
    print_rows(rows, output, table_columns=_LIST, raw=raw)


@app.command()
def remove(
    topic: Annotated[str, typer.Argument(help="The topic of the sink.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget a sink that is in no settings any more: its positions, and the changes that wait for it.

    Its topic stays as it is. Named in the settings again, it begins anew.
    """
    with configured() as (settings, database):
        if topic in {sink.topic for sink in settings.sinks}:
            raise WrongUse(
                f"The settings name the sink '{topic}': take its section [[sinks]] out of them first."
            )
        if not yes and not typer.confirm(sanitise(f"Forget how far the sink '{topic}' is?")):
            raise ReviewLoopError("Nothing was changed.")
        if not remove_sink(database, topic):
            raise WrongUse(f"There is no sink '{topic}': 'reviewloop sink show' lists them.")
    say(f"The sink '{topic}' is forgotten.")
