"""``reviewloop drift``: reports and the watch of drift since the adapter's promotion."""

import threading
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from console.drift_reports.audit import with_audit
from console.drift_reports.page import page
from console.drift_reports.wording import accuracy, headline, named_class, number, since, unseen
from reviewloop.cli.arguments import configured
from reviewloop.cli.output import FORMAT, Format, FormatOption, RawOption, chosen_format, print_rows
from reviewloop.cli.running import on_signals
from reviewloop.drift_reports.watch import DriftWatch
from reviewloop.drift_reports.wiring import DriftParts, drift_parts, open_drift_parts
from reviewloop.operations.logs import configure_logging
from reviewloop.settings import load_settings
from reviewloop.terminal import say
from reviews.drift import DriftReport, to_queue
from reviews.errors import ReviewLoopError, WrongUse
from reviews.json_output import to_json
from reviews.moments import parse_moment
from reviews.retry import Outage
from storage.drift_reports import DriftReportStore

app = typer.Typer(no_args_is_help=True, help="Whether the stream is still what the adapter was promoted for.")

_LIST = ("id", "verdict", "since", "until", "moved", "reviews", "task", "alerted_at", "created_at")
_FINDINGS = ("measure", "effect", "p", "before", "now", "moved")


class DriftVerdict(StrEnum):
    """What a report can say of a stream."""

    stable = "stable"
    drift = "drift"
    unknown = "unknown"


@app.command()
def report(
    *,
    since: Annotated[str | None, typer.Option(help="Scored since: ISO 8601, or an age such as 24h.")] = None,
    until: Annotated[str | None, typer.Option(help="Scored before: ISO 8601, or an age such as 24h.")] = None,
    reference_since: Annotated[
        str | None, typer.Option(help="Compare with reviews scored since; unset, since the promotion.")
    ] = None,
    reference_until: Annotated[
        str | None, typer.Option(help="Compare with reviews scored before; unset, as drift.reference_* say.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task; unset, the first configured one.")] = None,
    output_format: Annotated[Literal["table", "json", "jsonl", "html"] | None, FORMAT] = None,
    output: Annotated[Path | None, typer.Option(help="Into this file instead of standard output.")] = None,
    report_id: Annotated[
        int | None, typer.Option("--id", help="Show this report again, whichever adapter is active now.")
    ] = None,
    alert: Annotated[
        bool,
        typer.Option(
            "--alert",
            help="On drift, send an alert, queue reviews and start a training run, as the watch does.",
        ),
    ] = False,
    queue: Annotated[int, typer.Option(min=0, help="Queue so many of the new reviews to be labelled.")] = 0,
) -> None:
    """Compare a window with the stream since the adapter's promotion; the same windows are computed once."""
    configure_logging(quiet=True)
    with configured(task) as (settings, database):
        parts = drift_parts(database, settings, task or settings.consumer.tasks[0])
        if report_id is None:
            found = parts.reporter.report(
                parse_moment(since),
                parse_moment(until),
                reference=(parse_moment(reference_since), parse_moment(reference_until)),
                wants_alert=alert,
                wants_training=alert,
            )
            _say_if_shortened(parse_moment(since), found)
        elif since or until or reference_since or reference_until or task or alert:
            raise WrongUse(
                "--id names a report that is stored: leave out --since, --until, --reference-since, "
                "--reference-until, --task and --alert."
            )
        else:
            found = _stored(parts, report_id)
        found = with_audit(parts.windows, found)
        form = output_format or (chosen_format(None) if output is None else "jsonl")
        _write(_rendered(parts, found, form), output)
        if queue:
            number = parts.queue.add(to_queue(found, queue))
            say(f"Queued {number:,} reviews to be labelled.", err=True)
        if alert:
            parts.announce()


@app.command("list")
def list_reports(
    *,
    task: Annotated[str | None, typer.Option(help="Only of this task.")] = None,
    verdict: Annotated[DriftVerdict | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many, the newest first; 0: all.")] = 20,
    output: FormatOption = None,
    raw: RawOption = False,
) -> None:
    """The reports so far, the newest first."""
    with configured(task) as (_, database):
        found = DriftReportStore(database).latest(task, verdict and verdict.value, limit or None)
    print_rows(map(_listed, found), output, table_columns=_LIST, raw=raw)


@app.command()
def watch(
    *,
    task: Annotated[str | None, typer.Option(help="The task; unset, the first configured one.")] = None,
    once: Annotated[bool, typer.Option("--once", help="End when all that is stored was looked at.")] = False,
) -> None:
    """Follow what is newly stored and raise an alert when the stream changes; SIGTERM or Ctrl-C ends it."""
    configure_logging()
    settings = load_settings()
    stopping = threading.Event()
    name = task or settings.consumer.tasks[0]
    with on_signals(stopping), open_drift_parts(settings, name) as parts:
        watching = DriftWatch(parts.windows, parts.reports, parts.reporter, settings.drift, name)
        if once:
            while watching.step()[0]:
                pass
            parts.announce()
        else:
            _follow(watching.step, parts, settings.drift.watch.poll_seconds, stopping)


def _follow(step: Any, parts: DriftParts, poll_seconds: float, stopping: threading.Event) -> None:
    """Look again and again; wait while a service is unavailable."""
    outage = Outage("drift_watch_waits", "drift_watch_goes_on", longest_seconds=60.0)
    while not stopping.is_set():
        try:
            reviews, _ = step()
            parts.announce()
        except ReviewLoopError as err:
            pause = outage.failed(err)
        else:
            outage.ended()
            pause = 0.0 if reviews else poll_seconds
        stopping.wait(pause)


def _stored(parts: DriftParts, report_id: int) -> DriftReport:
    found = parts.reports.get(report_id)
    if found is None:
        raise WrongUse(f"There is no drift report {report_id}; 'reviewloop drift list' shows what there is.")
    return found


def _say_if_shortened(asked: datetime | None, found: DriftReport) -> None:
    if asked is not None and asked < found.windows.since:
        say(f"The window begins where the reference ends, {_shown(found.windows.since)} (UTC).", err=True)


def _rendered(parts: DriftParts, report: DriftReport, form: Format) -> str | None:
    """The report as text; None where it was printed already."""
    if form in {"json", "jsonl"}:
        return to_json(_as_json(report), indent=1 if form == "json" else None) + "\n"
    if form == "html":
        wanted = report.attribution.get("examples", [])
        found = parts.windows.by_record(report.windows.task, wanted)
        examples = [found[record] for record in wanted if record in found]
        return page(report, examples)
    _print(report)
    return None


def _write(content: str | None, output: Path | None) -> None:
    if content is None:
        if output is not None:
            raise WrongUse("A table goes to standard output: give --format json or html with --output.")
    elif output is None:
        say(content.removesuffix("\n"))
    else:
        output.write_text(content, encoding="utf-8", errors="replace")
        say(f"Wrote {output}.")


def _print(report: DriftReport) -> None:
    say(headline(report))
    windows = report.windows
    say(f"{report.counted} reviews from {_shown(windows.since)} to {_shown(windows.until)} (UTC)")
    if provisional := unseen(report):
        say(provisional)
    if report.verdict == "drift":
        say(f"since {_shown(since(report))}")
    expected = report.measures.get("expected")
    if expected and report.verdict != "unknown":
        before, after = expected["reference"], expected["window"]
        say(
            f"expected accuracy {after['accuracy']:.1%} (was {before['accuracy']:.1%}), "
            f"macro-F1 {after['macro_f1']:.1%} (was {before['macro_f1']:.1%})"
        )
    audited = report.measures["audited"]["window"]
    if audited["labels"]:
        say(f"accuracy on audit labels {accuracy(audited)}")
    if findings := report.measures.get("findings"):
        print_rows(map(_finding, findings), "table", table_columns=_FINDINGS)
    for kind in ("products", "sources", "clusters", "words"):
        if parts := report.attribution.get(kind):
            shown = ", ".join(f"{part['name']} {part['share']:.0%}" for part in parts[:5])
            say(f"{kind}: {shown}")


def _finding(found: dict[str, Any]) -> dict[str, Any]:
    about = f" ({name})" if (name := named_class(found)) else ""
    return {
        "measure": f"{found['measure']}{about}",
        "effect": found["effect"],
        "p": f"{found['adjusted_p_value']:.1g}",
        "before": number(found["reference"], found["unit"]),
        "now": number(found["window"], found["unit"]),
        "moved": "yes" if found["is_drift"] else "",
    }


def _listed(report: DriftReport) -> dict[str, Any]:
    return {
        "id": report.id,
        "task": report.windows.task,
        "verdict": report.verdict,
        "moved": ", ".join(report.measures.get("moved", [])),
        "since": report.windows.since,
        "until": report.windows.until,
        "reviews": report.reviews,
        "created_at": report.created_at,
        "alerted_at": report.alerted_at,
    }


def _as_json(report: DriftReport) -> dict[str, Any]:
    windows = report.windows
    return {
        "id": report.id,
        "task": windows.task,
        "verdict": report.verdict,
        "reference": {
            "since": windows.reference_since.isoformat(),
            "until": windows.reference_until.isoformat(),
        },
        "window": {
            "since": windows.since.isoformat(),
            "until": windows.until.isoformat(),
            "reviews": report.reviews,
        },
        "measures": dict(report.measures),
        "attribution": dict(report.attribution),
        "created_at": report.created_at and report.created_at.isoformat(),
        "alerted_at": report.alerted_at and report.alerted_at.isoformat(),
    }


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
