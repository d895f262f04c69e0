"""Activates an adapter, after the user confirmed the change."""

import getpass
import json
import sys
from collections import Counter
from typing import Any, NamedTuple

import typer

from classifier.adapters.manifest import MANIFEST
from reviewloop.terminal import say
from reviews.adapter import (
    Activation,
    AdapterVersion,
    ComparedMetric,
    compare_metrics,
)
from reviews.errors import ReviewLoopError, WrongUse
from reviews.sanitise import sanitise
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.store import LabelStore

NOBODY = "none"


class Consent(NamedTuple):
    """What a person agreed to beforehand.

    Attributes:
        other_labels: That the labels of the task change.
        worse: That the adapter is worse than the active one, by what both store.
    """

    other_labels: bool = False
    worse: bool = False


def take_over(
    database: Database,
    adapter: AdapterVersion,
    current: Activation | None,
    reason: str,
    consent: Consent,
) -> None:
    """Activate an adapter in place of the one that was seen, after the user confirmed the change.

    Raises:
        WrongUse: If its labels differ from those of the active adapter, without consent.
        ReviewLoopError: If it is worse than the active adapter, without consent.
        ActivationConflict: If another one came first.
    """
    store = AdapterStore(database)
    if current is not None and current.version != adapter.version:
        active = store.find(current.version)
        _require_same_labels(database, adapter, active, allowed=consent.other_labels)
        _confirm_if_worse(store, adapter, active, agreed=consent.worse)
    activate_adapter(store, adapter, current, reason)


def activate_adapter(
    store: AdapterStore,
    adapter: AdapterVersion,
    current: Activation | None,
    reason: str,
    restores: Activation | None = None,
) -> None:
    """Activate an adapter in place of the one that was seen, and say so.

    Raises:
        ActivationConflict: If another one came first.
    """
    if not reason.strip() or "\x00" in reason:
        raise WrongUse("--reason is empty: say in a sentence why.")
    if current is not None and current.version == adapter.version:
        say(f"{adapter.version} is the active adapter of the task '{adapter.task}' already.", err=True)
        return
    done = store.activate(
        adapter, expected=current, decided_by=getpass.getuser(), reason=reason, restores=restores
    )
    instead = f" instead of {done.replaced}" if done.replaced else ""
    say(f"{done.version} is now the active adapter of the task '{done.task}'{instead}.", err=True)


def require_expected(store: AdapterStore, current: Activation | None, expect: str | None) -> None:
    """Refuse to go on if the active adapter is not the expected one.

    Raises:
        ReviewLoopError: Which names the active one.
    """
    active = current.version if current is not None else NOBODY
    if expect is None or (expect if expect == NOBODY else store.find(expect).version) == active:
        return
    raise ReviewLoopError(f"{active} is active now, not {expect}: nothing was changed.")


def changed_labels(adapter: AdapterVersion, active: AdapterVersion) -> str:
    """What becomes of the labels of a task, in a sentence; empty where they stay the same."""
    if set(adapter.labels) == set(active.labels):
        return ""
    new, old = (", ".join(one.labels) for one in (adapter, active))
    return f"{adapter.version} answers with {new}; {active.version}, the active adapter, with {old}."


def _require_same_labels(
    database: Database, adapter: AdapterVersion, active: AdapterVersion, *, allowed: bool
) -> None:
    changed = changed_labels(adapter, active)
    if not changed:
        return
    means = _old_answers(database, adapter)
    if not allowed:
        raise WrongUse(
            f"{changed} Nothing was changed. If the labels are to change, say --allow-other-labels. {means} "
            "If only their names are missing, give them to 'adapters add DIR --labels'."
        )
    say(f"{changed} {means}", err=True)


def _old_answers(database: Database, adapter: AdapterVersion) -> str:
    """What other labels mean for answers that people gave."""
    answers = LabelStore(database).latest_answers(adapter.task)
    retired = Counter(one.label for one in answers if one.label not in {None, *adapter.labels})
    if not retired:
        return "No answer of a person names a label that would go."
    named = ", ".join(f"{count:,} '{label}'" for label, count in retired.most_common())
    return (
        f"Answers of people that name labels which go ({named}) are kept and shown as human_label, but train "
        "and judge no more; questions in the queue are asked with the new labels."
    )


def _confirm_if_worse(
    store: AdapterStore, adapter: AdapterVersion, active: AdapterVersion, *, agreed: bool
) -> None:
    """Say how an adapter compares with the active adapter; one that is worse needs a yes."""
    compared = compare_metrics(adapter, active)
    if compared is None:
        say(_why_not_compared(adapter, active), err=True)
        return
    found = (
        f"{compared.name}: {adapter.version} {compared.candidate:.3f}, {active.version} "
        f"{compared.active:.3f}, {_measured_on(store, adapter, active, compared)}."
    )
    say(found, err=True)
    if not compared.is_worse or agreed:
        return
    if not sys.stdin.isatty():
        raise ReviewLoopError(
            f"{adapter.version} is worse than {active.version}, the active adapter: nothing was changed. "
            "Give --yes to activate it all the same, or try it with 'reviewloop adapters shadow'."
        )
    if not typer.confirm(sanitise(f"{adapter.version} is worse. Activate it all the same?"), err=True):
        raise ReviewLoopError("Nothing was changed.")


def _why_not_compared(adapter: AdapterVersion, active: AdapterVersion) -> str:
    """A sentence on two adapters that have no metric of the same labels in common."""
    unmeasured = [one.version for one in (adapter, active) if not one.metrics]
    if unmeasured:
        why = f"no metrics are stored for {' and '.join(unmeasured)}"
    elif set(adapter.labels) != set(active.labels):
        why = "their labels differ"
    else:
        why = "no metric is stored for both"
    return (
        f"{adapter.version} cannot be compared with {active.version}, the active adapter: {why}. To compare "
        "their predictions, use 'reviewloop adapters shadow'."
    )


def _measured_on(
    store: AdapterStore, adapter: AdapterVersion, active: AdapterVersion, compared: ComparedMetric
) -> str:
    """Whether both metrics were measured on the same rows, as far as the manifests tell."""
    hashes = [_data_hashes(store, one.version).get(compared.split) for one in (adapter, active)]
    if None in hashes:
        return "possibly on different rows"
    return "on the same rows" if hashes[0] == hashes[1] else "each on rows of its own"


def _data_hashes(store: AdapterStore, version: str) -> dict[str, Any]:
    """Hashes of the rows that an adapter was fitted and measured on, by split; empty if unknown."""
    content = store.file(version, MANIFEST)
    if content is None:
        return {}
    hashes = json.loads(content).get("training", {}).get("data_sha256")
    return hashes if isinstance(hashes, dict) else {}
