"""Promotion and rollback by a person: what would change, and the change itself by compare-and-set (I7).

A person who decides looks first. What was seen travels with the decision: another decision in between is a
conflict that names who made it, and nothing is changed.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from reviews.adapter import Activation, AdapterVersion, ComparedMetric, before, compare_metrics, last_of
from reviews.errors import WrongUse
from reviews.fields import checked_reason
from storage.adapters.registry import ActivationConflict, AdapterStore
from storage.adapters.rejected import why_rejected
from storage.database import Database
from storage.labels.store import LabelStore


class Consent(NamedTuple):
    """What a person agreed to beforehand.

    Attributes:
        other_labels: That the labels of the task change.
        worse: That the adapter is worse than the active one, by what both store.
        rejected: That the gate rejected the adapter.
    """

    other_labels: bool = False
    worse: bool = False
    rejected: bool = False


class ConsentMissing(WrongUse):
    """The decision has a consequence that nobody agreed to yet: show it, and ask."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """One adapter taking over from the active one, and what that means.

    Attributes:
        adapter: Would take over.
        current: The activation that it would replace; None before the first.
        active: The adapter of that activation.
        restores: The earlier activation that a rollback goes back to; None for a promotion.
        compared: A metric that both store; None where there is none.
        on_same_rows: Whether that was measured on the same rows; None where the manifests do not tell.
        retired_answers: Answers of people by label, for labels that the adapter does not have; looked for
            where the labels change.
        gate_reasons: Why the gate rejected the adapter, where it did.
    """

    adapter: AdapterVersion
    current: Activation | None
    active: AdapterVersion | None
    restores: Activation | None = None
    compared: ComparedMetric | None = None
    on_same_rows: bool | None = None
    retired_answers: Mapping[str, int] | None = None
    gate_reasons: tuple[str, ...] = ()

    @property
    def is_active_already(self) -> bool:
        """Whether there is nothing to change."""
        return self.active is not None and self.active.version == self.adapter.version

    @property
    def is_worse(self) -> bool:
        """Whether the adapter is worse: by a metric that both store, or as no labelled review made it."""
        return self._gives_up_labels or (self.compared is not None and self.compared.is_worse)

    @property
    def rejection(self) -> str:
        """That the gate rejected it, and why, in sentences; empty where it did not."""
        if not self.adapter.is_rejected:
            return ""
        return " ".join([f"The gate rejected {self.adapter.version}.", *self.gate_reasons])

    @property
    def changed_labels(self) -> str:
        """What becomes of the labels of the task, in a sentence; empty where they stay the same."""
        if self.active is None or set(self.adapter.labels) == set(self.active.labels):
            return ""
        new, old = (", ".join(one.labels) for one in (self.adapter, self.active))
        active = self.active.version
        return f"{self.adapter.version} answers with {new}; {active}, the active adapter, with {old}."

    @property
    def old_answers(self) -> str:
        """What other labels mean for answers that people gave; empty where the labels stay the same."""
        if not self.changed_labels:
            return ""
        if not self.retired_answers:
            return "No answer of a person names a label that would go."
        retired = Counter(self.retired_answers).most_common()
        named = ", ".join(f"{count:,} '{label}'" for label, count in retired)
        return (
            f"Answers of people that name labels which go ({named}) are kept and shown as human_label, but "
            "train and judge no more; questions in the queue are asked with the new labels."
        )

    @property
    def comparison(self) -> str:
        """How both adapters compare by what they store, in a sentence; empty before the first activation."""
        if self.active is None:
            return ""
        if self._gives_up_labels:
            return (
                f"{self.adapter.version} is a zero-shot adapter, made from descriptions of its labels alone; "
                f"{self.active.version}, the active adapter, was fitted to labelled reviews."
            )
        if self.compared is None:
            both = f"{self.adapter.version} cannot be compared with {self.active.version}, the active adapter"
            return f"{both}: {self._why_not()}."
        rows = {
            True: "on the same rows",
            False: "each on rows of its own",
            None: "possibly on different rows",
        }
        return (
            f"{self.compared.name}: {self.adapter.version} {self.compared.candidate:.3f}, "
            f"{self.active.version} {self.compared.active:.3f}, {rows[self.on_same_rows]}."
        )

    @property
    def _gives_up_labels(self) -> bool:
        """Whether a zero-shot adapter would take over from one that learned from labelled reviews."""
        return self.active is not None and self.adapter.is_zero_shot and not self.active.is_zero_shot

    def _why_not(self) -> str:
        both = [one for one in (self.adapter, self.active) if one is not None]
        unmeasured = [one.version for one in both if not one.metrics]
        if unmeasured:
            return f"no metrics are stored for {' and '.join(unmeasured)}"
        return "their labels differ" if self.changed_labels else "no metric is stored for both"


def propose_promotion(database: Database, version: str) -> Proposal:
    """What promoting an adapter would change now.

    Raises:
        WrongUse: If no adapter, or more than one, begins with this version.
    """
    store = AdapterStore(database)
    adapter = store.find(version)
    return _proposal(database, store, adapter, store.active(adapter.task))


def propose_rollback(database: Database, task: str, to: str | None = None) -> Proposal:
    """What a rollback would change now.

    Args:
        database: Where everything is.
        task: Whose adapter is rolled back.
        to: A formerly active adapter, or the beginning of its version; None: the one before.

    Raises:
        WrongUse: If there is nothing to go back to.
    """
    store = AdapterStore(database)
    history = store.history(task)
    restored = before(history) if to is None else last_of(history, store.find(to).version)
    return _proposal(database, store, store.find(restored.version), history[0], restored)


def require_seen(proposal: Proposal, seen: int | None) -> None:
    """Refuse a decision whose maker saw another activation than the present one.

    Args:
        proposal: As it is now.
        seen: The number of the activation that the person saw; None: that there was none.

    Raises:
        ActivationConflict: Names the present one, who decided it and why.
    """
    present = proposal.current.id if proposal.current is not None else None
    if present != seen:
        raise ActivationConflict(_overtaken(proposal.current, proposal.adapter.task))


def carry_out(
    database: Database, proposal: Proposal, *, decided_by: str, reason: str, consent: Consent
) -> Activation:
    """Let the adapter of a proposal take over.

    Args:
        database: Where everything is.
        proposal: What the person saw.
        decided_by: Who decided.
        reason: Why, in a sentence; it is kept.
        consent: What the person agreed to; a rollback needs no consent.

    Raises:
        WrongUse: If the reason is empty, or the adapter is active already.
        ConsentMissing: If the labels would change, the adapter is worse or was rejected, and nobody agreed.
        ActivationConflict: If another adapter took over since; says which. Nothing was changed.
        AdapterError: If it was rejected and its files were deleted since.
    """
    reason = checked_reason(reason)
    if proposal.is_active_already:
        raise WrongUse(
            f"{proposal.adapter.version} is the active adapter of the task '{proposal.adapter.task}' already."
        )
    if proposal.restores is None:
        _require_consent(proposal, consent)
    store = AdapterStore(database)
    try:
        return store.activate(
            proposal.adapter,
            expected=proposal.current,
            decided_by=decided_by,
            reason=reason,
            restores=proposal.restores,
        )
    except ActivationConflict as err:
        task = proposal.adapter.task
        raise ActivationConflict(_overtaken(store.active(task), task)) from err


def _require_consent(proposal: Proposal, consent: Consent) -> None:
    if proposal.rejection and not consent.rejected:
        raise ConsentMissing(
            f"{proposal.rejection} Nothing was changed: to let it take over all the same, agree to it."
        )
    if proposal.changed_labels and not consent.other_labels:
        raise ConsentMissing(
            f"{proposal.changed_labels} Nothing was changed. {proposal.old_answers} To let the labels "
            "change, agree to it."
        )
    if proposal.is_worse and not consent.worse:
        raise ConsentMissing(
            f"{proposal.comparison} {proposal.adapter.version} is worse, and nothing was changed: to let it "
            "take over all the same, agree to it."
        )


def _overtaken(present: Activation | None, task: str) -> str:
    if present is None:
        return f"No adapter is active for the task '{task}' any more; nothing was changed. Look again."
    return (
        f"{present.decided_by} let {present.version} take over the task '{task}' at "
        f"{present.activated_at:%Y-%m-%d %H:%M:%S} UTC ('{present.reason}'): nothing was changed. Look at it "
        "and decide again."
    )


def _proposal(
    database: Database,
    store: AdapterStore,
    adapter: AdapterVersion,
    current: Activation | None,
    restores: Activation | None = None,
) -> Proposal:
    reasons = why_rejected(database, adapter.version) if adapter.is_rejected else ()
    if current is None:
        return Proposal(adapter, None, None, restores, gate_reasons=reasons)
    active = store.find(current.version)
    compared = compare_metrics(adapter, active)
    retired = None
    if set(adapter.labels) != set(active.labels):
        answers = LabelStore(database).latest_answers(adapter.task)
        retired = Counter(one.label for one in answers if one.label and one.label not in adapter.labels)
    on_same_rows = None if compared is None else _on_same_rows(store, adapter, active, compared)
    return Proposal(adapter, current, active, restores, compared, on_same_rows, retired, reasons)


def _on_same_rows(
    store: AdapterStore, adapter: AdapterVersion, active: AdapterVersion, compared: ComparedMetric
) -> bool | None:
    """Whether both metrics were measured on the same rows, as far as the manifests tell."""
    hashes = [data_hashes(store.manifest(one.version)).get(compared.split) for one in (adapter, active)]
    return None if None in hashes else hashes[0] == hashes[1]


def data_hashes(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Hashes of the rows that an adapter was fitted and measured on, by split; empty if unknown."""
    training = manifest.get("training")
    hashes = training.get("data_sha256") if isinstance(training, dict) else None
    return hashes if isinstance(hashes, dict) else {}
