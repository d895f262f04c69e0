"""``reviewloop publish``: publishes the reviews of a file."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from broker.publisher import OutgoingRecord
from broker.publisher import publish as publish_records
from reviewloop.cli.arguments import DelimiterOption, EncodingOption, KindOption, guessed, to_form
from reviewloop.cli.running import show_progress
from reviewloop.files.reviews import Columns, FileRow, open_reviews
from reviewloop.settings import load_settings
from reviewloop.terminal import say
from reviewloop.wiring.workers import rare_collections
from reviews.errors import ReviewLoopError
from reviews.message import message_key
from trainer.data.table_rows import Mistake, shown_mistakes
from trainer.data.table_source import name_of

_FIELDS = ("id", "text", "product", "source", "published_at", "stars")


def publish(
    file: Annotated[
        Path, typer.Argument(help="CSV, JSON lines, a JSON array or Parquet, also .gz; - is standard input.")
    ],
    *,
    topic: Annotated[str | None, typer.Option(help="Unset, the configured reviews topic.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="At most so many a second.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, max=10**12, help="Only the first so many.")] = None,
    id_column: Annotated[
        str | None,
        typer.Option(help="Column with the id. Unset: id; rows without one get one from place and content."),
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="Column with the text. Unset: text.")] = None,
    product_column: Annotated[
        str | None, typer.Option(help="Column with the product. Unset: product, if there is one.")
    ] = None,
    source_column: Annotated[
        str | None, typer.Option(help="Column with the source. Unset: source, if there is one.")
    ] = None,
    published_at_column: Annotated[
        str | None, typer.Option(help="Column with the time. Unset: published_at, if there is one.")
    ] = None,
    stars_column: Annotated[
        str | None, typer.Option(help="Column with the stars. Unset: stars, if there is one.")
    ] = None,
    kind: KindOption = None,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Also publish JSON that is not a valid review.")
    ] = False,
) -> None:
    """Publish reviews from a file.

    Rows that cannot be reviews are listed and left out (exit code 1).
    """
    settings = load_settings()
    kafka = settings.kafka
    columns = _columns(
        (id_column, text_column, product_column, source_column, published_at_column, stars_column)
    )
    target = topic or kafka.reviews_topic
    form = to_form(kind, encoding, delimiter)
    seen = _Seen()
    with (
        open_reviews(file, columns, form, settings.consumer.max_message_bytes) as reviews,
        show_progress("publishing") as progress,
        rare_collections(),
    ):
        if (note := guessed(file, form, reviews.form)) is not None:
            say(note, err=True)
        records = _records(islice(reviews.rows, limit), seen, unchecked=unchecked)
        sent = publish_records(kafka, target, records, rate=rate, on_progress=progress)
    say(f"Published {sent:,} reviews to '{target}'.")
    _report(seen, file)


@dataclass(slots=True)
class _Seen:
    """What was found on the way.

    Attributes:
        mistakes: The rows that are not reviews.
        made_ids: How many reviews had no id of their own.
    """

    mistakes: list[Mistake] = field(default_factory=list)
    made_ids: int = 0


def _columns(names: tuple[str | None, ...]) -> Columns:
    """The columns that were named, and the contract's own names for the others."""
    named = {field: name for field, name in zip(_FIELDS, names, strict=True) if name is not None}
    return Columns(**named, named=frozenset(named))


def _records(rows: Iterable[FileRow], seen: _Seen, *, unchecked: bool) -> Iterator[OutgoingRecord]:
    for row in rows:
        if row.message is not None and row.raw is not None:
            seen.made_ids += row.has_made_id
            # The id is the key: versions of one review keep their order.
            yield OutgoingRecord(row.message.id.encode(), row.raw)
        elif unchecked and row.raw is not None:
            yield OutgoingRecord(message_key(row.raw), row.raw)
        elif row.mistake is not None:
            seen.mistakes.append(row.mistake)


def _report(seen: _Seen, file: Path) -> None:
    name = name_of(file)
    if seen.made_ids:
        say(f"{seen.made_ids:,} of them had no id and got one from their place and content.", err=True)
    for line in shown_mistakes(seen.mistakes):
        say(f"{name}, {line}", err=True)
    if seen.mistakes:
        raise ReviewLoopError(
            f"{len(seen.mistakes):,} rows of {name} are not valid reviews and were not published."
        )
