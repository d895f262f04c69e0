"""Addresses of all pages and reading API calls of the console, from its table of routes."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import psycopg
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from console.app import API_PREFIX, route_table

_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_TASK = "sentiment"
# What stands for a parameter, by its name and, where one name means several things, by its route.
_QUERIES: Mapping[str, str] = {
    "dead-letters record": "SELECT record FROM dead_letter WHERE state = 'waiting' LIMIT 1",
    "erasures number": "SELECT max(id) FROM erasure",
    "record": "SELECT record FROM label_task WHERE state = 'open' ORDER BY record LIMIT 1",
    "id": "SELECT r.review_id FROM embedding e JOIN review r USING (record) ORDER BY e.record DESC LIMIT 1",
    "version": "SELECT version FROM active_adapter LIMIT 1",
    "first": "SELECT version FROM active_adapter LIMIT 1",
    "second": "SELECT version FROM adapter ORDER BY id LIMIT 1",
    "report": "SELECT max(id) FROM drift_report",
    "report_id": "SELECT max(id) FROM drift_report",
    "run": "SELECT max(id) FROM training_run",
    "run_id": "SELECT max(id) FROM training_run",
    "number": "SELECT max(id) FROM training_run",
}
_TEXTS: Mapping[str, str] = {"task": _TASK, "secret": "a" * 43, "text": "love"}
# The filters that cost most, beside what a page shows by itself.
_REVIEW_FILTERS = (
    "label=negative", "product=kettle-none", "product=electric-kettle&label=neutral", "source=mail",
    "since=1h", "until=300d", "since=200d&until=199d", "min_confidence=0.99", "min_confidence=1",
    "uncertain=true", "uncertain=true&label=neutral", "text=zzzz", "text=love", "human=labelled",
    "human=differs", "human=differs&label=neutral", "id=nothing", "source=nothing",
    "label=neutral&source=mail&product=electric-kettle",
)  # fmt: skip
_MORE: Mapping[str, tuple[str, ...]] = {
    "/reviews": _REVIEW_FILTERS,
    "/api/v1/reviews": (*_REVIEW_FILTERS, "limit=500", "text=zuzuzu&limit=500", "human=labelled&limit=500"),
    "/drift": ("verdict=drift", "verdict=stable"),
    "/dead-letters": ("state=discarded", "stage=parse&reason=not_json"),
    "/label": ("queue=ties",),
    "/api/v1/dead-letters": ("stage=parse&reason=missing_text&limit=500",),
}


class Visited(NamedTuple):
    """One address of a route.

    Attributes:
        route: The route's path, with its parameters' names.
        address: With values and a query.
    """

    route: str
    address: str

    @property
    def is_page(self) -> bool:
        """Whether it is for people."""
        return not self.route.startswith(API_PREFIX)


def reading_addresses(connection: "psycopg.Connection[Any]") -> list[Visited]:
    """One address at least of each route that is read.

    Args:
        connection: To a database that :func:`benchmarks.console_data.fill_console` filled.

    Raises:
        KeyError: If a route has a parameter that nothing stands for.
    """
    return list(_addresses(lambda query: connection.execute(query).fetchone()))


def _addresses(ask: Callable[[str], Any]) -> Iterator[Visited]:
    for path, route in route_table():
        if "GET" not in route.methods:
            continue
        address = _PARAMETER.sub(lambda found, path=path: _value(path, found[1], ask), path)
        needed = [field.alias for field in route.dependant.query_params if _is_needed(field.field_info)]
        query = "&".join(f"{name}={_value(path, name, ask)}" for name in needed)
        yield Visited(path, f"{address}?{query}" if query else address)
        for more in _MORE.get(path, ()):
            yield Visited(path, f"{address}?{more}")


def _is_needed(field: FieldInfo) -> bool:
    """Whether a query has to have it; a model as a parameter holds fields that may all be missing."""
    is_model = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    return field.is_required() and not is_model


def _value(path: str, name: str, ask: Callable[[str], Any]) -> str:
    group = path.removeprefix(API_PREFIX).split("/")[1]
    for key in (f"{group} {name}", name):
        if key in _TEXTS:
            return _TEXTS[key]
        if key in _QUERIES:
            row = ask(_QUERIES[key])
            return str(row[0])
    raise KeyError(f"benchmarks/console_paths.py names no value for '{name}' of {path}")
