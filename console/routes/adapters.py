"""Adapters: every version, one version, two side by side, and the decisions about them."""

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import Response

from console.access import Operator, Parts, Viewer
from console.adapters import decisions, figures
from console.parts import ConsoleParts
from console.problems import Conflict, Missing
from console.rendering import done, page
from reviews.adapter import AdapterVersion, services
from reviews.errors import WrongUse
from reviews.fields import MAX_REASON_CHARACTERS
from storage.adapters.comparison import LOOKED_AT, side_by_side
from storage.adapters.promotion import Consent, data_hashes, propose_promotion
from storage.adapters.registry import AdapterStore
from storage.adapters.shadows import ShadowStore

router = APIRouter()

_PAGE = 50
_TRIALS = 20
_LONGEST_VERSION, _LONGEST_TASK, _LONGEST_LABELS, _LONGEST_FILE_NAME = 128, 64, 4_000, 200
TaskQuery = Annotated[str | None, Query(max_length=_LONGEST_TASK)]
Version = Annotated[str, Form(min_length=1, max_length=_LONGEST_VERSION)]
Task = Annotated[str, Form(min_length=1, max_length=_LONGEST_TASK)]
Reason = Annotated[str, Form(max_length=MAX_REASON_CHARACTERS)]
Seen = Annotated[str, Form(pattern=r"^\d{0,9}$", description="A number, or nothing where nothing was there.")]


@router.get("/adapters")
def show_adapters(
    request: Request,
    parts: Parts,
    _who: Viewer,
    task: TaskQuery = None,
    first: Annotated[int, Query(ge=0, le=10**6)] = 0,
) -> Response:
    """Every version of a task, the newest first, and what may be decided."""
    return _adapters(request, parts, task, first)


@router.get("/adapters/compare")
def compare_adapters(
    request: Request,
    parts: Parts,
    _who: Viewer,
    first: Annotated[str, Query(min_length=1, max_length=_LONGEST_VERSION)],
    second: Annotated[str, Query(min_length=1, max_length=_LONGEST_VERSION)],
) -> Response:
    """Two adapters of a task on the same reviews."""
    one, other = _find(parts, first), _find(parts, second)
    if one.task != other.task or one.version == other.version:
        raise WrongUse("Two different adapters of one task can be compared: choose two.")
    store = AdapterStore(parts.database)
    manifests = {adapter.version: store.manifest(adapter.version) for adapter in (one, other)}
    values = {
        "one": one,
        "other": other,
        "measures": _measures_of_both(one, other),
        "same_rows": _same_rows(manifests[one.version], manifests[other.version]),
        "found": side_by_side(parts.database, one.task, one.version, other.version),
        "labels": [*one.labels, *(label for label in other.labels if label not in one.labels)],
        "looked_at": LOOKED_AT,
        "shade": figures.shade,
        "active": store.active(one.task),
    }
    return page(request, "adapters_compare.html", values)


@router.get("/adapters/{version}")
def show_adapter(request: Request, parts: Parts, _who: Viewer, version: str) -> Response:
    """One version: metrics, training data, parent, times of service, trials, and what may be decided."""
    adapter = _find(parts, version)
    store, shadows = AdapterStore(parts.database), ShadowStore(parts.database)
    manifest = store.manifest(adapter.version)
    served = services(store.history(adapter.task, figures.HISTORY))
    proposal, measures = propose_promotion(parts.database, adapter.version), figures.measures(adapter)
    values = {
        "adapter": adapter,
        "row": figures.list_rows(parts.database, [adapter], served)[0],
        "measures": measures,
        "splits": [split for split in figures.SPLITS if any(split in values for values in measures.values())],
        "training": figures.training_facts(manifest),
        "label_texts": figures.label_texts(adapter, manifest),
        "size": store.size(adapter.version),
        "proposal": proposal,
        "trial": shadows.running(adapter.task),
        "trials": shadows.of_adapter(adapter.version, _TRIALS),
    }
    return page(request, "adapter.html", values)


@router.post("/adapters/promote")
def promote(
    request: Request,
    parts: Parts,
    who: Operator,
    *,
    version: Version,
    reason: Reason = "",
    seen: Seen = "",
    other_labels: Annotated[bool, Form()] = False,
    worse: Annotated[bool, Form()] = False,
    rejected: Annotated[bool, Form()] = False,
) -> Response:
    """Let an adapter take over its task."""
    consent = Consent(other_labels, worse, rejected)
    try:
        made = decisions.promote(parts, who, version, seen=_number(seen), reason=reason, consent=consent)
    except Conflict as err:
        return _adapters(request, parts, _find(parts, version).task, conflict=str(err))
    return done(_of_task(made.task), f"{made.version} is active now. Workers switch between two batches.")


@router.post("/adapters/rollback")
def roll_back(
    request: Request, parts: Parts, who: Operator, *, task: Task, reason: Reason = "", seen: Seen = ""
) -> Response:
    """Go back to the adapter before the active one."""
    try:
        made = decisions.roll_back(parts, who, task, seen=_number(seen), reason=reason)
    except Conflict as err:
        return _adapters(request, parts, task, conflict=str(err))
    return done(_of_task(task), f"{made.version} is active again. Workers switch between two batches.")


@router.post("/adapters/shadow")
def start_trial(
    request: Request,
    parts: Parts,
    who: Operator,
    *,
    version: Version,
    percent: Annotated[float, Form(gt=0, le=100)] = 10,
    reason: Reason = "",
    seen: Seen = "",
) -> Response:
    """Let an adapter score a share of the live reviews, unseen."""
    try:
        made = decisions.start_trial(parts, who, version, percent / 100, seen=_number(seen), reason=reason)
    except Conflict as err:
        return _adapters(request, parts, _find(parts, version).task, conflict=str(err))
    return done(_of_task(made.task), f"{made.version} scores {made.share:.0%} of the reviews, unseen.")


@router.post("/adapters/shadow/stop")
def stop_trial(
    request: Request,
    parts: Parts,
    who: Operator,
    *,
    task: Task,
    seen: Annotated[int, Form(ge=1)],
    reason: Reason = "",
) -> Response:
    """End the trial of a task."""
    try:
        ended = decisions.stop_trial(parts, who, task, seen=seen, reason=reason)
    except Conflict as err:
        return _adapters(request, parts, task, conflict=str(err))
    return done(_of_task(task), f"{ended.version} is on trial no more.")


@router.post("/adapters/upload")
async def upload(request: Request, parts: Parts, who: Operator) -> Response:
    """Register the adapter in a zip file; it takes over nothing."""
    async with request.form() as form:
        file = form.get("file")
        if not isinstance(file, UploadFile) or not file.filename:
            raise WrongUse("No file was sent: choose the zip file of an adapter directory.")
        task, labels = (str(form.get(name) or "") for name in ("task", "labels"))
        if len(task) > _LONGEST_TASK or len(labels) > _LONGEST_LABELS:
            raise WrongUse("The task or the names of the labels are too long.")
        name = file.filename[:_LONGEST_FILE_NAME]
        adapter, is_new = await run_in_threadpool(
            decisions.upload, parts, who, file.file, name, task=task or None, labels=labels
        )
    what = "is registered" if is_new else "was registered already"
    return done(f"/adapters/{quote(adapter.version, safe='')}", f"{adapter.version} {what}.")


def _adapters(
    request: Request, parts: ConsoleParts, task: str | None, first: int = 0, conflict: str = ""
) -> Response:
    task = task or parts.tasks[0]
    listed = figures.list_adapters(parts.database, task, first, _PAGE)
    values = {
        "task": task,
        "tasks": parts.tasks,
        "tabs": [(name, _of_task(name)) for name in parts.tasks],
        "newer": f"{_of_task(task)}&first={max(0, first - _PAGE)}" if first else "",
        "older": f"{_of_task(task)}&first={first + _PAGE}" if listed.has_more else "",
        "list": listed,
        "conflict": conflict,
    }
    return page(request, "adapters.html", values, status=409 if conflict else 200)


def _find(parts: ConsoleParts, version: str) -> AdapterVersion:
    try:
        return AdapterStore(parts.database).find(version)
    except WrongUse as err:
        raise Missing(f"There is no adapter '{version[:_LONGEST_VERSION]}'.") from err


def _measures_of_both(
    one: AdapterVersion, other: AdapterVersion
) -> dict[str, dict[str, tuple[figures.StoredMetric | None, figures.StoredMetric | None]]]:
    """What either stores: by metric, then by split, with a pair for both adapters."""
    both = [figures.measures(adapter) for adapter in (one, other)]
    return {
        measure: {
            split: (both[0].get(measure, {}).get(split), both[1].get(measure, {}).get(split))
            for split in figures.SPLITS
            if any(split in found.get(measure, {}) for found in both)
        }
        for measure in figures.MEASURES
        if any(measure in found for found in both)
    }


def _same_rows(one: Any, other: Any) -> dict[str, bool]:
    """Which splits both were measured on the same rows of, as far as the manifests tell."""
    hashes = [data_hashes(manifest) for manifest in (one, other)]
    return {split: hashes[0][split] == hashes[1][split] for split in hashes[0].keys() & hashes[1].keys()}


def _number(seen: str) -> int | None:
    return int(seen) if seen else None


def _of_task(task: str) -> str:
    return f"/adapters?task={quote(task, safe='')}"
