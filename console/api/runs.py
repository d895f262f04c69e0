"""Training runs for programs: the history, one run, what is at work, and a request for one now."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from console.access import Operator, Parts, Viewer
from console.api.bodies import Body
from console.api.paging import Cursor, Limit, Piece, from_cursor, to_cursor
from console.problems import Missing
from console.training import ask, at_work
from reviews.errors import WrongUse
from reviews.fields import MAX_REASON_CHARACTERS
from reviews.training_run import TrainingRun
from storage.learning.run_requests import RunRequest
from storage.learning.runs import TrainingRunStore

router = APIRouter(tags=["runs"])

_LARGEST_ID = 2**31 - 1
_DEFAULT_LIMIT = 30
TaskQuery = Annotated[
    str | None, Query(max_length=64, description="The task; without it, the first configured one.")
]


class ApiRun(BaseModel):
    """A training run; `manifest`, `metrics` and `verdict` are as the trainer stored them."""

    id: int
    task: str
    trigger: str = Field(description="manual, nightly, labels, drift or requested.")
    state: str = Field(description="running, promoted, kept, waiting or failed.")
    stage: str = Field(description="The last stage that it reached.")
    started_at: datetime
    finished_at: datetime | None
    progress: Mapping[str, Any] | None = Field(description="How far its fits are, or were when it ended.")
    active_adapter: str | None
    candidate_adapter: str | None
    error: str | None


class ApiWholeRun(ApiRun):
    """A training run with its settings, dataset, figures and the gate's verdict."""

    config: Mapping[str, Any]
    manifest: Mapping[str, Any] | None
    metrics: Mapping[str, Any] | None
    verdict: Mapping[str, Any] | None


class ApiRunRequest(BaseModel):
    """A run that somebody asked for."""

    id: int
    task: str
    requested_by: str
    reason: str
    requested_at: datetime
    state: str = Field(description="waiting, taken, begun, failed or expired.")
    taken_by: str | None
    run: int | None = Field(description="The run that it became.")
    error: str | None = Field(description="Why it became none.")


class ApiAtWork(BaseModel):
    """What happens for a task now."""

    run: ApiRun | None = Field(description="The run at work.")
    trainer: str | None = Field(description="The process that trains.")
    schedule: str | None = Field(description="A schedule that takes requests; null: none runs.")
    request: ApiRunRequest | None = Field(description="The latest request.")


class ApiAskedRun(Body):
    """Ask for a run now."""

    task: str | None = Field(default=None, max_length=64)
    reason: str = Field(min_length=1, max_length=MAX_REASON_CHARACTERS, description="Why, in a sentence.")


@router.get("/runs")
def list_runs(
    parts: Parts, _who: Viewer, task: TaskQuery = None, limit: Limit = _DEFAULT_LIMIT, cursor: Cursor = None
) -> Piece[ApiRun]:
    """The runs of a task, the newest first."""
    position = from_cursor(cursor, [int])
    before = min(position[0], _LARGEST_ID) if position else None
    found = TrainingRunStore(parts.database).history(task or parts.tasks[0], limit + 1, before)
    following = to_cursor(found[limit - 1].id) if len(found) > limit else None
    return Piece[ApiRun](items=[_run(one) for one in found[:limit]], next=following)


@router.post("/runs", status_code=202)
def ask_for_run(parts: Parts, who: Operator, wanted: ApiAskedRun) -> ApiRunRequest:
    """Ask for a run; a schedule takes the request within seconds. 409 if one is at work or asked for."""
    return _request(ask(parts, who, wanted.task or parts.tasks[0], wanted.reason))


@router.get("/runs/now")
def read_at_work(parts: Parts, _who: Viewer, task: TaskQuery = None) -> ApiAtWork:
    """What is at work for a task, and what is asked for."""
    now = at_work(parts.database, task or parts.tasks[0])
    return ApiAtWork(
        run=now.run and _run(now.run),
        trainer=now.trainer and now.trainer.holder,
        schedule=now.schedule and now.schedule.holder,
        request=now.request and _request(now.request),
    )


@router.get("/runs/{number}")
def read_run(parts: Parts, _who: Viewer, number: Annotated[int, Path(ge=1, le=_LARGEST_ID)]) -> ApiWholeRun:
    """One run with all that was stored of it."""
    try:
        found = TrainingRunStore(parts.database).show(number)
    except WrongUse as err:
        raise Missing(f"There is no training run {number}.") from err
    return ApiWholeRun(**{name: getattr(found, name) for name in ApiWholeRun.model_fields})


def _run(run: TrainingRun) -> ApiRun:
    return ApiRun(**{name: getattr(run, name) for name in ApiRun.model_fields})


def _request(request: RunRequest) -> ApiRunRequest:
    return ApiRunRequest(**{name: getattr(request, name) for name in ApiRunRequest.model_fields})
