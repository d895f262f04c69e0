"""What the product costs at 20,000,000 reviews: every page, command and job beside its bound.

``python -m benchmarks.growth --state DIR [--sizes 1000000 5000000 20000000]``. The databases are filled by
COPY (`benchmarks/growth_data.py`) where they are not there yet, and kept in the folder. Of each size: the
time of filling and the disk; every call of `benchmarks/every_statement`; every address of the console;
commands as people start them; a night's choice with its memory; a drift report; and ingest in turns with a
database of 100,000 reviews. From the sizes a straight line leads to 100,000,000.
"""

import argparse
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import data_retention
from benchmarks.console_data import fill_console, made_up_samples
from benchmarks.console_pages import _calls, _Client, _measure, _wait_for_model
from benchmarks.console_state import ConsoleState, opened_state, running_console
from benchmarks.every_statement.walk import walk
from benchmarks.figures import percentile, report_machine
from benchmarks.growth_data import GrowthFiller
from benchmarks.made_up import made_up_messages
from benchmarks.null_worker import NULL_ADAPTER
from benchmarks.services import Services, connect
from benchmarks.stream import environment, fill, open_database, run_null_worker
from storage.adapters.registry import AdapterStore

SIZES = (1_000_000, 5_000_000, 20_000_000)
SMALL = 100_000
EXTRAPOLATED = 100_000_000
_PAGE_SECONDS = 1.0
_REPETITIONS = 5
_INGESTED, _INGESTS = 100_000, 5
# What an earlier measurement activated: reports begin at the last activation.
_FORGET_RUNS = "UPDATE training_run SET activation_id = NULL WHERE trigger = 'walk'"
_FORGET_ACTIVATIONS = """
DELETE FROM adapter_activation
 WHERE decided_by IN ('benchmark', 'walker') OR decided_by LIKE 'training run%'
"""
# Nor can a page show what the walk left for a report.
_FORGET_REPORTS = "DELETE FROM drift_report WHERE NOT measures ? 'labels'"
_ROOT = Path(__file__).resolve().parent.parent
# Commands that look at much, with the seconds that each may take; half of a second or two is Python's start.
_COMMANDS: Mapping[str, float] = {
    "query": 5, "query --label negative --since 30d": 5, "query --count": 30,
    "query --uncertain --limit 100": 5, "dead-letters list": 5,
    "dead-letters list --count": 10, "offsets show": 5, "offsets show --gaps": 5,
    "label queue": 10, "label agreement": 30, "label suspects": 120, "label export --limit 1000": 10,
    "adapters list": 5, "adapters shadow status": 10, "trainer history": 5, "drift list": 5,
    "drift report": 10, "label queue fill --dry-run": 120,
}  # fmt: skip


class Measured(NamedTuple):
    """One figure of one size.

    Attributes:
        name: What was done.
        value: Its median.
        bound: What it may be; None where there is no bound.
        unit: Seconds, mostly.
    """

    name: str
    value: float
    bound: float | None
    unit: str = "s"


def main() -> None:
    asked = _parse()
    report_machine()
    found: dict[int, dict[str, Measured]] = {}
    for size in asked.sizes:
        found[size] = {}
        filler = _TimedFiller()
        with opened_state(asked.state, size, filler=filler) as state:
            for measured in _of_size(state, size, filler.seconds, asked.only):
                found[size][measured.name] = measured
                _say(size, measured)
    _extrapolate(found)
    over = [
        f"{size:,}: {one.name}"
        for size, figures in found.items()
        for one in figures.values()
        if one.bound is not None and (one.value < one.bound if one.unit == "ratio" else one.value > one.bound)
    ]
    print(json.dumps({"over their bound": over}), flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder of services and databases; kept")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--only", nargs="+", choices=list(_PARTS), default=list(_PARTS))
    return parser.parse_args()


class _TimedFiller:
    """Makes the filler of a database; knows how long it took."""

    def __init__(self) -> None:
        self.seconds: float | None = None

    def __call__(self, *given: object, **named: object) -> "_TimedFiller":
        self._filler = GrowthFiller(*given, **named)  # type: ignore[arg-type]  # handed on as they come
        return self

    def fill(self, letters: int) -> None:
        began = time.monotonic()
        self._filler.fill(letters)
        self.seconds = time.monotonic() - began


def _of_size(state: ConsoleState, size: int, filled: float | None, only: list[str]) -> Iterator[Measured]:
    if filled is not None:
        yield Measured("filling", filled, None)
    with connect(state.url) as connection:
        connection.execute(_FORGET_RUNS)
        connection.execute(_FORGET_ACTIVATIONS)
        rows = connection.execute(
            "SELECT relname, pg_total_relation_size(oid) / 1e9 FROM pg_class WHERE relkind = 'r' "
            "AND relnamespace = 'public'::regnamespace AND pg_total_relation_size(oid) > 1e7 ORDER BY 2 DESC"
        )
        for table, gigabytes in rows.fetchall():
            yield Measured(f"disk of {table}", float(str(gigabytes)), None, "GB")
    for part in only:
        yield from _PARTS[part](state, size)


def _statements(state: ConsoleState, _: int) -> Iterator[Measured]:
    with closing(open_database(state.url)) as database:
        for call, seconds in walk(database, keeps=False):
            yield Measured(f"call: {call.name}", seconds, call.seconds)


def _pages(state: ConsoleState, _: int) -> Iterator[Measured]:
    with connect(state.url) as connection:
        connection.execute(_FORGET_REPORTS)
    calls = list(_calls(state))
    with running_console(state) as console, closing(_Client(console)) as client:
        _wait_for_model(client)
        times = _measure(client, calls, _REPETITIONS)
    for call, milliseconds in times.items():
        yield Measured(f"page: {call.name}", percentile(milliseconds, 0.95) / 1000, _PAGE_SECONDS)


def _commands(state: ConsoleState, _: int) -> Iterator[Measured]:
    settings = environment(state.bootstrap_servers, state.url, "reviews", "growth")
    for command, bound in _COMMANDS.items():
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "reviewloop", *command.split()],
            env=settings, cwd=_ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        seconds = time.monotonic() - began
        if done.returncode:
            print(json.dumps({"failed": command, "said": done.stderr[-300:]}), flush=True)
        yield Measured(f"command: {command}", seconds, bound)


def _night(state: ConsoleState, _: int) -> Iterator[Measured]:
    """In a process of its own, whose memory is the night's."""
    settings = environment(state.bootstrap_servers, state.url, "reviews", "growth")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth_night"],
        env=settings,
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    for name, value, bound, unit in json.loads(done.stdout.splitlines()[-1]):
        yield Measured(name, value, bound, unit)


def _ingest(state: ConsoleState, _: int) -> Iterator[Measured]:
    """The same records into the large database and into one of 100,000 reviews, in turns."""
    services = Services(state.bootstrap_servers, state.server)
    rates: dict[str, list[float]] = {"small": [], "large": []}
    with services.database() as small:
        fill_console(small, SMALL, list(made_up_samples()), filler=GrowthFiller)
        for repetition in range(_INGESTS):
            with services.topic() as topic:
                fill(services.bootstrap_servers, topic, made_up_messages(_INGESTED, seed=repetition))
                pair = [("small", small), ("large", state.url)]
                for name, url in pair if repetition % 2 else reversed(pair):
                    rates[name].append(_rate(services, url, topic))
    for name, values in rates.items():
        yield Measured(f"ingest into the {name} database", float(np.median(values)), None, "reviews/s")
    ratios = [large / small for small, large in zip(rates["small"], rates["large"], strict=True)]
    yield Measured("ingest, large to small", float(np.median(ratios)), 0.95, "ratio")


def _rate(services: Services, url: str, topic: str) -> float:
    _let_null_adapter_serve(url)
    with connect(url) as connection:
        connection.execute("CHECKPOINT")  # neither pays for what was written before
    settings = environment(services.bootstrap_servers, url, topic, secrets.token_hex(4))
    found = run_null_worker(settings, _INGESTED)
    with connect(url) as connection:
        connection.execute(_FORGET_ACTIVATIONS)
    return float(found["reviews"] / found["seconds"])


def _let_null_adapter_serve(url: str) -> None:
    with closing(open_database(url)) as database:
        store = AdapterStore(database)
        store.add(NULL_ADAPTER, {"adapter_config.json": b"{}"})
        before = store.active(NULL_ADAPTER.task)
        store.activate(NULL_ADAPTER, expected=before, decided_by="benchmark", reason="it costs nothing")


def _retention(state: ConsoleState, _: int) -> Iterator[Measured]:
    """In a copy, which a fifth of the reviews leaves."""
    services = Services(state.bootstrap_servers, state.server)
    with services.database(like=state.url) as url:
        _let_null_adapter_serve(url)
        found = data_retention.measure(services, url)
    ratios = [beside / alone for alone, beside in zip(found.alone, found.beside, strict=True)]
    yield Measured("ingest alone", float(np.median(found.alone)), None, "reviews/s")
    yield Measured("ingest beside retention", float(np.median(found.beside)), None, "reviews/s")
    yield Measured("ingest, beside retention to alone", float(np.median(ratios)), 0.85, "ratio")
    yield Measured("ingest, beside retention to alone, lowest", min(ratios), None, "ratio")
    yield Measured("ingest, beside retention to alone, highest", max(ratios), None, "ratio")
    yield Measured("retention of a fifth", found.deletion, None)
    yield Measured("retention: reviews deleted", found.deleted, None, "reviews")
    yield Measured("retention: shrinking", found.shrinking, None)
    for name, size in zip(("before", "after deletion", "after shrinking"), found.sizes, strict=True):
        yield Measured(f"retention: disk {name}", size / 1e9, None, "GB")


_PARTS: Mapping[str, Callable[[ConsoleState, int], Iterator[Measured]]] = {
    "statements": _statements,
    "pages": _pages,
    "commands": _commands,
    "night": _night,
    "ingest": _ingest,
    "retention": _retention,
}


def _say(size: int, one: Measured) -> None:
    figure = {"reviews": size, "bound": one.bound} if one.bound is not None else {"reviews": size}
    line = {"figure": f"growth {one.name}", "value": float(f"{one.value:.4g}"), "unit": one.unit, **figure}
    print(json.dumps(line), flush=True)


def _extrapolate(found: Mapping[int, Mapping[str, Measured]]) -> None:
    """A straight line through the sizes, at 100,000,000 reviews; not below the largest size's figure."""
    sizes = sorted(found)
    if len(sizes) < 3:
        return
    for name, largest in found[sizes[-1]].items():
        values = [found[size][name].value for size in sizes if name in found[size]]
        if len(values) == len(sizes):
            slope, rest = np.polyfit(sizes, values, 1)
            _say(EXTRAPOLATED, largest._replace(value=max(largest.value, float(slope * EXTRAPOLATED + rest))))


if __name__ == "__main__":
    main()
