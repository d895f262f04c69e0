"""Adapters for programs: the versions, what is active, two side by side, and the decisions."""

from datetime import datetime
from tempfile import TemporaryFile
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from console.access import Operator, Parts, Viewer
from console.adapters import decisions
from console.api.bodies import Body
from console.api.paging import Cursor, Limit, Piece, from_cursor, to_cursor
from console.parts import ConsoleParts
from console.problems import Missing
from reviews.adapter import Activation, AdapterVersion, Origin, ShadowRun
from reviews.errors import WrongUse
from reviews.fields import MAX_REASON_CHARACTERS
from storage.adapters.comparison import side_by_side
from storage.adapters.promotion import Consent
from storage.adapters.registry import AdapterStore
from storage.adapters.shadows import ShadowStore

router = APIRouter(tags=["adapters"])

_LONGEST_VERSION, _LONGEST_TASK, _LONGEST_LABELS = 128, 64, 4_000
_DEFAULT_LIMIT = 50
Reason = Annotated[
    str, Field(min_length=1, max_length=MAX_REASON_CHARACTERS, description="Why, in a sentence; it is kept.")
]
TaskQuery = Annotated[
    str | None, Query(max_length=_LONGEST_TASK, description="The task; without it, the first configured one.")
]


class ApiAdapter(BaseModel):
    """One immutable version of an adapter."""

    version: str = Field(description="Its public name: the task and the beginning of the content hash.")
    task: str
    labels: list[str] = Field(description="In the order of the probabilities.")
    base_model: str
    base_revision: str | None
    content_hash: str = Field(description="SHA-256 over the files.")
    temperature: float
    metrics: dict[str, float] = Field(description="What was measured when it was made.")
    parent: str | None = Field(description="The version that it was trained from; null: the base.")
    origin: Origin = Field(
        description="trained, on labelled reviews; or zero-shot, from descriptions of the labels."
    )
    created_at: datetime | None
    state: str = Field(
        description="registered, or rejected: the gate refused it, and nobody promoted it since."
    )


class ApiActivation(BaseModel):
    """An adapter taking over a task."""

    id: int = Field(description="Give it back as `seen` when you decide.")
    task: str
    version: str
    replaced: str | None
    activated_at: datetime
    decided_by: str
    reason: str
    restores: int | None = Field(description="Of a rollback, the activation that it goes back to.")


class ApiTrial(BaseModel):
    """A shadow trial: an adapter scores a share of the live reviews, unseen."""

    id: int = Field(description="Give it back as `seen` when you decide.")
    task: str
    version: str
    share: float
    started_at: datetime
    ended_at: datetime | None
    decided_by: str
    reason: str


class ApiInEffect(BaseModel):
    """What is in effect for a task now."""

    active: ApiActivation | None
    trial: ApiTrial | None


class ApiPromotion(Body):
    """Let an adapter take over its task."""

    seen: int | None = Field(description="The activation in effect when you decided; null: there was none.")
    reason: Reason
    other_labels: bool = Field(default=False, description="Also where the labels of the task change.")
    worse: bool = Field(default=False, description="Also where it is worse, by what both store.")
    rejected: bool = Field(default=False, description="Also where the gate rejected it.")


class ApiRollback(Body):
    """Go back to an earlier adapter."""

    task: str | None = Field(default=None, max_length=_LONGEST_TASK)
    to: str | None = Field(default=None, max_length=_LONGEST_VERSION, description="Null: the one before.")
    seen: int = Field(description="The activation in effect when you decided.")
    reason: Reason


class ApiTrialStart(Body):
    """Let an adapter score a share of the live reviews, unseen."""

    share: float = Field(gt=0, le=1)
    seen: int | None = Field(default=None, description="The running trial that this one ends; null: none.")
    reason: Reason


class ApiTrialEnd(Body):
    """End a trial."""

    seen: int = Field(description="Which one.")
    reason: Reason


class ApiDifference(BaseModel):
    """A review that two adapters call differently."""

    review_id: str
    text: str
    first_label: str
    first_confidence: float
    second_label: str
    second_confidence: float
    human_label: str | None


class ApiLabelPair(BaseModel):
    """How often both adapters gave this pair of labels."""

    first: str
    second: str
    reviews: int


class ApiSideBySide(BaseModel):
    """Two adapters on the same stored reviews, as far as both scored them."""

    reviews: int
    agreed: int
    judged: int = Field(description="Differences that people labelled.")
    first_right: int
    second_right: int
    pairs: list[ApiLabelPair]
    examples: list[ApiDifference]


@router.get("/adapters")
def list_adapters(
    parts: Parts,
    _who: Viewer,
    task: TaskQuery = None,
    limit: Limit = _DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Piece[ApiAdapter]:
    """Every version, the newest first."""
    position = from_cursor(cursor, [int])
    first = max(0, position[0]) if position else 0
    found = AdapterStore(parts.database).newest(task, limit + 1, min(first, 10**6))
    following = to_cursor(first + limit) if len(found) > limit else None
    return Piece[ApiAdapter](items=[_adapter(one) for one in found[:limit]], next=following)


@router.post("/adapters", status_code=201)
async def upload_adapter(
    request: Request,
    parts: Parts,
    who: Operator,
    task: TaskQuery = None,
    labels: Annotated[str, Query(max_length=_LONGEST_LABELS)] = "",
) -> ApiAdapter:
    """Register the adapter in a zip file, which is the body of the request; it takes over nothing."""
    with TemporaryFile() as file:
        async for piece in request.stream():
            await run_in_threadpool(file.write, piece)
        adapter, _ = await run_in_threadpool(
            decisions.upload, parts, who, file, "the uploaded file", task=task, labels=labels
        )
    return _adapter(adapter)


@router.get("/adapters/in-effect")
def read_in_effect(parts: Parts, _who: Viewer, task: TaskQuery = None) -> ApiInEffect:
    """The active adapter of a task, and the one on trial."""
    name = task or parts.tasks[0]
    active, trial = AdapterStore(parts.database).active(name), ShadowStore(parts.database).running(name)
    return ApiInEffect(active=active and _activation(active), trial=trial and _trial(trial))


@router.get("/adapters/compare")
def compare_adapters(
    parts: Parts,
    _who: Viewer,
    first: Annotated[str, Query(max_length=_LONGEST_VERSION)],
    second: Annotated[str, Query(max_length=_LONGEST_VERSION)],
    examples: Annotated[int, Query(ge=0, le=100)] = 20,
) -> ApiSideBySide:
    """Two adapters of a task, by what both say of the same stored reviews."""
    one, other = _find(parts, first), _find(parts, second)
    if one.task != other.task or one.version == other.version:
        raise WrongUse("Two different adapters of one task can be compared: name two.")
    found = side_by_side(parts.database, one.task, one.version, other.version, examples)
    return ApiSideBySide(
        reviews=found.reviews,
        agreed=found.agreed,
        judged=found.judged,
        first_right=found.first_right,
        second_right=found.second_right,
        pairs=[
            ApiLabelPair(first=labels[0], second=labels[1], reviews=count)
            for labels, count in sorted(found.pairs.items())
        ],
        examples=[ApiDifference(**example._asdict()) for example in found.examples],
    )


@router.post("/adapters/rollback")
def roll_back_adapter(parts: Parts, who: Operator, wanted: ApiRollback) -> ApiActivation:
    """Go back to an earlier adapter; 409 if another one took over since."""
    task = wanted.task or parts.tasks[0]
    made = decisions.roll_back(parts, who, task, seen=wanted.seen, reason=wanted.reason, to=wanted.to)
    return _activation(made)


@router.get("/adapters/{version}")
def read_adapter(parts: Parts, _who: Viewer, version: str) -> ApiAdapter:
    """One version, by its name or an unambiguous beginning of it."""
    return _adapter(_find(parts, version))


@router.post("/adapters/{version}/promote")
def promote_adapter(parts: Parts, who: Operator, version: str, wanted: ApiPromotion) -> ApiActivation:
    """Let an adapter take over its task; 409 if another one took over since."""
    adapter, consent = _find(parts, version), Consent(wanted.other_labels, wanted.worse, wanted.rejected)
    made = decisions.promote(
        parts, who, adapter.version, seen=wanted.seen, reason=wanted.reason, consent=consent
    )
    return _activation(made)


@router.post("/adapters/{version}/trial", status_code=201)
def start_trial(parts: Parts, who: Operator, version: str, wanted: ApiTrialStart) -> ApiTrial:
    """Let an adapter score a share of the live reviews, unseen; 409 if another trial runs by now."""
    adapter = _find(parts, version)
    made = decisions.start_trial(
        parts, who, adapter.version, wanted.share, seen=wanted.seen, reason=wanted.reason
    )
    return _trial(made)


@router.post("/adapters/{version}/trial/stop", status_code=204)
def stop_trial(parts: Parts, who: Operator, version: str, wanted: ApiTrialEnd) -> None:
    """End the trial of an adapter; 409 if it has ended already."""
    adapter = _find(parts, version)
    decisions.stop_trial(parts, who, adapter.task, seen=wanted.seen, reason=wanted.reason)


def _find(parts: ConsoleParts, version: str) -> AdapterVersion:
    try:
        return AdapterStore(parts.database).find(version[:_LONGEST_VERSION])
    except WrongUse as err:
        raise Missing(str(err)) from err


def _adapter(adapter: AdapterVersion) -> ApiAdapter:
    return ApiAdapter(**_fields(ApiAdapter, adapter))


def _activation(activation: Activation) -> ApiActivation:
    return ApiActivation(**_fields(ApiActivation, activation))


def _trial(trial: ShadowRun) -> ApiTrial:
    return ApiTrial(**_fields(ApiTrial, trial))


def _fields(model: type[BaseModel], found: object) -> dict[str, Any]:
    return {name: getattr(found, name) for name in model.model_fields}
