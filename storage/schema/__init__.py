"""The tables and views in SQLAlchemy, a module for each area; a test compares them with the migrations.

Whichever module is imported, all are, so that ``metadata`` and ``views`` are complete and every foreign key
finds its table.
"""

from storage.schema import (
    accounts,
    adapters,
    annotation_queue,
    drift_reports,
    erasures,
    labels,
    learning,
    predictions,
    sinks,
    stream,
)
from storage.schema.columns import metadata
from storage.schema.views import views

__all__ = [
    "accounts",
    "adapters",
    "annotation_queue",
    "drift_reports",
    "erasures",
    "labels",
    "learning",
    "metadata",
    "predictions",
    "sinks",
    "stream",
    "views",
]
