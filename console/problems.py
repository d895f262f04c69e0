"""Errors as answers: a page in clear words for people, problem+json (RFC 9457) for programs."""

import json
import secrets
from http import HTTPStatus
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from console.access import API, Forbidden, NotLoggedIn, own_path
from console.rendering import FRAGMENT_HEADER, page
from reviews.errors import (
    AdapterError,
    InvalidMessage,
    ModelError,
    ReviewLoopError,
    Unavailable,
    Unstorable,
    WrongUse,
)

log = structlog.get_logger()

_TITLES = {
    401: "Log in first",
    403: "Not allowed",
    404: "Not found",
    405: "Not possible here",
    409: "Somebody else was faster",
    413: "Too large",
    422: "That does not fit",
    429: "Too many attempts",
    503: "Not available now",
}
_RETRY_SECONDS = "5"
PROBLEM_TYPE = "application/problem+json"
PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string", "description": "The kind of problem."},
        "status": {"type": "integer", "description": "The HTTP status."},
        "detail": {"type": "string", "description": "What is wrong, and what to do."},
    },
}
"""RFC 9457."""


class Missing(ReviewLoopError):
    """There is no such thing: a page says so with status 404."""


class Conflict(ReviewLoopError):
    """Somebody else changed it meanwhile: look again, then decide; status 409."""


class TooMany(ReviewLoopError):
    """Too many attempts: wait; status 429."""


_STATUSES: tuple[tuple[type[ReviewLoopError], int], ...] = (
    (NotLoggedIn, 401),
    (Forbidden, 403),
    (Missing, 404),
    (Conflict, 409),
    (TooMany, 429),
    (WrongUse, 422),
    (InvalidMessage, 422),
    (Unstorable, 422),
    (AdapterError, 422),
    (ModelError, 503),
    (Unavailable, 503),
)


def handle_errors(app: FastAPI) -> None:
    """Let the application answer with a page or a problem whatever goes wrong."""
    app.add_exception_handler(ReviewLoopError, _of_ours)
    app.add_exception_handler(RequestValidationError, _of_values)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _of_faults)


def problem(request: Request, status: int, detail: str) -> Response:
    """The answer that says what is wrong."""
    title = _TITLES.get(status) or HTTPStatus(status).phrase
    if request.url.path.startswith(API):
        body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        response = Response(json.dumps(body), status, media_type=PROBLEM_TYPE)
        if status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
    else:
        values = {"title": title, "detail": detail, "status": status}
        response = page(request, "problem.html", values, status=status)
    if status == 503:
        response.headers["Retry-After"] = _RETRY_SECONDS
    return response


def _of_ours(request: Request, err: Exception) -> Response:
    if isinstance(err, NotLoggedIn) and _shows_a_page(request):
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/log-in?next={quote(own_path(target), safe='')}", 303)
    status = next((status for kind, status in _STATUSES if isinstance(err, kind)), None)
    if status is None:
        log.error("console_failed", path=request.url.path, error=str(err))
    return problem(request, status or 500, str(err))


def _shows_a_page(request: Request) -> bool:
    is_of_script = FRAGMENT_HEADER in request.headers or request.url.path.startswith(API)
    return request.method == "GET" and not is_of_script


def _of_values(request: Request, err: Exception) -> Response:
    errors = err.errors() if isinstance(err, RequestValidationError) else []
    said = [
        f"{'.'.join(map(str, item['loc'][1:])) or 'the request'}: {item['msg'].removeprefix('Value error, ')}"
        for item in errors[:10]
    ]
    return problem(request, 422, f"{'; '.join(said)}.")


def _of_http(request: Request, err: Exception) -> Response:
    status = err.status_code if isinstance(err, HTTPException) else 500
    details = {404: "There is no such page.", 405: "This address does not take such a request."}
    detail = (
        err.detail if isinstance(err, HTTPException) and status not in details else details.get(status, "")
    )
    return problem(request, status, detail)


def _of_faults(request: Request, err: Exception) -> Response:
    number = secrets.token_hex(4)
    log.error("console_fault", fault=number, path=request.url.path, exc_info=err)
    return problem(
        request, 500, f"This is a fault of the program. Its log has the details under the number {number}."
    )
