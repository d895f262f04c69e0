"""Activates an adapter, after the user confirmed the change."""

import getpass
import sys
from contextlib import AbstractContextManager, nullcontext

import typer

from reviewloop.terminal import say
from reviews.account import COMMAND_LINE
from reviews.adapter import Activation
from reviews.errors import ReviewLoopError, WrongUse
from reviews.sanitise import sanitise
from storage.accounts.audit_log import AuditLog
from storage.adapters.promotion import Consent, Proposal, carry_out
from storage.adapters.registry import AdapterStore
from storage.database import Database

NOBODY = "none"


def take_over(database: Database, proposal: Proposal, reason: str, consent: Consent) -> None:
    """Activate the adapter of a proposal, after the user confirmed the change.

    Raises:
        WrongUse: If its labels differ from those of the active adapter, or the gate rejected it, without
            consent.
        ReviewLoopError: If it is worse than the active adapter, without consent.
        ActivationConflict: If another one came first.
    """
    if proposal.rejection and not consent.rejected:
        raise WrongUse(
            f"{proposal.rejection} Nothing was changed. If it is to take over all the same, say why with "
            "--reason; 'reviewloop adapters shadow' tries it on live reviews first."
        )
    if not proposal.is_active_already and proposal.active is not None and proposal.restores is None:
        _require_same_labels(proposal, allowed=consent.other_labels)
        _confirm_if_worse(proposal, agreed=consent.worse)
    activate_adapter(database, proposal, reason)


def activate_adapter(database: Database, proposal: Proposal, reason: str) -> None:
    """Activate an adapter in place of the one that was seen, and say so.

    Raises:
        ActivationConflict: If another one came first.
    """
    adapter = proposal.adapter
    if proposal.is_active_already:
        say(f"{adapter.version} is the active adapter of the task '{adapter.task}' already.", err=True)
        return
    agreed, user = Consent(other_labels=True, worse=True, rejected=True), getpass.getuser()
    with _logged(database, proposal, user, reason):
        done = carry_out(database, proposal, decided_by=user, reason=reason, consent=agreed)
    instead = f" instead of {done.replaced}" if done.replaced else ""
    say(f"{done.version} is now the active adapter of the task '{done.task}'{instead}.", err=True)


def _logged(database: Database, proposal: Proposal, user: str, reason: str) -> AbstractContextManager[None]:
    """The audit log notes who overrules the gate; every other activation is in the history of activations."""
    if not proposal.rejection:
        return nullcontext()
    actor = f"{COMMAND_LINE}, {user}"
    return AuditLog(database).decision(actor, "adapter.promote", proposal.adapter.version, reason=reason)


def require_expected(store: AdapterStore, current: Activation | None, expect: str | None) -> None:
    """Refuse to go on if the active adapter is not the expected one.

    Raises:
        ReviewLoopError: Which names the active one.
    """
    active = current.version if current is not None else NOBODY
    if expect is None or (expect if expect == NOBODY else store.find(expect).version) == active:
        return
    raise ReviewLoopError(f"{active} is active now, not {expect}: nothing was changed.")


def _require_same_labels(proposal: Proposal, *, allowed: bool) -> None:
    if not proposal.changed_labels:
        return
    if not allowed:
        raise WrongUse(
            f"{proposal.changed_labels} Nothing was changed. If the labels are to change, say "
            f"--allow-other-labels. {proposal.old_answers} If only their names are missing, give them to "
            "'adapters add DIR --labels'."
        )
    say(f"{proposal.changed_labels} {proposal.old_answers}", err=True)


def _confirm_if_worse(proposal: Proposal, *, agreed: bool) -> None:
    """Say how an adapter compares with the active adapter; one that is worse needs a yes."""
    hint = "" if proposal.compared else " To compare their predictions, use 'reviewloop adapters shadow'."
    say(proposal.comparison + hint, err=True)
    if not proposal.is_worse or agreed:
        return
    adapter, active = proposal.adapter.version, proposal.current.version if proposal.current else ""
    if not sys.stdin.isatty():
        raise ReviewLoopError(
            f"{adapter} is worse than {active}, the active adapter: nothing was changed. "
            "Give --yes to activate it all the same, or try it with 'reviewloop adapters shadow'."
        )
    if not typer.confirm(sanitise(f"{adapter} is worse. Activate it all the same?"), err=True):
        raise ReviewLoopError("Nothing was changed.")
