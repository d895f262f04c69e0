"""How soon every page and API call of the console answers at 1,000,000 reviews, and how PostgreSQL finds it.

The addresses come from the console's table of routes. They are asked in turns, so that none has the caches to
itself. Then each statement that the pages sent is explained: none may read a big table from end to end.
"""

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks.console_paths import reading_addresses
from benchmarks.console_plans import big_scans, recorded
from benchmarks.console_state import (
    ConsoleState,
    console_role,
    opened_state,
    parse_arguments,
    running_console,
)
from benchmarks.figures import percentile, report, report_machine
from benchmarks.services import connect
from reviews.account import Role
from tests.console_process import ConsoleProcess
from tests.integration.console.conftest import open_site

REPETITIONS = 40
_WARM = 3
_PATIENCE_SECONDS = 120
_DOWNLOAD = "/reviews.csv"  # ten thousand rows, sent as they are read
_PREDICT = {"texts": ["The zip broke after a week, and nobody answers my mails."]}


class Call(NamedTuple):
    """One request, as it is asked again and again."""

    name: str
    method: str
    address: str
    body: bytes | None = None


_PREDICTION = Call("POST /api/v1/predict", "POST", "/api/v1/predict", json.dumps(_PREDICT).encode())


class _Client:
    """An owner's browser that keeps its connection."""

    def __init__(self, console: ConsoleProcess) -> None:
        user = console.log_in("olga", Role.OWNER)
        self._connection = http.client.HTTPConnection("127.0.0.1", console.port, timeout=60)
        self._headers = {
            "Cookie": "=".join(user.cookie),
            "X-CSRF-Token": user.csrf,
            "Content-Type": "application/json",
        }

    def ask(self, call: Call) -> tuple[int, float]:
        """The status of the answer, and the milliseconds until it was there; until a download began."""
        started = time.perf_counter()
        self._connection.request(call.method, call.address, body=call.body, headers=self._headers)
        answer = self._connection.getresponse()
        answer.read(1 if call.address.startswith(_DOWNLOAD) else None)
        milliseconds = (time.perf_counter() - started) * 1000
        answer.read()
        return answer.status, milliseconds

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def main() -> None:
    asked = parse_arguments(__doc__)
    report_machine()
    with opened_state(asked.state, asked.reviews) as state:
        calls = list(_calls(state))
        with running_console(state) as console, closing(_Client(console)) as client:
            _wait_for_model(client)
            times = _measure(client, calls, asked.repetitions or REPETITIONS)
        for call in calls:
            report(f"console_pages {call.name} p95", [percentile(times[call], 0.95)], "ms")
        worst = max(percentile(values, 0.95) for values in times.values())
        report("console_pages worst p95", [worst], "ms")
        scans = _explain(state, calls)
    report("console_pages scans of a big table", [float(len(scans))], "statements")
    for scan in scans:
        print(json.dumps({"scan": scan}), flush=True)


def _calls(state: ConsoleState) -> Iterator[Call]:
    with connect(state.url) as connection:
        for visited in reading_addresses(connection):
            query = urlsplit(visited.address).query
            name = f"{visited.route}?{query}" if query else visited.route
            yield Call(f"GET {name}", "GET", visited.address)
    yield _PREDICTION


def _measure(client: _Client, calls: list[Call], repetitions: int) -> dict[Call, list[float]]:
    """Milliseconds of each call, one round of all calls after the other."""
    times: dict[Call, list[float]] = {call: [] for call in calls}
    for repetition in range(_WARM + repetitions):
        for call in calls:
            status, milliseconds = client.ask(call)
            if repetition >= _WARM:
                times[call].append(milliseconds)
            if status >= 500:
                raise RuntimeError(f"{call.name} was answered with status {status}.")
    return times


def _wait_for_model(client: _Client) -> None:
    """Until the adapter is loaded, which the first question begins."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (status := client.ask(_PREDICTION)[0]) != 200 and time.monotonic() < deadline:
        time.sleep(0.5)
    if status != 200:
        raise RuntimeError(f"The adapter was not loaded: status {status}.")


def _explain(state: ConsoleState, calls: list[Call]) -> list[str]:
    """The statements of all pages that read a big table from end to end."""
    with ExitStack() as stack:
        site = open_site(stack, console_role(state.url), state.url, state.bootstrap_servers)
        client = site.client("owner")
        with recorded(site.parts.database) as found:
            for call in calls:
                if call.method == "GET":
                    client.get(call.address)
        return big_scans(site.parts.database, found)


if __name__ == "__main__":
    main()
