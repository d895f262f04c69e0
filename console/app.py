"""The application: routers, static files, error pages, and the protection around them."""

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from console.api import about, labels, predict, queue
from console.api import dead_letters as dead_letters_api
from console.parts import ConsoleParts
from console.problems import handle_errors
from console.protection import Protection
from console.rendering import STATIC
from console.routes import administration, dead_letters, label, log_in, try_it

PAGES: tuple[APIRouter, ...] = (
    log_in.router,
    dead_letters.router,
    label.router,
    try_it.router,
    administration.router,
)
"""The routers of all pages."""
API_PREFIX = "/api/v1"
ENDPOINTS: tuple[APIRouter, ...] = (
    about.router,
    dead_letters_api.router,
    labels.router,
    predict.router,
    queue.router,
)
"""The routers below ``/api/v1``."""


def route_table() -> list[tuple[str, APIRoute]]:
    """Every route with its whole path."""
    included = [*(("", router) for router in PAGES), *((API_PREFIX, router) for router in ENDPOINTS)]
    return [
        (prefix + route.path, route)
        for prefix, router in included
        for route in router.routes
        if isinstance(route, APIRoute)
    ]


def create_app(parts: ConsoleParts) -> ASGIApp:
    """The console over one database, ready for an ASGI server."""
    return Protection(make_routes(parts), parts.settings)


def make_routes(parts: ConsoleParts) -> FastAPI:
    """All routes, without the protection around them."""
    app = FastAPI(
        title="ReviewLoop",
        version="1",
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        openapi_url=None,  # served by a route that asks who is there
    )
    app.state.parts = parts
    for router in PAGES:
        app.include_router(router, include_in_schema=False)
    for router in ENDPOINTS:
        app.include_router(router, prefix=API_PREFIX)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.state.paths = {path for path, _ in route_table()}
    handle_errors(app)
    return app
