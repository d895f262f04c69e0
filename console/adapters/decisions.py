"""What people decide about adapters: pages and API take the same steps, and each is logged.

A decision says what its maker saw: the number of the activation, or of the trial, that their page showed.
Another one by now is a conflict that names who was faster; nothing is changed.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from classifier.adapters.archive import read_archive
from classifier.adapters.manifest import describe_adapter
from classifier.adapters.store import name_labels
from console.access import Actor, log_of
from console.parts import ConsoleParts
from console.problems import Conflict, TooMany
from reviews.adapter import Activation, AdapterVersion, ShadowRun
from reviews.errors import WrongUse
from reviews.fields import checked_reason
from storage.adapters.promotion import (
    Consent,
    carry_out,
    propose_promotion,
    propose_rollback,
    require_seen,
)
from storage.adapters.registry import ActivationConflict, AdapterStore
from storage.adapters.shadows import ShadowStore, TrialConflict, overtaken, require_trial

_LABELS_BETWEEN = ","
_uploading = threading.Lock()


def promote(
    parts: ConsoleParts, who: Actor, version: str, *, seen: int | None, reason: str, consent: Consent
) -> Activation:
    """Let an adapter take over its task.

    Args:
        parts: Of the console.
        who: Decides.
        version: The adapter.
        seen: The number of the activation that was shown; None: that no adapter was active.
        reason: Why, in a sentence.
        consent: To other labels, or to an adapter that is worse or that the gate rejected.

    Raises:
        WrongUse: If the decision cannot be meant, or a consent is missing.
        Conflict: If another adapter took over since.
    """
    with _deciding(parts, who, "adapter.promote", version, reason):
        proposal = propose_promotion(parts.database, version)
        require_seen(proposal, seen)
        return carry_out(parts.database, proposal, decided_by=who.name, reason=reason, consent=consent)


def roll_back(
    parts: ConsoleParts, who: Actor, task: str, *, seen: int | None, reason: str, to: str | None = None
) -> Activation:
    """Go back to an earlier adapter: the one before, or a named one.

    Raises:
        WrongUse: If there is nothing to go back to.
        Conflict: If another adapter took over since.
    """
    with _deciding(parts, who, "adapter.rollback", to or task, reason):
        proposal = propose_rollback(parts.database, task, to)
        require_seen(proposal, seen)
        return carry_out(parts.database, proposal, decided_by=who.name, reason=reason, consent=Consent())


def start_trial(
    parts: ConsoleParts, who: Actor, version: str, share: float, *, seen: int | None, reason: str
) -> ShadowRun:
    """Let an adapter score a share of the live reviews, unseen.

    Args:
        parts: Of the console.
        who: Decides.
        version: The adapter.
        share: Of the reviews, in (0, 1].
        seen: The number of the running trial that was shown, which this one ends; None: that there was none.
        reason: Why, in a sentence.

    Raises:
        WrongUse: If it is no trial.
        Conflict: If another trial runs by now.
    """
    with _deciding(parts, who, "shadow.start", version, reason):
        store, adapters = ShadowStore(parts.database), AdapterStore(parts.database)
        adapter = adapters.find(version)
        require_trial(adapter, share, adapters.active(adapter.task))
        running = store.running(adapter.task)
        if (running.id if running else None) != seen:
            raise TrialConflict(overtaken(adapter.task, running))
        return store.start(adapter, share, who.name, checked_reason(reason), instead_of=running)


def stop_trial(parts: ConsoleParts, who: Actor, task: str, *, seen: int, reason: str) -> ShadowRun:
    """End the trial that was shown.

    Raises:
        Conflict: If it has ended by now.
    """
    with _deciding(parts, who, "shadow.stop", task, reason):
        store = ShadowStore(parts.database)
        running = store.running(task)
        if running is None or running.id != seen or not store.stop(running, who.name, checked_reason(reason)):
            raise TrialConflict(overtaken(task, store.running(task)))
        return running


def upload(
    parts: ConsoleParts, who: Actor, file: BinaryIO, name: str, *, task: str | None = None, labels: str = ""
) -> tuple[AdapterVersion, bool]:
    """Register the adapter in a zip file; it takes over nothing.

    Args:
        parts: Of the console.
        who: Uploads.
        file: The zip file.
        name: What it is called, for errors.
        task: The task of a plain peft directory; None: the configured one.
        labels: Names for the classes of a plain peft directory, in order, with commas between.

    Returns:
        The adapter, and whether it was new.

    Raises:
        AdapterError: If the file is no adapter that can be used, or is larger than the bounds.
        WrongUse: If the names do not fit.
        TooMany: If another upload is at work: two at once may not fit into memory.
    """
    if not _uploading.acquire(blocking=False):
        raise TooMany("Another adapter is being uploaded: try again when that is done.")
    try:
        with log_of(parts).decision(who.name, "adapter.upload", name, address=who.address):
            manifest, files = read_archive(file, name, task or parts.classifier.task)
            if task not in {None, manifest.task}:
                raise WrongUse(f"{name} holds an adapter for the task '{manifest.task}', not '{task}'.")
            if labels.strip():
                manifest, files = name_labels(manifest, files, labels.split(_LABELS_BETWEEN))
            adapter = describe_adapter(manifest)
            return adapter, AdapterStore(parts.database).add(adapter, files)
    finally:
        _uploading.release()


@contextmanager
def _deciding(parts: ConsoleParts, who: Actor, action: str, subject: str, reason: str) -> Iterator[None]:
    """Log the decision, and answer with a conflict where somebody else was faster."""
    try:
        with log_of(parts).decision(who.name, action, subject, reason=reason, address=who.address):
            yield
    except (ActivationConflict, TrialConflict) as err:
        raise Conflict(str(err)) from err
