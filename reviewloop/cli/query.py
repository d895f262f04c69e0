"""``reviewloop query``: the scored reviews."""

import time
from dataclasses import replace
from datetime import datetime
from typing import Annotated

import typer

from reviewloop.cli.arguments import configured
from reviewloop.cli.output import FormatOption, RawOption, chosen_format, print_rows
from reviewloop.terminal import say
from reviews.moments import parse_moment
from storage.adapters.registry import AdapterStore
from storage.queries.filters import ReviewFilter, parse_attributes
from storage.queries.label_counts import LabelCount, count_labels
from storage.queries.reviews import SEARCHED_AT_MOST, find_reviews

_REPORT_EVERY_SECONDS = 5
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
    attribute: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE of an attribute that the review's source keeps; may be repeated."),
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many, the latest first; 0: all.")] = 20,
    count: Annotated[
        bool, typer.Option("--count", help="Print how many carry each label of each task instead.")
    ] = False,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Count or search all, also where they are very many."),
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
        attributes=parse_attributes(attribute or ()),
        limit=limit or None,
    )
    form = chosen_format(output)
    with configured(task, label) as (_, database):
        if adapter is not None:
            wanted = replace(wanted, adapter=AdapterStore(database).find(adapter).version)
        if count:
            counted = count_labels(database, wanted, exact=exact, report=_Progress())
            rows = ({**row._asdict(), "is_estimate": counted.share < 1} for row in counted.counts)
            print_rows(rows, form, table_columns=LabelCount._fields, raw=raw)
            if counted.share < 1:
                say(
                    f"Estimated from {counted.share:.1%} of the records: --exact counts all.",
                    err=True,
                )
        else:
            found = find_reviews(database, wanted, given_up=None if exact else _say_since)
            print_rows(found, form, table_columns=_TABLE, raw=raw)


def _say_since(moment: datetime) -> None:
    written = moment.isoformat()
    say(
        f"Searched the {SEARCHED_AT_MOST:,} latest texts, which were scored since {written}. Go on with "
        f"'--until {written}', search all with --exact, or make an index: 'reviewloop db index-text'.",
        err=True,
    )


class _Progress:
    """Says how far a count is, now and then."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _REPORT_EVERY_SECONDS

    def __call__(self, share: float) -> None:
        if time.monotonic() >= self._next and share < 1:
            self._next = time.monotonic() + _REPORT_EVERY_SECONDS
            say(f"Counted {share:.0%} of them.", err=True)
