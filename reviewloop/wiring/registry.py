"""Opens the database, and loads the adapters that are registered there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import structlog

from classifier.adapters.store import CachedAdapter, cached
from classifier.classifier import Classifier
from classifier.ensemble import ENSEMBLE, Ensemble, member_versions
from classifier.host import Hosts
from classifier.settings import ClassifierSettings
from reviewloop.local.places import cache_directory
from reviewloop.settings import Settings
from reviews.adapter import AdapterVersion
from reviews.errors import AdapterError
from storage.adapters.registry import AdapterStore
from storage.database import Database


def serving_settings(settings: Settings) -> ClassifierSettings:
    """The classifier's settings; number formats are remembered where configured, or in the user's cache."""
    if settings.classifier.number_formats is not None:
        return settings.classifier
    return settings.classifier.model_copy(update={"number_formats": cache_directory() / "number_formats"})


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """The configured database, closed at the end.

    Raises:
        WrongUse: If none is configured and no local stack runs.
    """
    database = Database(settings.database)
    try:
        yield database
    finally:
        database.close()


def load_registered(
    settings: Settings, store: AdapterStore, version: str, hosts: Hosts | None = None
) -> Classifier | Ensemble:
    """A classifier of a registered adapter, or an ensemble; files come through this machine's cache.

    The base model is the configured one where one is configured, else the one that the adapter names; an
    adapter refuses a base that it was not trained on.

    Args:
        settings: All settings.
        store: Where adapters are registered.
        version: The adapter, or an unambiguous beginning of its version.
        hosts: What this process has on its bases already; None: nothing is shared with other adapters.

    Raises:
        AdapterError: If the adapter is damaged or does not fit the base.
        ModelError: If the base cannot be loaded.
    """
    adapter, hosts = store.find(version), hosts or Hosts(serving_settings(settings))
    members = members_of(store, adapter.version)
    if not members:
        return _load(settings, store, adapter, hosts)
    ensemble = Ensemble([_load(settings, store, store.find(member), hosts) for member in members])
    if ensemble.adapter_version != adapter.version:
        raise AdapterError(f"{adapter.version} does not name its members: combine the adapters again.")
    return ensemble


def members_of(store: AdapterStore, version: str) -> tuple[str, ...]:
    """The versions of an ensemble's members; empty for a single adapter.

    Raises:
        AdapterError: If the ensemble's file is damaged.
    """
    content = store.file(version, ENSEMBLE)
    return () if content is None else member_versions(content)


def registered_directory(settings: Settings, store: AdapterStore, version: str) -> Path | None:
    """The directory of a registered adapter in this machine's cache, fetched where it is not there yet.

    None for an ensemble, which has no files of its own.

    Raises:
        AdapterError: If the adapter is damaged.
    """
    if members_of(store, version):
        return None
    return _cached(settings, store, store.find(version)).directory


def _load(settings: Settings, store: AdapterStore, adapter: AdapterVersion, hosts: Hosts) -> Classifier:
    directory, manifest = _cached(settings, store, adapter)
    return hosts.load(base_for(settings, adapter), directory, adapter.task, manifest)


def _cached(settings: Settings, store: AdapterStore, adapter: AdapterVersion) -> CachedAdapter:
    root = settings.consumer.adapter_cache or cache_directory() / "adapters"
    return cached(adapter.content_hash, root, lambda: store.files(adapter.version), adapter.task)


def say_what_serves(classifier: Classifier | Ensemble) -> Classifier | Ensemble:
    """The same classifier; the log says with which engine and number format it calculates, and why."""
    structlog.get_logger().info(
        "classifier_loaded",
        task=classifier.task,
        adapter=classifier.adapter_version,
        **asdict(classifier.execution),
    )
    return classifier


def base_for(settings: Settings, adapter: AdapterVersion | None) -> str:
    """The base model that is configured; where none is, the one that the adapter names, if it names one."""
    configured = settings.classifier.base_model
    if adapter is None or "base_model" in settings.classifier.model_fields_set:
        return configured
    return adapter.base_model or configured
