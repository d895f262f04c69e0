"""Mirrors training runs, adapters and which one is active to MLflow, beside everything else.

The database is the outbox: what the server has not had is looked for now and then, and sent again until it
was taken. Nothing waits for it. Of several mirrors one works at a time, by a lease.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from threading import Event, Thread
from typing import NamedTuple

import structlog

from reviewloop.integrations.mlflow_server import MlflowServer, ServerRun, flat
from reviewloop.integrations.settings import MlflowSettings
from reviews.adapter import AdapterVersion
from reviews.errors import ReviewLoopError, Unavailable
from reviews.retry import Outage
from reviews.training_run import TrainingRun
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.learning.leases import Lease, LeaseHeld, LeaseStore
from storage.learning.mlflow_outbox import MlflowOutbox

log = structlog.get_logger()

SERVING = "serving"
"""The alias of the active adapter."""
_FOLDER = "adapter"
_RUN_TAG, _ADAPTER_TAG = "reviewloop.training_run", "reviewloop.adapter"
_LEASE = "mlflow"
_LEASE_SECONDS = 300.0
_AT_ONCE = 20
_STOP_SECONDS = 1.0


class Mirrored(NamedTuple):
    """What one pass mirrored."""

    runs: int
    adapters: int
    aliases: int


class MlflowMirror:
    """Mirrors to one server.

    Args:
        settings: Which server, and how experiments and models are called.
        database: What is mirrored.
    """

    def __init__(self, settings: MlflowSettings, database: Database) -> None:
        self._name = settings.name
        self._server = MlflowServer(settings)
        self._outbox = MlflowOutbox(database, self._server.url)
        self._adapters = AdapterStore(database)
        self._leases = LeaseStore(database)

    def mirror(self) -> Mirrored | None:
        """Send everything that the server has not had; None while another process does.

        Raises:
            WebRefusal: If the server refuses something; what came before is remembered.
            Unavailable: If the server or the database does not answer; the same.
        """
        try:
            with self._leases.alone(_LEASE, _LEASE_SECONDS, "Runs are being sent to MLflow") as lease:
                return Mirrored(self._runs(lease), self._all_adapters(lease), self._aliases())
        except LeaseHeld:
            return None

    def _runs(self, lease: Lease) -> int:
        done = 0
        while runs := self._outbox.runs(_AT_ONCE):
            for run in runs:
                self._stay_alone(lease)
                self._outbox.note("run", str(run.id), self._mirror_run(run))
            done += len(runs)
        return done

    def _all_adapters(self, lease: Lease) -> int:
        done = 0
        while adapters := self._outbox.adapters(_AT_ONCE):
            for version, made_by in adapters:
                self._stay_alone(lease)
                adapter = self._adapters.find(version)
                self._outbox.note("adapter", version, self._mirror_adapter(adapter, made_by))
            done += len(adapters)
        return done

    def _aliases(self) -> int:
        activations = self._outbox.activations()
        for one in activations:
            self._server.set_alias(self._called(one.task), SERVING, one.number)
            self._outbox.note("activation", str(one.id), one.number)
        return len(activations)

    def _stay_alone(self, lease: Lease) -> None:
        if not self._leases.renew(lease, _LEASE_SECONDS):
            raise Unavailable("Another process mirrors to MLflow by now: this one leaves it to that.")

    def _mirror_run(self, run: TrainingRun) -> str:
        """MLflow's id of a run of ours."""
        ended = run.finished_at or run.started_at
        there = self._server.run(
            self._server.experiment(self._called(run.task)),
            (_RUN_TAG, str(run.id)),
            f"training run {run.id}",
            _milliseconds(run.started_at),
        )
        tags = {
            "reviewloop.state": run.state,
            "reviewloop.trigger": run.trigger,
            "reviewloop.active_adapter": run.active_adapter,
            _ADAPTER_TAG: run.candidate_adapter,
            "reviewloop.error": run.error,
            "reviewloop.reasons": " ".join((run.verdict or {}).get("reasons", ())),
        }
        self._server.log(
            there.id,
            params={name: str(value) for name, value in flat(run.config)},
            metrics=_numbers({"": run.metrics or {}, "gate": _checks(run)}),
            tags={name: value for name, value in tags.items() if value},
            at_ms=_milliseconds(ended),
        )
        self._server.end(there.id, has_failed=run.state == "failed", end_ms=_milliseconds(ended))
        return there.id

    def _mirror_adapter(self, adapter: AdapterVersion, made_by: str | None) -> str:
        """The number of the model version that is an adapter of ours."""
        there = self._server.find_run(made_by) if made_by else self._run_of_its_own(adapter)
        tags = {
            _ADAPTER_TAG: adapter.version,
            "reviewloop.labels": ", ".join(adapter.labels),
            "reviewloop.base_model": adapter.base_model,
            "reviewloop.sha256": adapter.content_hash,
        }
        if not self._server.upload(there, _FOLDER, self._adapters.files(adapter.version)):
            log.warning("mlflow_takes_no_files", adapter=adapter.version, place=there.files)
        return self._server.model_version(self._called(adapter.task), there, _FOLDER, tags)

    def _run_of_its_own(self, adapter: AdapterVersion) -> ServerRun:
        """A run for an adapter that no training run of ours made."""
        if adapter.created_at is None:
            raise ValueError(f"{adapter.version} is not registered.")
        at_ms = _milliseconds(adapter.created_at)
        there = self._server.run(
            self._server.experiment(self._called(adapter.task)),
            (_ADAPTER_TAG, adapter.version),
            f"adapter {adapter.version}",
            at_ms,
        )
        params = {
            "labels": ", ".join(adapter.labels),
            "base_model": adapter.base_model,
            "base_revision": adapter.base_revision or "",
            "temperature": str(adapter.temperature),
            "parent": adapter.parent or "",
        }
        self._server.log(
            there.id, params=params, metrics=_numbers({"": adapter.metrics}), tags={}, at_ms=at_ms
        )
        self._server.end(there.id, has_failed=False, end_ms=at_ms)
        return there

    def _called(self, task: str) -> str:
        """The experiment and the registered model of a task."""
        return f"{self._name}-{re.sub(r'[^A-Za-z0-9_-]', '_', task)}"


@contextmanager
def mirroring(settings: MlflowSettings, database: Database, stopping: Event) -> Iterator[None]:
    """Mirror in a thread beside the block, if a server is configured; trouble with it is logged."""
    if settings.tracking_uri is None:
        yield
        return
    mirror = MlflowMirror(settings, database)
    over = Event()

    def follow() -> None:
        outage = Outage("mlflow_not_mirrored", "mlflow_mirrored_again")
        while not (stopping.is_set() or over.is_set()):
            try:
                done = mirror.mirror()
            except (ReviewLoopError, KeyError, TypeError) as err:  # the last two: it answers in another way
                outage.failed(err)
            else:
                outage.ended()
                if done is not None and any(done):
                    log.info("mlflow_mirrored", **done._asdict())
            over.wait(settings.poll_seconds)

    thread = Thread(target=follow, name="mlflow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_STOP_SECONDS)  # one that waits for the server ends with the process


def _checks(run: TrainingRun) -> dict[str, float]:
    return {one["name"]: one["value"] for one in (run.verdict or {}).get("checks", ())}


def _numbers(values: object) -> dict[str, float]:
    """The finite numbers among nested values, by dotted name."""
    return {
        name.strip("."): float(value)
        for name, value in flat(values)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
