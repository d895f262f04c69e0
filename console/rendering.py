"""Pages and fragments from the templates of the console."""

from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from fastapi import Request
from starlette.responses import HTMLResponse, RedirectResponse

from console.access import Actor
from pages.rendering import render
from reviews.account import Role

TEMPLATES = Path(__file__).parent / "templates"
STATIC = Path(__file__).parent / "static"
FRAGMENT_HEADER = "x-fragment"
"""What the script of a page sends when it asks for a part of it."""
_NOTICE = "reviewloop_notice"
_NOTICE_SECONDS = 60
_LONGEST_NOTICE = 500


class Entry(NamedTuple):
    """An entry of the navigation.

    Attributes:
        title: What it is called.
        path: Where it leads.
        role: Who sees it.
        group: The heading that it is under.
    """

    title: str
    path: str
    role: Role
    group: str = ""


NAVIGATION = (
    Entry("Overview", "/", Role.VIEWER),
    Entry("Reviews", "/reviews", Role.VIEWER, "Stream"),
    Entry("Dead letters", "/dead-letters", Role.VIEWER, "Stream"),
    Entry("Drift", "/drift", Role.VIEWER, "Stream"),
    Entry("Sources", "/sources", Role.OPERATOR, "Stream"),
    Entry("Label", "/label", Role.ANNOTATOR, "Learning"),
    Entry("Training runs", "/runs", Role.VIEWER, "Learning"),
    Entry("Adapters", "/adapters", Role.VIEWER, "Learning"),
    Entry("Try it", "/try", Role.VIEWER, "Learning"),
    Entry("People", "/people", Role.OWNER, "Administration"),
    Entry("Tokens", "/tokens", Role.OWNER, "Administration"),
    Entry("Audit log", "/audit-log", Role.OWNER, "Administration"),
    Entry("Erasures", "/erasures", Role.OWNER, "Administration"),
)


def page(
    request: Request, template: str, values: Mapping[str, Any] | None = None, *, status: int = 200
) -> HTMLResponse:
    """A page: the template, which extends ``layout.html``, with the navigation around it.

    Args:
        request: Whose actor decides what the navigation shows.
        template: A file in ``console/templates``.
        values: For its names.
        status: The HTTP status.
    """
    response = HTMLResponse(render(TEMPLATES / template, {**_around(request), **(values or {})}), status)
    if _NOTICE in request.cookies:
        response.delete_cookie(_NOTICE)
    return response


def fragment(request: Request, template: str, values: Mapping[str, Any] | None = None) -> HTMLResponse:
    """A part of a page, which the page includes too, for its polling."""
    return HTMLResponse(render(TEMPLATES / template, {**_around(request), **(values or {})}))


def done(path: str, notice: str) -> RedirectResponse:
    """After a form was handled: the browser loads ``path``, which shows the notice once."""
    response = RedirectResponse(path, 303)
    text = quote(notice[:_LONGEST_NOTICE])
    response.set_cookie(_NOTICE, text, max_age=_NOTICE_SECONDS, httponly=True, samesite="lax")
    return response


def _around(request: Request) -> dict[str, Any]:
    actor: Actor | None = getattr(request.state, "actor", None)
    there = request.app.state.paths
    entries = [
        entry for entry in NAVIGATION if entry.path in there and actor and actor.role.covers(entry.role)
    ]
    return {
        "actor": actor,
        "asset": asset,
        "csrf": actor.csrf if actor else "",
        "here": _entry_of(request.url.path),
        "navigation": entries,
        "notice": unquote(request.cookies.get(_NOTICE, ""))[:_LONGEST_NOTICE],
        "may": lambda role: actor is not None and actor.role.covers(Role(role)),
    }


def _entry_of(path: str) -> str:
    """The path of the entry that a page belongs to."""
    fitting = [entry.path for entry in NAVIGATION if path == entry.path or path.startswith(f"{entry.path}/")]
    return max(fitting, key=len, default="")


@lru_cache(maxsize=32)
def asset(name: str) -> str:
    """The address of a file in ``console/static``, which changes with its content."""
    return f"/static/{name}?v={sha256((STATIC / name).read_bytes()).hexdigest()[:16]}"
