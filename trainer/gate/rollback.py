"""Rolls back an active adapter that people's labels show beyond doubt to be worse than its predecessor.

The labels decide, of a random slice of the stream that never trained an adapter, given since the activation.
Both adapters predict for the same reviews: a prediction that the database does not hold is computed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import structlog

from reviews.adapter import Activation, AdapterVersion, before
from reviews.errors import WrongUse
from reviews.label import AuditRow
from reviews.label_set import CommonLabels, LabelSet, common_labels
from storage.adapters.registry import ActivationConflict
from trainer.gate.evidence import Floats, Integers, Scorer, summed
from trainer.gate.statistics import log_stake
from trainer.gate.verdict import Check
from trainer.settings import GateSettings

log = structlog.get_logger()
_TINY = 1e-12
DECIDED_BY = "audit"
"""Who decided, in the history of activations."""
LookOutcome = Literal["rolled_back", "stays", "nothing_before", "not_comparable", "overtaken"]
Judge = Callable[[Integers, Floats, Floats, Floats], Check]
"""Truth, the active and the previous adapter's probabilities, weights: a check that passes where it stays."""
ReadAuditRows = Callable[[str, str, str, datetime], Sequence[AuditRow]]
"""Task, active and previous adapter, since when: ``storage.learning.audits.audit_answers``."""


class Adapters(Protocol):
    """What is needed of ``storage.adapters.registry.AdapterStore``."""

    def find(self, version: str, /) -> AdapterVersion:
        """One adapter."""

    def history(self, task: str, /) -> list[Activation]:
        """Every activation of a task, newest first."""

    def activate(
        self,
        version: AdapterVersion,
        /,
        *,
        expected: Activation | None,
        decided_by: str,
        reason: str,
        restores: Activation | None,
    ) -> Activation:
        """Let an adapter take over by compare-and-set."""


@dataclass(frozen=True, slots=True)
class RollbackLook:
    """How a look ended.

    Attributes:
        outcome: ``rolled_back``; ``stays``; ``nothing_before``: there is nothing to go back to;
            ``not_comparable``: the adapters have no two classes in common; ``overtaken``: another
            activation came first.
        active: The adapter that was looked at; None if there is none.
        previous: What it was compared with.
        check: The judgement, where there was one.
    """

    outcome: LookOutcome
    active: str | None = None
    previous: str | None = None
    check: Check | None = None


def roll_back_if_worse(
    task: str,
    adapters: Adapters,
    read_rows: ReadAuditRows,
    load: Callable[[str], Scorer],
    judge: Judge,
    *,
    label_set: LabelSet | None = None,
) -> RollbackLook:
    """Look once, and roll back if the judge says so; safe to call at any time, beside anything.

    Where the labels changed between the two adapters, they are compared on the classes that both know.

    Raises:
        AdapterError: If an adapter whose predictions are missing cannot be used.
    """
    history = adapters.history(task)
    try:
        restored = before(history)
    except WrongUse:
        return RollbackLook("nothing_before", history[0].version if history else None)
    current = history[0]
    active, previous = adapters.find(current.version), adapters.find(restored.version)
    common = common_labels(active.labels, previous.labels, label_set)
    if not common.is_comparable:
        return RollbackLook("not_comparable", active.version, previous.version)
    rows = read_rows(task, active.version, previous.version, current.activated_at)
    known = [row for row in rows if row.label in common.class_of]
    if len(known) < len(rows):
        log.info("audit_labels_left_out", task=task, rows=len(rows) - len(known), of=len(rows))
    draw_weights = np.array([row.draw_weight for row in known], np.float64)
    check = judge(*evidence(known, active, previous, load, common), draw_weights)
    if check.passed:
        return RollbackLook("stays", active.version, previous.version, check)
    try:
        adapters.activate(
            previous, expected=current, decided_by=DECIDED_BY, reason=check.detail, restores=restored
        )
    except ActivationConflict:
        return RollbackLook("overtaken", active.version, previous.version, check)
    log.warning("rolled_back", task=task, adapter=previous.version, instead_of=active.version)
    return RollbackLook("rolled_back", active.version, previous.version, check)


def evidence(
    rows: Sequence[AuditRow],
    active: AdapterVersion,
    previous: AdapterVersion,
    load: Callable[[str], Scorer],
    common: CommonLabels | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Truth, int64 (rows), and both adapters' probabilities, float64 (rows, classes that both know).

    A prediction that is missing is computed.

    Args:
        rows: Their truth is one of these classes.
        active: The active adapter.
        previous: The one before.
        load: Loads an adapter whose prediction is missing.
        common: The classes; None: both have the same labels, in any order.
    """
    common = common or common_labels(active.labels, previous.labels, None)
    truth = np.array([common.class_of[row.label] for row in rows], np.int64)
    size = len(common.names)
    of_active = _filled(rows, [row.active for row in rows], active, load)
    of_previous = _filled(rows, [row.previous for row in rows], previous, load)
    return truth, summed(of_active, common.first, size), summed(of_previous, common.second, size)


def _filled(
    rows: Sequence[AuditRow],
    known: Sequence[tuple[float, ...] | None],
    adapter: AdapterVersion,
    load: Callable[[str], Scorer],
) -> npt.NDArray[np.float64]:
    """float64 (rows, labels): what is known, and what the adapter predicts now where nothing is."""
    missing = [index for index, probabilities in enumerate(known) if probabilities is None]
    found = dict(enumerate(known))
    if missing:
        predictions = load(adapter.version).predict([rows[index].text for index in missing])
        found.update(zip(missing, (one.probabilities for one in predictions), strict=True))
    return np.array([found[index] for index in range(len(rows))], np.float64).reshape(-1, len(adapter.labels))


def should_roll_back(
    truth: Integers, active: Floats, previous: Floats, draw_weights: Floats, settings: GateSettings
) -> Check:
    """The check ``audit``: failed where the active adapter is beyond doubt worse than its predecessor.

    Both adapters predict for the same audit rows: all whose labels came after the activation, each look's
    rows being the last look's and more. Older rows helped to choose the active adapter and are not evidence
    about it. Looks may be as many as one likes: there is no count of them to keep. Of rows that one adapter
    has right and the other wrong, the active one loses at most half of the weight if it is no worse on the
    stream; a bet on "more than half" then multiplies its stake by 1 / ``rollback_alpha`` at any time with at
    most that chance (Ville). Ramdas, Grünwald, Vovk, Shafer: Game-Theoretic Statistics and Safe Anytime-Valid
    Inference (2023).

    Args:
        truth: int64 (rows), consensus labels of audit rows.
        active: float64 (rows, labels), probabilities of the active adapter.
        previous: The same of the one it replaced.
        draw_weights: float64 (rows), in (0, 1]: the least chance of a row's draw over its own. A row that was
            drawn more often for what was predicted says as much less of the stream.
        settings: Its ``rollback_alpha``.

    Returns:
        A check that passed where the active adapter stays; value and limit are the stake's logarithm and
        the one that suffices.
    """
    right, was_right = active.argmax(axis=1) == truth, previous.argmax(axis=1) == truth
    lost, won = was_right & ~right, right & ~was_right
    stake = log_stake(draw_weights[lost], draw_weights[won])
    enough, total = -math.log(settings.rollback_alpha), max(_TINY, float(draw_weights.sum()))
    detail = (
        f"On {len(truth)} audit reviews labelled since the activation the active adapter is right on "
        f"{100 * draw_weights @ right / total:.1f} % and its predecessor on "
        f"{100 * draw_weights @ was_right / total:.1f} % of the stream: it alone is wrong on {lost.sum()} "
        f"and right on {won.sum()}."
    )
    return Check("audit", stake < enough, stake, enough, detail)
