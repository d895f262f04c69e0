"""What one open overview costs the stream: its throughput with the page open, beside that without it.

    python -m benchmarks.console_overview --state DIR

A worker with the null classifier reads a topic into a copy of the kept database, in turns with and without a
console whose overview asks for its numbers every five seconds. Each topic is read once into each of two
copies, so that both grow alike. A model costs a stream a hundred times as much as all else, so that the share
of the page is smaller with one.
"""

import http.client
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext

from sqlalchemy import make_url

from benchmarks.console_state import ConsoleState, opened_state, parse_arguments, running_console
from benchmarks.figures import report, report_machine
from benchmarks.made_up import made_up_messages
from benchmarks.null_worker import NULL_ADAPTER
from benchmarks.services import Services, connect
from benchmarks.stream import environment, fill, open_database, run_null_worker
from reviews.account import Role
from storage.adapters.registry import AdapterStore
from tests.console_process import ConsoleProcess

REVIEWS = 400_000
REPETITIONS = 5
_POLL_SECONDS = 5.0
_WARM_SECONDS = 30.0
_ADDRESS = "/overview/live"


def main() -> None:
    asked = parse_arguments(__doc__)
    report_machine()
    open_, shut = [], []
    with opened_state(asked.state, asked.reviews) as state, _copies(state) as (first, second):
        services = Services(state.bootstrap_servers, state.server)
        for repetition in range(asked.repetitions or REPETITIONS):
            with services.topic() as topic:
                fill(state.bootstrap_servers, topic, made_up_messages(REVIEWS, seed=repetition))
                turns = [(first, open_, _overview(state, first)), (second, shut, nullcontext())]
                for url, rates, page in turns if repetition % 2 else reversed(turns):
                    with page:
                        rates.append(_rate(state, url, topic))
    report("console_overview stream with an open overview", open_, "reviews/s")
    report("console_overview stream without", shut, "reviews/s")
    report("console_overview with to without", [a / b for a, b in zip(open_, shut, strict=True)], "ratio")


def _rate(state: ConsoleState, url: str, topic: str) -> float:
    with connect(url) as connection:
        connection.execute("CHECKPOINT")  # neither pays for what was written before
    settings = environment(state.bootstrap_servers, url, topic, secrets.token_hex(4))
    found = run_null_worker(settings, REVIEWS)
    return float(found["reviews"] / found["seconds"])


@contextmanager
def _copies(state: ConsoleState) -> Iterator[tuple[str, str]]:
    """Two copies of the kept database, in which the null classifier's adapter is active."""
    names = [f"overview_{secrets.token_hex(4)}" for _ in range(2)]
    urls = [make_url(state.url).set(database=name).render_as_string(hide_password=False) for name in names]
    with connect(state.server) as admin:
        try:
            for name, url in zip(names, urls, strict=True):
                admin.execute(f"CREATE DATABASE {name} TEMPLATE {make_url(state.url).database}")
                _activate_null(url)
            yield urls[0], urls[1]
        finally:
            for name in names:
                admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _activate_null(url: str) -> None:
    with closing(open_database(url)) as database:
        store = AdapterStore(database)
        store.add(NULL_ADAPTER, {"adapter_config.json": b"{}"})
        now = store.active(NULL_ADAPTER.task)
        store.activate(NULL_ADAPTER, expected=now, decided_by="benchmark", reason="it costs nothing")


@contextmanager
def _overview(state: ConsoleState, url: str) -> Iterator[None]:
    """A console, and a page that asks it as the overview does."""
    with running_console(state, url) as console:
        done = threading.Event()
        page = threading.Thread(target=_poll, args=(console, done))
        page.start()
        try:
            time.sleep(_WARM_SECONDS)  # one that has just started imports libraries and draws its charts
            yield
        finally:
            done.set()
            page.join()


def _poll(console: ConsoleProcess, done: threading.Event) -> None:
    user = console.log_in("olga", Role.OWNER)
    headers = {"Cookie": "=".join(user.cookie), "X-Fragment": "1"}
    with closing(http.client.HTTPConnection("127.0.0.1", console.port, timeout=60)) as connection:
        address = "/"
        while True:
            connection.request("GET", address, headers=headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != http.client.OK:
                raise RuntimeError(f"The overview was answered with status {answer.status}.")
            address = _ADDRESS
            if done.wait(_POLL_SECONDS):
                return


if __name__ == "__main__":
    main()
