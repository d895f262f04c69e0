"""Training runs in words: what is at work now, how a run went, and what its figures mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from console.access import Actor, log_of
from console.parts import ConsoleParts
from console.problems import Conflict
from reviews.errors import WrongUse
from reviews.training_run import LEFT_OUT_WORDS, STAGES, TrainingRun, fits_in_words, steps_in_words
from storage.database import Database
from storage.learning.leases import HeldLease, LeaseStore, schedule_lease, training_lease
from storage.learning.run_requests import RunRefused, RunRequest, RunRequestStore
from storage.learning.runs import TrainingRunStore

STAGE_WORDS = {
    "start": "Start",
    "collect": "Collect labels",
    "snapshot": "Freeze the dataset",
    "fit": "Fit candidates",
    "evaluate": "Compare with the active adapter",
    "register": "Register",
    "promote": "Promote",
    "queue": "Queue reviews",
    "drift": "Report drift",
}
TRIGGER_WORDS = {
    "manual": "by command",
    "nightly": "nightly",
    "labels": "enough new labels",
    "drift": "drift",
    "requested": "asked for",
}
STATE_KINDS = {"promoted": "good", "failed": "bad", "waiting": "warn", "kept": "", "running": "warn"}
SCORES = ("macro_f1", "accuracy", "calibration_error", "audit_macro_f1", "audit_accuracy")


class RunStage(NamedTuple):
    """One stage of a run: its name in words, and whether it is ``past``, ``now`` or ``ahead``."""

    words: str
    place: str


@dataclass(frozen=True, slots=True)
class AtWork:
    """What happens for a task now.

    Attributes:
        trainer: The process that trains; None while none does.
        run: Its run; None before the run has begun.
        schedule: A schedule that takes requests; None where none runs.
        request: The latest request of a person.
        last: The last run that ended.
    """

    trainer: HeldLease | None
    run: TrainingRun | None
    schedule: HeldLease | None
    request: RunRequest | None
    last: TrainingRun | None

    @property
    def may_ask(self) -> bool:
        """Whether a run can be asked for."""
        return self.trainer is None and not (self.request and self.request.is_open)

    @property
    def lost_request(self) -> RunRequest | None:
        """The latest request, if it became no run and no run began since."""
        request = self.request
        if request is None or request.is_open or request.state == "begun":
            return None
        return None if self.last and self.last.started_at > request.requested_at else request


def at_work(database: Database, task: str) -> AtWork:
    """What happens for a task now."""
    leases, runs = LeaseStore(database), TrainingRunStore(database).history(task, 2)
    trainer = leases.holder(training_lease(task))
    running = next((run for run in runs if run.finished_at is None), None) if trainer else None
    return AtWork(
        trainer=trainer,
        run=running,
        schedule=leases.holder(schedule_lease(task)),
        request=RunRequestStore(database).latest(task),
        last=next((run for run in runs if run.finished_at is not None), None),
    )


def ask(parts: ConsoleParts, who: Actor, task: str, reason: str) -> RunRequest:
    """Ask for a run of a task now.

    Raises:
        WrongUse: If no worker scores for the task, or the reason is empty.
        Conflict: If a run is at work, or somebody else asked already.
    """
    if task not in parts.tasks:
        raise WrongUse(f"No worker scores for the task '{task}': there is {', '.join(parts.tasks)}.")
    try:
        with log_of(parts).decision(who.name, "run.start", task, reason=reason, address=who.address):
            return RunRequestStore(parts.database).ask(task, who.name, reason)
    except RunRefused as err:
        raise Conflict(str(err)) from err


def stages_of(run: TrainingRun) -> list[RunStage]:
    """The stages of a run, as far as this one got; one that promotes nothing passes over some."""
    known = ("start", *STAGES)
    reached = known.index(run.stage) if run.stage in known else len(known)
    places = ("past", "now", "ahead")
    return [
        RunStage(STAGE_WORDS[name], places[(number >= reached) + (number > reached)])
        for number, name in enumerate(known)
    ]


def outcome(run: TrainingRun) -> str:
    """How a run stands or ended, in a sentence."""
    candidate, active = run.candidate_adapter or "the candidate", run.active_adapter or "no adapter"
    return {
        "running": f"At work: {STAGE_WORDS.get(run.stage, run.stage).lower()}.",
        "promoted": f"{candidate} passed the gate and took over from {active}.",
        "kept": f"The gate refused {candidate}: {active} stays.",
        "waiting": "There are not enough labels yet: nothing was fitted.",
        "failed": "It failed: the active adapter stays.",
    }.get(run.state, run.state)


def reasons(run: TrainingRun) -> Sequence[str]:
    """Why it ended as it did, a sentence each."""
    said = (run.verdict or {}).get("reasons", ())
    return [*([run.error] if run.error else []), *map(str, said)]


def fits_so_far(run: TrainingRun) -> str:
    """How far the fits of a run are, in a line; empty where none has got anywhere."""
    return fits_in_words(run.progress) if run.progress else ""


def seconds(run: TrainingRun) -> float | None:
    """How long it took; None while it runs."""
    return None if run.finished_at is None else (run.finished_at - run.started_at).total_seconds()


def score_pair(run: TrainingRun, name: str = "macro_f1") -> tuple[float | None, float | None]:
    """One figure of the active adapter and of the candidate, on the rows that the gate judged by."""
    active, candidate = (_mapping((run.metrics or {}).get(who)) for who in ("active", "candidate"))
    return _number(active.get(name)), _number(candidate.get(name))


class Confusion(NamedTuple):
    """How often each label of people (rows) got each label of an adapter (columns).

    Attributes:
        who: ``active`` or ``candidate``.
        labels: In the order of both.
        counts: int (labels, labels).
    """

    who: str
    labels: Sequence[str]
    counts: Sequence[Sequence[int]]


def confusions(run: TrainingRun) -> list[Confusion]:
    """The confusion matrices of a run; none where an earlier version did it, or nothing was judged."""
    names = labels(run)
    stored = _mapping((run.metrics or {}).get("confusion"))
    return [Confusion(who, names, counts) for who, counts in stored.items() if len(counts) == len(names)]


class GateCheck(NamedTuple):
    """One question that the gate put to a candidate; ``detail`` is empty where nothing was said in words."""

    name: str
    passed: bool
    value: float | None
    limit: float | None
    detail: str


def checks(run: TrainingRun) -> list[GateCheck]:
    """The gate's checks, in the order in which they were made."""
    return [
        GateCheck(
            str(one.get("name", "")),
            bool(one.get("passed")),
            _number(one.get("value")),
            _number(one.get("limit")),
            str(one.get("detail", "")),
        )
        for one in _mappings((run.verdict or {}).get("checks"))
    ]


class RecipeRow(NamedTuple):
    """A recipe that was fitted, or why it was not.

    Attributes:
        name: Of the recipe.
        start: ``active`` or ``base``: the weights that it begins with.
        kind: ``lora``, or ``head``: only a head was fitted.
        score: Macro-F1 on the validation rows, by which recipes are chosen.
        rows: Training rows.
        steps: Of the fit, in words.
        seconds: That it took.
        skipped: Why it was not fitted; empty where it was.
    """

    name: str
    start: str = ""
    kind: str = ""
    score: float | None = None
    rows: float | None = None
    steps: str = ""
    seconds: float | None = None
    skipped: str = ""


def recipes(run: TrainingRun) -> list[RecipeRow]:
    """Every recipe of a run, those that were not fitted last."""
    metrics = run.metrics or {}
    fitted = [
        RecipeRow(
            str(one.get("name", "")),
            str(one.get("start", "")),
            str(one.get("kind", "lora")),
            _number(one.get("score")),
            _number(one.get("train_rows")),
            steps_in_words(one) if _number(one.get("steps")) is not None else "",
            _number(one.get("seconds")),
        )
        for one in _mappings(metrics.get("recipes"))
    ]
    skipped = _mapping(metrics.get("skipped"))
    return [*fitted, *(RecipeRow(name, skipped=str(why)) for name, why in skipped.items())]


class SliceRow(NamedTuple):
    """One slice of a frozen dataset: how many rows, of which labels, and the SHA-256 of all of them."""

    name: str
    rows: float | None
    by_label: Sequence[float]
    sha256: str


def slices(run: TrainingRun) -> list[SliceRow]:
    """The slices of the frozen dataset."""
    manifest = run.manifest or {}
    rows, classes, hashes = (_mapping(manifest.get(name)) for name in ("rows", "classes", "sha256"))
    return [
        SliceRow(
            name,
            _number(count),
            [_number(_mapping(classes.get(name)).get(label)) or 0 for label in labels(run)],
            str(hashes.get(name, "")),
        )
        for name, count in rows.items()
    ]


def labels(run: TrainingRun) -> list[str]:
    """The labels of the frozen dataset."""
    found = (run.manifest or {}).get("labels")
    return [str(label) for label in found] if isinstance(found, list) else []


def left_out(run: TrainingRun) -> list[str]:
    """Which labelled reviews the dataset does not have, and why, a phrase each."""
    found = _mapping((run.manifest or {}).get("left_out"))
    return [f"{found[reason]:,} {words}" for reason, words in LEFT_OUT_WORDS.items() if found.get(reason)]


def _mapping(value: Any) -> Mapping[str, Any]:
    """What was stored as a mapping; anything else, as another version may have written it, is empty."""
    return value if isinstance(value, dict) else {}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) else None
