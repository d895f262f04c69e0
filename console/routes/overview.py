"""The overview: the page that an owner opens in the morning."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from console.access import Parts, Viewer
from console.drift_reports.wording import headline, in_words, strongest_finding
from console.overview.snapshot import DAYS, LiveNumbers, Overviews
from console.overview.troubles import find_troubles
from console.rendering import fragment, page
from console.review_query import ReviewQuery
from console.training import STATE_KINDS, TRIGGER_WORDS

router = APIRouter()

_AT_WORK_SECONDS = 60

Task = Annotated[str | None, Query(max_length=256)]


@router.get("/")
def show_overview(request: Request, parts: Parts, _who: Viewer, task: Task = None) -> Response:
    """How the classifier is doing."""
    return page(request, "overview.html", _values(request, task or parts.tasks[0], parts.tasks))


@router.get("/overview/live")
def show_live(request: Request, parts: Parts, _who: Viewer, task: Task = None) -> Response:
    """The part of the overview that is polled."""
    return fragment(request, "overview_live.html", _values(request, task or parts.tasks[0], parts.tasks))


def _last_reason(live: LiveNumbers) -> str:
    """The last training run's verdict in a sentence."""
    run = live.run
    if run is None:
        return ""
    return run.error or " ".join((run.verdict or {}).get("reasons", ())[:1]) or "no reason was recorded"


def _worker(live: LiveNumbers) -> tuple[str, str]:
    """What is known of workers, from what they store: in words, and the kind of its badge."""
    last = live.rate.last_stored
    if last is not None and (live.now - last).total_seconds() < _AT_WORK_SECONDS:
        return "a worker stores reviews", "good"
    if live.backlog.records:
        return "no worker stores the waiting records", "bad"
    return "workers have nothing to do" if live.backlog.records == 0 else "no worker was seen of late", ""


def _strongest(live: LiveNumbers) -> str:
    finding = strongest_finding(live.drift) if live.drift else None
    return in_words(finding) if finding else ""


def _values(request: Request, task: str, tasks: tuple[str, ...]) -> dict[str, Any]:
    overviews: Overviews = request.app.state.overviews
    overview = overviews.of(task)
    live, daily = overview.live(), overview.daily()
    return {
        "task": task,
        "tasks": tasks,
        "live": live,
        "daily": daily,
        "days": DAYS,
        "troubles": find_troubles(live, daily),
        "drift_headline": headline(live.drift) if live.drift else "",
        "strongest": _strongest(live),
        "last_reason": _last_reason(live),
        "run_kind": STATE_KINDS.get(live.run.state, "") if live.run else "",
        "run_trigger": TRIGGER_WORDS.get(live.run.trigger, live.run.trigger) if live.run else "",
        "worker": _worker(live),
        "reviews": lambda **asked: ReviewQuery(task=task, **asked).address("/reviews"),
        "one": lambda review_id: ReviewQuery(task=task, id=review_id).address("/reviews/one"),
    }
