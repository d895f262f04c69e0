"""``reviewloop publish``: reviews from a file onto the topic."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reviewloop.cli.progress import show_progress
from reviewloop.visible import say
from reviews.errors import ReviewLoopError

if TYPE_CHECKING:
    from broker.publisher import OutgoingRecord
    from reviewloop.review_files import FileRow

_MOST_MISTAKES_SHOWN = 20


def publish(
    file: Annotated[
        Path, typer.Argument(help="CSV with a header or JSON lines, also .gz; - reads JSON lines.")
    ],
    *,
    topic: Annotated[str | None, typer.Option(help="Unset, the configured reviews topic.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="At most so many a second.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    id_column: Annotated[str, typer.Option(help="Column with the id; without one, file and line.")] = "id",
    text_column: Annotated[str, typer.Option(help="Column with the text.")] = "text",
    product_column: Annotated[str, typer.Option(help="Column with the product.")] = "product",
    source_column: Annotated[str, typer.Option(help="Column with the source.")] = "source",
    published_at_column: Annotated[str, typer.Option(help="Column with the time.")] = "published_at",
    stars_column: Annotated[str, typer.Option(help="Column with the stars.")] = "stars",
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Publish rows that are no valid reviews as they are, too.")
    ] = False,
) -> None:
    """Publish reviews; rows that cannot be reviews are listed and left out (exit code 1)."""
    from itertools import islice

    from broker.publisher import publish as publish_records
    from reviewloop.collecting import rare_collections
    from reviewloop.review_files import Columns, open_reviews
    from reviewloop.settings import load_settings

    kafka = load_settings().kafka
    columns = Columns(
        id_column, text_column, product_column, source_column, published_at_column, stars_column
    )
    target = topic or kafka.reviews_topic
    mistakes: list[FileRow] = []
    with open_reviews(file, columns) as rows, show_progress("publishing") as progress, rare_collections():
        records = _records(islice(rows, limit), mistakes, unchecked=unchecked)
        sent = publish_records(kafka, target, records, rate=rate, on_progress=progress)
    say(f"Published {sent:,} reviews to '{target}'.")
    _report(mistakes, file)


def _records(
    rows: "Iterable[FileRow]", mistakes: "list[FileRow]", *, unchecked: bool
) -> "Iterator[OutgoingRecord]":
    from broker.publisher import OutgoingRecord

    for row in rows:
        if row.message is not None:
            # The id is the key: versions of one review keep their order.
            yield OutgoingRecord(row.message.id.encode(), row.raw)
        elif unchecked:
            yield OutgoingRecord(None, row.raw)
        else:
            mistakes.append(row)


def _report(mistakes: "list[FileRow]", file: Path) -> None:
    if not mistakes:
        return
    for row in mistakes[:_MOST_MISTAKES_SHOWN]:
        say(f"{file}, line {row.line}: {row.mistake}", err=True)
    if len(mistakes) > _MOST_MISTAKES_SHOWN:
        say(f"… and {len(mistakes) - _MOST_MISTAKES_SHOWN:,} more", err=True)
    raise ReviewLoopError(f"{len(mistakes):,} rows of {file} are no valid reviews and were not published.")
