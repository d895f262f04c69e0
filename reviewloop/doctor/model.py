"""The adapter that serves and the base model below it: loaded, and made to score a sentence."""

import time
from collections.abc import Iterator

from classifier.base_model import locate
from classifier.devices import Execution
from classifier.host import Hosts
from reviewloop.doctor.finding import Finding, Level
from reviewloop.settings import Settings
from reviewloop.wiring import load_registered
from storage.adapters.registry import AdapterStore
from storage.database import Database


def base_model(settings: Settings) -> Iterator[Finding]:
    """Is the configured base model on this machine, or can it be had?

    Where none is configured, the adapter names its own: nothing is looked for that nobody asked for.
    """
    if "base_model" not in settings.classifier.model_fields_set:
        yield Finding("base model", Level.ok, "none is configured: each adapter names its own")
        return
    base = locate(settings.classifier.base_model, settings.classifier.base_revision)
    yield Finding("base model", Level.ok, f"{base.name} in {base.directory}")


def adapters(settings: Settings, database: Database) -> Iterator[Finding]:
    """Has every task an active adapter that loads and scores here?"""
    store, hosts = AdapterStore(database), Hosts(settings.classifier)
    for task in settings.consumer.tasks:
        activation = store.active(task)
        if activation is None:
            yield Finding(
                "adapter",
                Level.fail,
                f"none is active for the task '{task}'",
                "run 'reviewloop adapters add DIR --activate'",
            )
            continue
        started = time.monotonic()
        classifier = load_registered(settings, store, activation.version, hosts)
        loaded = time.monotonic()
        (answer,) = classifier.predict(["The doctor says that this works."])
        scored = time.monotonic()
        yield Finding(
            "adapter",
            Level.ok,
            f"{answer.adapter_version} loads in {loaded - started:.1f} s and scores a sentence in "
            f"{(scored - loaded) * 1000:.0f} ms; {_engine(classifier.execution)}",
        )


def _engine(execution: Execution) -> str:
    said = f"the {execution.engine} engine serves on {execution.device} in {execution.number_format}"
    return said if execution.engine == "packed" else f"{said}, as {execution.engine_reason}"
