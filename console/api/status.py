"""How the classifier is doing, for programs."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from console.access import Viewer
from console.overview.snapshot import Overviews
from console.overview.troubles import find_troubles

router = APIRouter(tags=["status"])


class ApiTrouble(BaseModel):
    """Something that needs a person."""

    level: Literal["bad", "warn"]
    what: str
    remedy: str


class ApiServing(BaseModel):
    """The active adapter, and who decided that."""

    version: str
    since: datetime
    decided_by: str
    reason: str


class ApiQuality(BaseModel):
    """Macro-F1 of the active adapter by audit labels with the ends of its 95 % interval, and its accuracy."""

    labels: int
    macro_f1: float
    low: float
    high: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


class ApiStream(BaseModel):
    """The stream; what is not known at present is null."""

    reviews_per_second: float
    lag_records: int | None
    seconds_to_clear: float | None
    publish_to_row_p95_seconds: float | None
    last_stored: datetime | None
    records: int
    gaps: int
    lost_records: int
    waiting_dead_letters: dict[str, int]


class ApiSink(BaseModel):
    """A topic that rows are published to; lag_seconds is null where every stored row is published."""

    topic: str
    lag_records: int
    lag_seconds: float | None
    waiting_changes: int


class ApiQueueState(BaseModel):
    """The annotation queue; agreement is the share of equal answers among pairs."""

    open_items: int
    answers_today: int
    agreement: float | None


class ApiStatus(BaseModel):
    """The numbers of the overview."""

    task: str
    at: datetime
    troubles: list[ApiTrouble]
    serving: ApiServing | None
    quality: ApiQuality | None
    expected_macro_f1: float | None
    stream: ApiStream
    sinks: list[ApiSink]
    queue: ApiQueueState
    drift_verdict: str | None
    last_run: str | None
    next_run: datetime | None


@router.get("/status")
def read_status(
    request: Request,
    _who: Viewer,
    task: Annotated[str | None, Query(max_length=256)] = None,
) -> ApiStatus:
    """The overview's numbers, some seconds old at most."""
    overviews: Overviews = request.app.state.overviews
    overview = overviews.of(task)
    live, daily = overview.live(), overview.daily()
    active = daily.quality.active if daily else None
    quality = None
    if active:
        quality = ApiQuality(
            labels=active.labels,
            macro_f1=active.macro_f1,
            low=active.low,
            high=active.high,
            accuracy=active.accuracy,
            accuracy_low=active.accuracy_low,
            accuracy_high=active.accuracy_high,
        )
    serving = None
    if live.activation:
        serving = ApiServing(
            version=live.activation.version,
            since=live.activation.activated_at,
            decided_by=live.activation.decided_by,
            reason=live.activation.reason,
        )
    queue = live.queue
    return ApiStatus(
        task=live.task,
        at=live.now,
        troubles=[
            ApiTrouble(level=one.level, what=one.what, remedy=one.remedy)
            for one in find_troubles(live, daily)
        ],
        serving=serving,
        quality=quality,
        expected_macro_f1=daily.quality.expected[-1] if daily else None,
        stream=ApiStream(
            reviews_per_second=live.rate.per_second,
            lag_records=live.backlog.records,
            seconds_to_clear=live.backlog.seconds_to_clear,
            publish_to_row_p95_seconds=live.delays.p95_seconds,
            last_stored=live.rate.last_stored,
            records=live.totals.records,
            gaps=live.gaps.gaps,
            lost_records=live.gaps.records,
            waiting_dead_letters={count.reason: count.letters for count in live.letters},
        ),
        sinks=[
            ApiSink(
                topic=sink.topic,
                lag_records=sink.records,
                lag_seconds=sink.seconds,
                waiting_changes=sink.changes,
            )
            for sink in live.sinks
        ],
        queue=ApiQueueState(
            open_items=queue.open_items,
            answers_today=queue.answers,
            agreement=queue.agreeing / queue.pairs if queue.pairs else None,
        ),
        drift_verdict=live.drift.verdict if live.drift else None,
        last_run=live.run.state if live.run else None,
        next_run=live.next_run,
    )
