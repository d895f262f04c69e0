"""Compares the active adapter with the one before it, with the gate's rule."""

from datetime import datetime

from reviewloop.settings import Settings
from reviewloop.wiring.registry import load_registered
from reviews.label import AuditRow
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.label_sets import LabelSetStore
from storage.learning.audits import audit_answers
from trainer.gate import rollback


def roll_back_if_worse(settings: Settings, database: Database, task: str) -> rollback.RollbackLook:
    """One look at a task, with the gate's rule; rolls back if it says so.

    Raises:
        AdapterError: If an adapter whose predictions are missing cannot be used.
    """
    store = AdapterStore(database)
    shares = settings.trainer.nightly.shares

    def read_rows(task: str, active: str, previous: str, since: datetime) -> list[AuditRow]:
        return audit_answers(database, task, active=active, previous=previous, since=since, shares=shares)

    return rollback.roll_back_if_worse(
        task,
        store,
        read_rows,
        load=lambda version: load_registered(settings, store, version),
        judge=lambda truth, active, previous, draw_weights: rollback.should_roll_back(
            truth, active, previous, draw_weights, settings.trainer.gate
        ),
        label_set=LabelSetStore(database).declared(task),
    )
