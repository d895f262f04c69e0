"""The history of a task's activations: what served when, and what a rollback brings back. Pure.

An activation either brings something new, or restores an earlier one. Going back follows what each brought,
not the order of events: after A, B, C, one rollback restores B, and a second one A, not C again. What was
rolled back is not on the way any more; it is reached by name alone.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from reviews.adapter import Activation
from reviews.errors import WrongUse


class Service(NamedTuple):
    """One adapter's time of service.

    Attributes:
        activation: How it began.
        ended_at: When the next one took over (UTC); None: it serves still.
    """

    activation: Activation
    ended_at: datetime | None


def services(history: Sequence[Activation]) -> list[Service]:
    """What served when, newest first.

    Args:
        history: Every activation, of one task or of several, newest first.
    """
    found, began_later = [], dict[str, datetime]()
    for activation in history:
        found.append(Service(activation, began_later.get(activation.task)))
        began_later[activation.task] = activation.activated_at
    return found


def before(history: Sequence[Activation]) -> Activation:
    """The activation that a rollback restores: what served before the adapter that serves now came.

    Args:
        history: Every activation of one task, newest first.

    Raises:
        WrongUse: If nothing served before.
    """
    if not history:
        raise WrongUse("No adapter serves this task: there is nothing to roll back.")
    for earlier in _way_back(history):
        if earlier.version != history[0].version:
            return earlier
    raise WrongUse(f"No adapter served the task '{history[0].task}' before {history[0].version}.")


def last_of(history: Sequence[Activation], version: str) -> Activation:
    """The latest time that an adapter was brought, for going back to it by name.

    Args:
        history: Every activation of one task, newest first.
        version: The adapter.

    Raises:
        WrongUse: If it never served, or serves now.
    """
    if history and history[0].version == version:
        raise WrongUse(f"{version} serves the task '{history[0].task}' now: there is nothing to roll back.")
    by_id = {activation.id: activation for activation in history}
    for activation in history:
        if activation.version == version:
            return _brought(activation, by_id)
    raise WrongUse(
        f"{version} has never served this task: 'reviewloop adapters promote' activates what is new, "
        "'adapters history' shows what served."
    )


def _way_back(history: Sequence[Activation]) -> Iterator[Activation]:
    """Each activation that brought something, from the one before what serves now down to the first."""
    by_id = {activation.id: activation for activation in history}
    current = _brought(history[0], by_id)
    while current.replaces is not None:
        current = _brought(by_id[current.replaces], by_id)
        yield current


def _brought(activation: Activation, by_id: dict[int, Activation]) -> Activation:
    """The activation that brought what this one serves: itself, or the one that it restores."""
    return activation if activation.restores is None else by_id[activation.restores]
