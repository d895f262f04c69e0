"""``reviewloop query``: the scored reviews."""

from dataclasses import replace
from typing import Annotated

import typer

from reviewloop.cli.arguments import configured
from reviewloop.cli.output import FormatOption, RawOption, chosen_format, print_rows
from reviews.moments import parse_moment
from storage.adapters.registry import AdapterStore
from storage.queries import LabelCount, ReviewFilter, count_labels, find_reviews

_TABLE = ("review_id", "label", "confidence", "text", "product", "scored_at")


def query(
    *,
    label: Annotated[str | None, typer.Option(help="The model's label.")] = None,
    product: Annotated[str | None, typer.Option(help="The product, exactly.")] = None,
    source: Annotated[str | None, typer.Option(help="The source, exactly.")] = None,
    task: Annotated[str | None, typer.Option(help="The task; unset, all.")] = None,
    since: Annotated[str | None, typer.Option(help="Scored since: ISO 8601, or an age such as 24h.")] = None,
    until: Annotated[str | None, typer.Option(help="Scored before: ISO 8601, or an age such as 24h.")] = None,
    min_confidence: Annotated[float | None, typer.Option(min=0, max=1, help="Least confidence.")] = None,
    uncertain: Annotated[bool, typer.Option("--uncertain", help="Only where two labels are close.")] = False,
    adapter: Annotated[str | None, typer.Option(help="The adapter's version, or its beginning.")] = None,
    text: Annotated[str | None, typer.Option(help="A part of the text, in any case of letters.")] = None,
    review_id: Annotated[str | None, typer.Option("--id", help="The publisher's id.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many, the latest first; 0: all.")] = 20,
    count: Annotated[
        bool, typer.Option("--count", help="Print how many carry each label of each task instead.")
    ] = False,
    output: FormatOption = None,
    raw: RawOption = False,
) -> None:
    """Look at scored reviews: the current version of each, the latest scored first."""
    wanted = ReviewFilter(
        task=task,
        label=label,
        product=product,
        source=source,
        since=parse_moment(since),
        until=parse_moment(until),
        min_confidence=min_confidence,
        uncertain=uncertain,
        text=text,
        review_id=review_id,
        limit=limit or None,
    )
    form = chosen_format(output)
    with configured(task, label) as (_, database):
        if adapter is not None:
            wanted = replace(wanted, adapter=AdapterStore(database).find(adapter).version)
        if count:
            rows = (found._asdict() for found in count_labels(database, wanted))
            print_rows(rows, form, table_columns=LabelCount._fields, raw=raw)
        else:
            print_rows(find_reviews(database, wanted), form, table_columns=_TABLE, raw=raw)
