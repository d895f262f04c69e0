"""``reviewloop rescore``: scores stored reviews with another adapter while the stream goes on."""

import os
import secrets
import sys
import threading
from contextlib import suppress
from typing import Annotated, Any

import typer

from consumer.rescoring import Rescorer
from reviewloop.cli.arguments import configured
from reviewloop.cli.output import RawOption, RowsFormat, print_rows
from reviewloop.cli.running import Progress, on_signals, show_progress
from reviewloop.operations.logs import configure_logging
from reviewloop.operations.supervisor import Child, Supervisor, tell_workers
from reviewloop.settings import WORKER_VARIABLE, Settings
from reviewloop.terminal import say
from reviewloop.wiring.registry import load_registered, say_what_serves
from reviewloop.wiring.topics import topics_of_task
from reviews.adapter import AdapterVersion
from reviews.errors import ReviewLoopError, Unavailable, WrongUse
from reviews.moments import parse_moment
from reviews.rescoring import RescoreJob
from storage.adapters.registry import AdapterStore
from storage.adapters.rescoring import RescoreStore
from storage.database import Database
from storage.learning.leases import this_process
from storage.stream.partitions import PartitionStore

_STOP_SECONDS = 180.0  # a worker ends after the piece in hand
_TABLE = ("job", "version", "state", "done", "records", "replaced", "refused", "created_at", "task")


def rescore(
    *,
    task: Annotated[str | None, typer.Option(help="The task; unset, the configured one.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Received since: ISO 8601, or an age such as 24h or 7d.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Received before: the same.")] = None,
    adapter: Annotated[
        str | None, typer.Option(help="The adapter that they get; unset, the active one.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    resume: Annotated[
        int | None, typer.Option(help="Work on this job: after a crash, or from another machine as well.")
    ] = None,
    range_records: Annotated[
        int, typer.Option(min=1, help="Offsets in a piece of work; less for many workers on few reviews.")
    ] = 10_000,
    lease_seconds: Annotated[
        float, typer.Option(min=1, help="A worker that is silent for so long loses its piece to others.")
    ] = 60,
    nice: Annotated[
        int,
        typer.Option(min=0, max=19, help="The niceness: higher leaves more of the CPU to other processes."),
    ] = 5,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the running job; what it did stays.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show the latest jobs.")] = False,
    output: Annotated[
        RowsFormat | None,
        typer.Option("--format", help="Of --status; unset: a table on a terminal, else jsonl."),
    ] = None,
    raw: RawOption = False,
) -> None:
    """Score stored reviews with another adapter, without disturbing the live stream.

    The new prediction becomes the current one, the one before it goes to the history. Killed at any moment,
    it goes on by --resume; any number of processes on any machines may work on one job. It covers what is
    stored when it begins, and yields the processor to other processes.
    """
    if status + cancel + (resume is not None) > 1:
        raise WrongUse("Give one of --status, --cancel and --resume.")
    with configured(task) as (settings, database):
        store = RescoreStore(database, lease_seconds)
        if status:
            rows = (_row(store, job) for job in store.latest(task))
            print_rows(rows, output, table_columns=_TABLE, raw=raw)
        elif cancel:
            _cancel(store, task or settings.classifier.task)
        else:
            name = task or settings.classifier.task
            stored = {position.topic for position in PartitionStore(database).list_positions()}
            job = (
                _resumed(store, resume)
                if resume is not None
                else store.create(
                    _chosen(database, name, adapter),
                    since=parse_moment(since),
                    until=parse_moment(until),
                    range_records=range_records,
                    topics=topics_of_task(settings, name, stored),
                )
            )
            say(f"Job {job.id}: reviews of the task '{job.task}' get {job.version}.", err=True)
            if workers == 1:
                _work(settings, database, store, job, nice)
            else:
                options = ["--lease-seconds", str(lease_seconds), "--nice", str(nice)]
                _run_workers(settings, store, job, workers, options)
            _tell(store, store.find(job.id))


def _chosen(database: Database, task: str, version: str | None) -> AdapterVersion:
    """The adapter that was asked for, else the active one."""
    adapters = AdapterStore(database)
    if version is None:
        active = adapters.active(task)
        if active is None:
            raise WrongUse(f"No adapter is active for the task '{task}': name one by --adapter.")
        version = active.version
    found = adapters.find(version)
    if found.task != task:
        raise WrongUse(f"{found.version} was made for the task '{found.task}', not '{task}': see --task.")
    return found


def _resumed(store: RescoreStore, job_id: int) -> RescoreJob:
    job = store.find(job_id)
    if job.state == "cancelled":
        raise WrongUse(f"The job {job.id} was cancelled: begin another one.")
    return job  # one that is done has no range left: joining too late does no harm


def _cancel(store: RescoreStore, task: str) -> None:
    job = store.cancel(task)
    if job is None:
        raise WrongUse(f"No reviews of the task '{task}' are being rescored.")
    _tell(store, job)


def _work(settings: Settings, database: Database, store: RescoreStore, job: RescoreJob, nice: int) -> None:
    """Take part in the job until it is over, or until a signal."""
    worker = os.environ.get(WORKER_VARIABLE)
    configure_logging(worker=worker)
    stopping, total = threading.Event(), store.progress(job).records
    classifier = say_what_serves(load_registered(settings, AdapterStore(database), job.version))
    if hasattr(os, "nice"):
        os.nice(nice)
    with (
        on_signals(stopping),
        show_progress("rescoring", total, is_logged=True, is_silent=worker is not None) as progress,
    ):
        Rescorer(
            store,
            job,
            classifier,
            embeddings=settings.consumer.embeddings,
            holder=f"{this_process()}:{secrets.token_hex(4)}",
            stopping=stopping,
            on_progress=lambda: _show_done(store, job, progress),
            retry_max_seconds=settings.consumer.retry_max_seconds,
        ).run()


def _run_workers(
    settings: Settings, store: RescoreStore, job: RescoreJob, workers: int, options: list[str]
) -> None:
    """Workers as processes, each started again when it dies; their common progress is shown here."""
    configure_logging()
    command = [sys.executable, "-m", "reviewloop", "rescore", "--resume", str(job.id), *options]
    children = [
        # The totals are printed once, for all of them, by this process.
        Child(f"worker {number}", command, variables, is_silent=True)
        for number, variables in enumerate(tell_workers(settings.classifier, workers), start=1)
    ]
    stopping, total = threading.Event(), store.progress(job).records
    with on_signals(stopping), show_progress("rescoring", total, is_logged=True) as progress:
        try:
            Supervisor(
                children,
                stopping,
                stop_seconds=_STOP_SECONDS,
                look=lambda: _show_done(store, job, progress),
            ).run()
        except WrongUse:
            raise
        except ReviewLoopError as err:
            raise ReviewLoopError(f"{err} 'reviewloop rescore --resume {job.id}' goes on.") from err


def _show_done(store: RescoreStore, job: RescoreJob, progress: Progress) -> None:
    with suppress(Unavailable):  # an error of the progress display does not stop the job
        found = store.progress(job)
        progress(found.done, refused=found.refused)


def _tell(store: RescoreStore, job: RescoreJob) -> None:
    found = store.progress(job)
    refused = f" The model failed on {found.refused:,}, which keep what they had." if found.refused else ""
    more = "" if job.state != "running" else f" 'reviewloop rescore --resume {job.id}' goes on."
    say(f"Job {job.id} is {job.state}: {found.replaced:,} predictions replaced.{refused}{more}")


def _row(store: RescoreStore, job: RescoreJob) -> dict[str, Any]:
    found = store.progress(job)
    return {
        "job": job.id,
        "task": job.task,
        "version": job.version,
        "state": job.state,
        "records": found.records,
        "done": found.done,
        "replaced": found.replaced,
        "refused": found.refused,
        "ranges": found.ranges,
        "open_ranges": found.open_ranges,
        "since": job.since,
        "until": job.until,
        "created_at": job.created_at,
        "finished_at": job.finished_at,
    }
