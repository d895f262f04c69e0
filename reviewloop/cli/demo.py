"""``reviewloop demo``: the whole path on the bundled reviews, in one command."""

import sys
from collections import Counter
from typing import TYPE_CHECKING

from reviewloop.cli.progress import show_progress

if TYPE_CHECKING:
    from reviewloop.demo.run import DemoResult

_SHOWN = {"plain": 5, "typos": 1, "one_word": 1, "emoji": 1, "mixed": 1, "question": 1, "sarcasm": 1}
_NEXT = (
    ("reviewloop query --label negative --limit 5", "what customers complain about"),
    ('reviewloop predict "Lovely fabric, but it shrank in the first wash."', "a label for your own text"),
    ("reviewloop local down", "stop Kafka and PostgreSQL; the data stays"),
)


def demo() -> None:
    """Publish, score and query the bundled reviews on a local Kafka and PostgreSQL (started if need be)."""
    from reviewloop.demo.run import run_demo
    from reviewloop.logs import configure_logging

    configure_logging(quiet=True)
    _print(run_demo(_say, show_progress))


def _say(what: str) -> None:
    sys.stderr.write(f"{what} …\n")


def _print(result: "DemoResult") -> None:
    from rich.console import Console

    from reviewloop.cli.rows import Format, print_rows
    from reviewloop.demo.sample import sample_reviews

    picked = [
        review
        for trait, number in _SHOWN.items()
        for review in [item for item in sample_reviews() if item.trait == trait][:number]
        if review.id in result.rows
    ]
    rows = (
        {**result.rows[review.id], "trait": review.trait, "sample_label": review.label} for review in picked
    )
    columns = ("trait", "text", "label", "confidence", "sample_label")
    print_rows(rows, Format.table, table_columns=columns, title="Some of the scored reviews")
    counts = Counter(row["label"] for row in result.rows.values())
    right, known = result.agreement
    out = Console(highlight=False)
    out.print("classes      ", ", ".join(f"{number} {label}" for label, number in counts.most_common()))
    out.print(f"agreement     {right} of {known} with the sample's own labels ({right / known:.0%})")
    out.print(f"speed         {result.scored / result.seconds:,.0f} reviews a second, topic to row")
    out.print(f"adapter       {result.adapter}")
    out.print("\nNext:")
    for command, purpose in _NEXT:
        out.print(f"  {purpose}:\n    {command}", soft_wrap=True)
