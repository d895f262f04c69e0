"""The application: routers, static files, error pages, and the protection around them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from console.access import Needs
from console.drift_reports.drawn import DrawnReports
from console.overview.snapshot import Overviews
from console.parts import ConsoleParts
from console.problems import PROBLEM_SCHEMA, PROBLEM_TYPE, handle_errors
from console.protection import Protection
from console.rendering import STATIC
from reviews.account import Role

API_PREFIX = "/api/v1"


def page_routers() -> list[APIRouter]:
    """The ``router`` of each module in ``console/routes``."""
    return _routers("console.routes")


def api_routers() -> list[APIRouter]:
    """The ``router`` of each module in ``console/api`` that has one."""
    return _routers("console.api")


def route_table() -> list[tuple[str, APIRoute]]:
    """Every route with its whole path."""
    return [
        (prefix + route.path, route)
        for prefix, routers in (("", page_routers()), (API_PREFIX, api_routers()))
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute)
    ]


def create_app(parts: ConsoleParts) -> ASGIApp:
    """The console over one database, ready for an ASGI server."""
    return Protection(make_routes(parts), parts.settings)


def make_routes(parts: ConsoleParts) -> FastAPI:
    """All routes, without the protection around them."""
    app = _api()
    app.state.parts, app.state.describe_api = parts, cache(describe_api)
    app.state.overviews = Overviews(parts)
    app.state.drawn_reports = DrawnReports(parts.database)
    for router in page_routers():
        app.include_router(router, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.state.paths = {path for path, _ in route_table()}
    handle_errors(app)
    return app


def describe_api() -> dict[str, Any]:
    """The OpenAPI description; each operation says which role it needs."""
    found: dict[str, Any] = _api().openapi()
    found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    found["security"] = [{"token": []}]
    for path, route in route_table():
        for method in (route.methods or ()) if path in found["paths"] else ():
            operation = found["paths"][path][method.lower()]
            operation["x-least-role"] = least_role(route)
    return found


def least_role(route: APIRoute) -> Role | None:
    """The role that a route declares; None where everybody is let in."""
    declared = _needs(route.dependant)
    if len(declared) != 1:
        raise TypeError(f"{route.path} declares {len(declared)} roles instead of one")
    return declared[0].role


def _routers(package: str) -> list[APIRouter]:
    modules = (
        import_module(f"{package}.{found.name}") for found in iter_modules(import_module(package).__path__)
    )
    return [module.router for module in modules if hasattr(module, "router")]


def _needs(dependant: Dependant) -> list[Needs]:
    own = [dependant.call] if isinstance(dependant.call, Needs) else []
    return own + [one for inner in dependant.dependencies for one in _needs(inner)]


def _api() -> FastAPI:
    app = FastAPI(
        title="ReviewLoop",
        version="1",
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        openapi_url=None,  # served by a route that asks who is there
        lifespan=_close_at_the_end,
        generate_unique_id_function=lambda route: route.name,
        responses={
            "default": {
                "description": "What is wrong.",
                "content": {PROBLEM_TYPE: {"schema": PROBLEM_SCHEMA}},
            }
        },
    )
    for router in api_routers():
        app.include_router(router, prefix=API_PREFIX)
    return app


@asynccontextmanager
async def _close_at_the_end(app: FastAPI) -> AsyncIterator[None]:
    yield
    await run_in_threadpool(app.state.overviews.close)
