"""Training runs: what is at work, the history, one run, and a request for one now."""

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Path, Query, Request
from starlette.responses import Response

from console import training
from console.access import Operator, Parts, Viewer
from console.adapters.figures import shade
from console.parts import ConsoleParts
from console.problems import Missing
from console.rendering import done, fragment, page
from reviews.errors import WrongUse
from reviews.fields import MAX_REASON_CHARACTERS
from storage.adapters.registry import AdapterStore
from storage.learning.run_requests import RunRequestStore
from storage.learning.runs import TrainingRunStore

router = APIRouter()

_PAGE = 30
_LARGEST_ID = 2**31 - 1
_LONGEST_TASK = 64
TaskQuery = Annotated[str | None, Query(max_length=_LONGEST_TASK)]
RunNumber = Annotated[int, Path(ge=1, le=_LARGEST_ID)]


@router.get("/runs")
def show_runs(
    request: Request,
    parts: Parts,
    _who: Viewer,
    task: TaskQuery = None,
    before: Annotated[int | None, Query(ge=1, le=_LARGEST_ID)] = None,
) -> Response:
    """What is at work, and the runs of a task, the newest first."""
    name = task or parts.tasks[0]
    runs = TrainingRunStore(parts.database).history(name, _PAGE + 1, before)
    older = f"{_of_task(name)}&before={runs[_PAGE - 1].id}" if len(runs) > _PAGE else ""
    values = {
        "runs": runs[:_PAGE],
        "older": older,
        "tabs": [(one, _of_task(one)) for one in parts.tasks],
        "words": training,
        **_now(parts, name),
    }
    return page(request, "runs.html", values)


@router.get("/runs/now")
def show_runs_now(request: Request, parts: Parts, _who: Viewer, task: TaskQuery = None) -> Response:
    """What is at work: a part of the page that is polled."""
    values = {**_now(parts, task or parts.tasks[0]), "words": training}
    return fragment(request, "runs_now.html", values)


@router.post("/runs")
def ask_for_run(
    parts: Parts,
    who: Operator,
    *,
    task: Annotated[str, Form(min_length=1, max_length=_LONGEST_TASK)],
    reason: Annotated[str, Form(max_length=MAX_REASON_CHARACTERS)] = "",
) -> Response:
    """Ask for a run now; a schedule takes the request within seconds."""
    training.ask(parts, who, task, reason)
    return done(_of_task(task), "A run is asked for: a schedule takes it within seconds.")


@router.get("/runs/{number}")
def show_run(request: Request, parts: Parts, _who: Viewer, number: RunNumber) -> Response:
    """One run: how it ended and why, the gate, the figures, the recipes, and the dataset."""
    return page(request, "run.html", _one(parts, number))


@router.get("/runs/{number}/now")
def show_run_now(request: Request, parts: Parts, _who: Viewer, number: RunNumber) -> Response:
    """One run, as far as it is: a part of its page that is polled while it runs."""
    return fragment(request, "run_body.html", _one(parts, number))


def _now(parts: ConsoleParts, task: str) -> dict[str, Any]:
    return {"task": task, "now": training.at_work(parts.database, task)}


def _one(parts: ConsoleParts, number: int) -> dict[str, Any]:
    try:
        run = TrainingRunStore(parts.database).show(number)
    except WrongUse as err:
        raise Missing(f"There is no training run {number}.") from err
    now = training.at_work(parts.database, run.task) if run.finished_at is None else None
    return {
        "run": run,
        "request": RunRequestStore(parts.database).of_run(number),
        "is_registered": bool(AdapterStore(parts.database).registered([run.candidate_adapter or ""])),
        "is_alive": now is not None and now.run is not None and now.run.id == number,
        "words": training,
        "shade": shade,
    }


def _of_task(task: str) -> str:
    return f"/runs?task={quote(task, safe='')}"
