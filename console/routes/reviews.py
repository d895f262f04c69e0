"""Reviews: a list with filters, its download, one review, and what is like it."""

import io
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response, StreamingResponse

from console.access import Annotator, Parts, Viewer
from console.parts import ConsoleParts
from console.problems import Missing
from console.rendering import done, page
from console.review_query import HUMAN, ReviewQuery, to_place, to_reviews_cursor
from reviews.csv_output import CsvWriter
from reviews.errors import InvalidMessage, WrongUse
from reviews.label import UNSURE, resolve_label
from reviews.queue_item import CONSOLE_SOURCE
from storage.labels.store import LabelStore
from storage.queries.filters import LATEST_ANSWERS, ReviewFilter
from storage.queries.review_history import ReviewHistory, find_history, find_versions
from storage.queries.review_pages import ReviewPage, find_page
from storage.queries.reviews import PUBLIC_COLUMNS
from storage.queries.similar import find_similar

router = APIRouter()

PAGE = 50
MOST_DOWNLOADED = 10_000
_DOWNLOAD_AT_ONCE = 500
_MOST_SEARCHES = 20
_SIMILAR = 20
_KEYS = "123456789"

Cursor = Annotated[str | None, Query(max_length=1000)]
ReviewId = Annotated[str, Query(alias="id", max_length=256)]
Task = Annotated[str | None, Query(max_length=256)]


@router.get("/reviews")
def list_reviews(
    request: Request, parts: Parts, _who: Viewer, asked: Annotated[ReviewQuery, Query()], after: Cursor = None
) -> Response:
    """The scored reviews that match, the latest scored first."""
    problem = ""
    try:
        found = find_page(parts.database, asked.to_filter(parts, PAGE), to_place(after))
    except WrongUse as err:
        found, problem = ReviewPage([], None), str(err)
    further = to_reviews_cursor(found.end)
    task = asked.task or parts.tasks[0]
    values = {
        "asked": asked,
        "task": task,
        "tasks": parts.tasks,
        "labels": _labels(parts, task),
        "human": HUMAN,
        "latest_answers": LATEST_ANSWERS,
        "rows": found.rows,
        "searched": found.searched,
        "problem": problem,
        "further": asked.address("/reviews", after=further) if further else "",
        "first": asked.address("/reviews") if after else "",
        "download": asked.address("/reviews.csv"),
        "most_downloaded": MOST_DOWNLOADED,
        "is_filtered": asked.address("") != "",
        "one": lambda row: one_review(row["review_id"], row["task"]),
    }
    return page(request, "reviews.html", values, status=422 if problem else 200)


@router.get("/reviews.csv")
def download_reviews(parts: Parts, _who: Viewer, asked: Annotated[ReviewQuery, Query()]) -> Response:
    """The same reviews as CSV, from the latest on; cells that a spreadsheet would run get an apostrophe."""
    wanted = asked.to_filter(parts, _DOWNLOAD_AT_ONCE)
    name = {"Content-Disposition": 'attachment; filename="reviews.csv"'}
    return StreamingResponse(_csv(parts, wanted), media_type="text/csv; charset=utf-8", headers=name)


@router.get("/reviews/one")
def show_review(
    request: Request, parts: Parts, _who: Viewer, review: ReviewId, task: Task = None
) -> Response:
    """All that is stored of one review."""
    task = task or parts.tasks[0]
    found = _history(parts, review)
    labels = _labels(parts, task)
    keys = [*_KEYS, *[""] * len(labels)]
    values = {
        "id": review,
        "task": task,
        "tasks": parts.tasks,
        "history": found,
        "by_record": _by_record(found, task),
        "labels": list(zip(keys, labels, strict=False)),
        "unsure": UNSURE,
        "like": ReviewQuery(id=review, task=task).address("/reviews/like"),
        "one": one_review,
    }
    return page(request, "review.html", values)


@router.post("/reviews/one/label")
def label_review(
    parts: Parts,
    who: Annotator,
    *,
    review: Annotated[str, Form(alias="id", max_length=256)],
    task: Annotated[str, Form(max_length=256)],
    label: Annotated[str, Form(max_length=256)],
) -> Response:
    """Say what the current version of a review is; the model's answer stays beside it."""
    store = LabelStore(parts.database)
    try:
        name = resolve_label(label, store.vocabulary(task))
    except InvalidMessage as err:
        raise WrongUse(str(err)) from err
    if not store.answer(review, task, name, who.name, CONSOLE_SOURCE):
        raise Missing(f"There is no review '{review}'.")
    return done(one_review(review, task), f"Saved as your answer: {name or UNSURE}.")


@router.get("/reviews/like")
def show_similar(
    request: Request, parts: Parts, _who: Viewer, review: ReviewId, task: Task = None
) -> Response:
    """Reviews that are like one, by the embeddings that were kept."""
    versions = find_versions(parts.database, review)
    if not versions:
        raise Missing(f"There is no review '{review}'.")
    task = task or parts.tasks[0]
    values = {
        "id": review,
        "task": task,
        "text": versions[0].text,
        "similar": find_similar(parts.database, task, versions[0].record, _SIMILAR),
        "one": one_review,
    }
    return page(request, "similar.html", values)


def one_review(review_id: str, task: str) -> str:
    """The address of the page of one review."""
    return ReviewQuery(id=review_id, task=task).address("/reviews/one")


def _history(parts: ConsoleParts, review_id: str) -> ReviewHistory:
    found = find_history(parts.database, review_id)
    if found is None:
        raise Missing(f"There is no review '{review_id}', and no dead letter with that id among the latest.")
    return found


def _by_record(found: ReviewHistory, task: str) -> dict[int, dict[str, object]]:
    """For each version what adapters and people say of it for one task."""
    return {
        version.record: {
            "predictions": [
                said for said in found.predictions if (said.record, said.task) == (version.record, task)
            ],
            "answers": [said for said in found.answers if (said.record, said.task) == (version.record, task)],
            "agreed": found.consensus.get((version.record, task)),
        }
        for version in found.versions
    }


def _labels(parts: ConsoleParts, task: str) -> tuple[str, ...]:
    vocabulary = LabelStore(parts.database).vocabulary(task)
    return vocabulary.ordered if vocabulary else ()


def _csv(parts: ConsoleParts, wanted: ReviewFilter) -> Iterator[str]:
    """The header and the rows, piece by piece; each piece is read in a transaction of its own."""
    columns = [column.name for column in PUBLIC_COLUMNS]
    content = io.StringIO(newline="")
    writer = CsvWriter(content, raw=False)
    writer.write_row(columns)
    after, rows, searches = None, 0, 0
    while True:
        yield content.getvalue()  # the header first, so that a browser has its answer at once
        content.seek(0)
        content.truncate()
        found = find_page(parts.database, wanted, after)
        for row in found.rows:
            writer.write_row(row[name] for name in columns)
        rows, searches, after = rows + len(found.rows), searches + bool(found.searched), found.end
        if after is None or rows >= MOST_DOWNLOADED or searches >= _MOST_SEARCHES:
            yield content.getvalue()
            return
