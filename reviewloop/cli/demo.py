"""``reviewloop demo``: the whole path on the bundled reviews, in one command."""

from collections import Counter
from typing import Annotated

import typer

from reviewloop.cli.output import print_rows
from reviewloop.cli.running import show_progress
from reviewloop.demo.loop import LoopResult, run_loop
from reviewloop.demo.run import DemoResult, run_demo
from reviewloop.demo.sample import sample_reviews
from reviewloop.operations.logs import configure_logging
from reviewloop.terminal import say, say_behind
from trainer.gate.verdict import Verdict, report_lines

_SHOWN = {"plain": 5, "typos": 1, "one_word": 1, "emoji": 1, "mixed": 1, "question": 1, "sarcasm": 1}
_NEXT = (
    ("reviewloop query --label negative --limit 5", "what customers complain about"),
    ('reviewloop predict "Lovely fabric, but it shrank in the first wash."', "a label for your own text"),
    ("reviewloop up --demo", "everything at once, with the console in a browser"),
    ("reviewloop local down", "stop Kafka and PostgreSQL; the data stays"),
)
_NEXT_AFTER_NIGHT = (
    ("reviewloop trainer show {run} --format table", "all that the training run measured"),
    ("reviewloop adapters history --task first-night", "which adapter was active when, and who decided"),
    ("reviewloop label queue --task first-night", "what is worth a label next"),
)


def demo(
    *,
    night: Annotated[
        bool, typer.Option("--night", help="Let the learning loop turn once: label, train, judge, swap.")
    ] = False,
) -> None:
    """Publish, score and query the bundled reviews on a local Kafka and PostgreSQL.

    Both are started where they do not run.
    """
    configure_logging(quiet=True)
    if night:
        _print_night(run_loop(_say, show_progress))
        return
    _print(run_demo(_say, show_progress))


def _say(what: str) -> None:
    say_behind("", f"{what} …", err=True)


def _print(result: DemoResult) -> None:
    picked = [
        review
        for trait, number in _SHOWN.items()
        for review in [item for item in sample_reviews() if item.trait == trait][:number]
        if review.id in result.rows
    ]
    rows = (
        {**result.rows[review.id], "trait": review.trait, "sample_label": review.label} for review in picked
    )
    columns = ("text", "label", "confidence", "sample_label", "trait")
    print_rows(rows, "table", table_columns=columns, title="Some of the scored reviews")
    counts = Counter(row["label"] for row in result.rows.values())
    right, known = result.agreement
    say("classes       " + ", ".join(f"{number} {label}" for label, number in counts.most_common()))
    say(f"agreement     {right} of {known} with the sample's own labels ({right / known:.0%})")
    say(f"speed         {result.scored / result.seconds:,.0f} reviews a second, topic to row")
    say(f"adapter       {result.adapter}")
    say("\nNext:")
    for command, purpose in _NEXT:
        say(f"  {purpose}:\n    {command}")


def _print_night(result: LoopResult) -> None:
    say(f"\nTraining run {result.run.id}, after {result.answers} answers: {result.run.state}")
    verdict = result.run.verdict or {}
    if "checks" in verdict:
        for head, sentence in report_lines(Verdict.from_json(verdict)):
            say_behind(f"  {head}", sentence)
    else:
        for reason in verdict.get("reasons", ()):
            say_behind("  ", reason)
    say("\nThe worker that ran all the while")
    for version, number in result.rows.items():
        say(f"  {number:>4} rows by {version}")
    say("\nUnlabelled reviews, by the sample's own labels")
    for when, found in (("evening", result.evening), ("morning", result.morning)):
        say(f"  {when}  macro-F1 {found.macro_f1:.1%}, {found.right} of {found.known} right")
    say("\nNext:")
    for command, purpose in _NEXT_AFTER_NIGHT:
        say(f"  {purpose}:\n    {command.format(run=result.run.id)}")
