"""``reviewloop topics``: the topics that the system reads and writes."""

from typing import Annotated

import typer

from broker.topics import create_topics
from reviewloop.settings import load_settings
from reviewloop.terminal import say

app = typer.Typer(no_args_is_help=True, help="The topics that the system reads and writes.")


@app.callback()
def _group() -> None:
    """Keep ``create`` a command of its own while it is the only one."""


@app.command()
def create(
    topic: Annotated[str | None, typer.Option(help="Instead of the configured topics.")] = None,
    partitions: Annotated[
        int, typer.Option(min=1, max=100_000, help="The most workers that can share a topic.")
    ] = 4,
    replication_factor: Annotated[int, typer.Option(min=1, max=1_000, help="Copies of each partition.")] = 1,
) -> None:
    """Make the topics; those that are there stay as they are."""
    settings = load_settings()
    kafka, dead_letters = settings.kafka, settings.consumer.dead_letter_topic
    sinks = [sink.topic for sink in settings.sinks]
    others = [settings.alerts.topic, *([dead_letters] if dead_letters else []), *sinks]
    configured = [kafka.reviews_topic, kafka.labels_topic, *others]
    names = [topic] if topic else configured
    made = create_topics(kafka, names, partitions=partitions, replication_factor=replication_factor)
    for name, is_new in made.items():
        say(f"{name}: {'made' if is_new else 'was there'}")
