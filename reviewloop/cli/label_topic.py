"""``reviewloop label consume``: published labels."""

import os
import threading
from typing import Annotated

import typer

from reviewloop.cli.consume import say_labels
from reviewloop.cli.processes import on_signals
from reviewloop.logs import configure_logging
from reviewloop.settings import load_settings
from reviewloop.visible import say
from reviewloop.wiring import reading_labels


def consume(
    *,
    until_idle: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="End when the whole topic is stored and nothing has come for so many seconds."
        ),
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Instead of the configured labels topic.")] = None,
) -> None:
    """Take in published labels, without scoring anything; 'reviewloop consume' does both."""
    settings = load_settings({"kafka": {"labels_topic": topic}})
    configure_logging(debug=bool(os.environ.get("REVIEWLOOP_DEBUG")))
    stopping = threading.Event()
    with on_signals(stopping), reading_labels(settings, stopping, until_idle, is_patient=False) as reading:
        reading.wait()
    say(say_labels(reading.totals))
