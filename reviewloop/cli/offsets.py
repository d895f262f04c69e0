"""``reviewloop offsets``: the stored offset of each stream, its lag, its gaps, and how to skip by hand."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer

from broker.topics import TopicEnds, end_offset, topic_ends
from reviewloop.cli.arguments import configured, parse_place
from reviewloop.cli.output import FormatOption, RawOption, print_rows
from reviewloop.settings import Settings
from reviewloop.terminal import say
from reviews.errors import ReviewLoopError, WrongUse
from storage.stream.partitions import PartitionStore, StreamPosition

app = typer.Typer(no_args_is_help=True, help="The stored offset of each partition.")

_TABLE = ("topic", "partition", "next_offset", "lag", "start_offset", "topic_id", "cluster_id")
_GAPS = ("topic", "partition", "first_offset", "next_offset", "reason", "found_at")


@app.command()
def show(
    *,
    gaps: Annotated[bool, typer.Option("--gaps", help="Instead, the offsets that were never read.")] = False,
    output: FormatOption = None,
    raw: RawOption = False,
) -> None:
    """The stored offset of every partition that was ever read, and how many offsets lie behind it.

    A topic that is not there any more, or was made anew since, has no lag. Where the brokers cannot be asked,
    the lag is left empty, and standard error says why.
    """
    with configured() as (settings, database):
        store = PartitionStore(database)
        if gaps:
            items = [asdict(item) for item in store.list_gaps()]
        else:
            positions = store.list_positions()
            ends = _ends(settings, {position.topic for position in positions})
            items = [{**asdict(position), "lag": _lag(position, ends)} for position in positions]
    columns = _GAPS if gaps else _TABLE
    rows = ({name: item[name] for name in columns} for item in items)
    print_rows(rows, output, table_columns=columns, raw=raw)


def _ends(settings: Settings, topics: set[str]) -> Mapping[str, TopicEnds]:
    try:
        return topic_ends(settings.kafka, topics)
    except ReviewLoopError as err:
        say(f"The lag is not known: {err}", err=True)
        return {}


def _lag(position: StreamPosition, ends: Mapping[str, TopicEnds]) -> int | None:
    """Offsets behind the stored one; None where the topic of that name is not the one that was read."""
    found = ends.get(position.topic)
    if found is None or (found.cluster_id, found.topic_id) != (position.cluster_id, position.topic_id):
        return None
    end = found.offsets.get(position.partition)
    return None if end is None else max(0, end - position.next_offset)


@app.command("set")
def set_offset(
    place: Annotated[str, typer.Argument(help="TOPIC:PARTITION:OFFSET, the offset to go on with.")],
    *,
    reason: Annotated[str, typer.Option(help="Why, for those who find the gap.")] = "skipped by hand",
    topic_id: Annotated[
        str | None, typer.Option(help="Which topic, where several had that name: see 'offsets show'.")
    ] = None,
    expect: Annotated[
        int | None, typer.Option(help="Only if the stored offset is this one; for scripts, with --yes.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Skip records: go on at a later offset, and leave a record of what was skipped.

    Nothing is moved if the stored offset has changed since it was shown. Workers may be running: one that
    reads the skipped records loses its compare-and-set and goes on at the new offset.

    Going back is refused: records before the stored offset have their rows already, and reading them again
    could only store them twice. Publish them again instead: the same ids become the current reviews.
    """
    topic, partition, offset = parse_place(place)
    with configured() as (settings, database):
        store = PartitionStore(database)
        stream = _find(store, topic, partition, topic_id)
        stored = stream.next_offset
        if expect is not None and expect != stored:
            raise ReviewLoopError(f"The stored offset is {stored}, not {expect}: nothing was changed.")
        if offset <= stored:
            raise WrongUse(
                f"The stored offset is {stored} already, and it only grows: what lies before it has its "
                "rows. Publish those records again instead."
            )
        end = end_offset(settings.kafka, topic, partition)
        if offset > end:
            raise WrongUse(f"The topic ends at {end}: give an offset from {stored + 1} to {end}.")
        _confirm(
            f"Skip {offset - stored:,} offsets of {topic}[{partition}], {stored} to {offset - 1}?", yes=yes
        )
        if not store.record_gap(stream.partition_id, stored, offset, reason):
            raise ReviewLoopError("The stored offset has moved meanwhile: nothing was changed. Look again.")
    say(f"{topic}[{partition}] goes on at {offset}; 'reviewloop offsets show --gaps' shows what was left.")


def _find(store: PartitionStore, topic: str, partition: int, topic_id: str | None) -> StreamPosition:
    found = [
        position
        for position in store.list_positions()
        if (position.topic, position.partition) == (topic, partition)
        and topic_id in {None, position.topic_id}
    ]
    if not found:
        raise WrongUse(f"{topic}[{partition}] was never read: 'reviewloop offsets show' lists what was.")
    if len(found) > 1:
        ids = ", ".join(position.topic_id for position in found)
        raise WrongUse(f"Several topics were named '{topic}': choose one by --topic-id ({ids}).")
    return found[0]


def _confirm(question: str, *, yes: bool) -> None:
    if not yes and not typer.confirm(question):
        raise ReviewLoopError("Nothing was changed.")
