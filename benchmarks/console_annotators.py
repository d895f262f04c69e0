"""Fifty annotators at once over HTTP, for five minutes: no answer is lost, doubled or somebody else's.

    python -m benchmarks.console_annotators --annotators 50 --seconds 300

Each annotator leases several reviews ahead, answers at random about once a second, skips some, takes some
answers back, sends some requests twice, and drops some connections before the answer came. Each keeps its own
record of what it said. At the end the records are compared with the rows in the database. Whenever somebody
gets a review it is held against what all others have at that moment.
"""

import argparse
import json
import random
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from benchmarks.figures import percentile, report, report_machine
from benchmarks.services import open_services
from storage.database import Database
from storage.migrate import upgrade
from storage.settings import DatabaseSettings
from tests.console_process import ConsoleProcess, LoggedIn, console_process
from tests.integration.queued_reviews import LABELS, answers, queue_reviews

_AHEAD = 8
_HEAD_START_SECONDS = 120


@dataclass
class Holders:
    """Who has which review at present, as the annotators see it."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _of: dict[int, str] = field(default_factory=dict)
    shared: list[tuple[int, str, str]] = field(default_factory=list)

    def take(self, record: int, name: str) -> None:
        """Note that somebody has a review; if somebody else has it, that is kept as a fault."""
        with self._lock:
            other = self._of.setdefault(record, name)
            if other != name:
                self.shared.append((record, other, name))

    def drop(self, record: int) -> None:
        """Note that nobody has it; before the request that lets it go."""
        with self._lock:
            self._of.pop(record, None)


class SimulatedAnnotator:
    """One annotator with a connection and a record of all that was said.

    Args:
        user: Who.
        port: Of the console.
        holders: Of all annotators.
        pause_seconds: Between two answers, on average.
    """

    def __init__(self, user: LoggedIn, port: int, holders: Holders, pause_seconds: float) -> None:
        self.user = user
        self._port = port
        self._connection = HTTPConnection("127.0.0.1", port, timeout=30)
        self._holders = holders
        self._pause = pause_seconds
        self._random = random.Random(user.name)
        self._ahead: list[dict[str, Any]] = []
        self._last: dict[str, Any] | None = None
        self.said: list[tuple[int, str | None]] = []
        self.taken_back = 0
        self.times: list[float] = []

    def work(self, until: float) -> None:
        """Label until a moment of the monotonic clock, or until nothing is left."""
        while time.monotonic() < until and self._lease():
            time.sleep(self._random.expovariate(1 / self._pause) if self._pause else 0)
            chance = self._random.random()
            if chance < 0.05 and self._last is not None:
                self._undo(self._last)
            elif chance < 0.10:
                self._skip(self._ahead.pop(0))
            else:
                self._answer(self._ahead.pop(0))
        leases = [{"record": item["record"], "token": item["token"]} for item in self._ahead]
        for item in self._ahead:
            self._holders.drop(item["record"])
        self._send("/queue/leases/return", {"leases": leases})
        self._connection.close()

    def _lease(self) -> bool:
        if len(self._ahead) <= _AHEAD // 2:
            found = self._send("/queue/leases", {"most": _AHEAD - len(self._ahead)})
            for item in found["items"]:
                self._holders.take(item["record"], self.user.name)
                self._ahead.append(item)
        return bool(self._ahead)

    def _answer(self, item: dict[str, Any]) -> None:
        label = self._random.choice([*LABELS, None])
        action = self._action(item, kind="answer", label=label)
        self._holders.drop(item["record"])
        self._do(action)
        self.said.append((item["record"], label))
        self._last = action

    def _skip(self, item: dict[str, Any]) -> None:
        self._holders.drop(item["record"])
        self._do(self._action(item, kind="skip"))

    def _undo(self, last: dict[str, Any]) -> None:
        self._last = None
        action = self._action({**last, "token": 0}, kind="undo", undoes=last["id"])
        result = self._do(action)
        self.said.append((last["record"], None))
        self.taken_back += 1
        if result["item"] is not None:
            self._holders.take(last["record"], self.user.name)
            self._ahead.insert(0, result["item"])

    def _action(self, item: dict[str, Any], **more: Any) -> dict[str, Any]:
        made = UUID(int=self._random.getrandbits(128), version=4)
        return {"id": str(made), "record": item["record"], "token": item["token"], "seconds": 1.0, **more}

    def _do(self, action: dict[str, Any]) -> dict[str, Any]:
        body = {"actions": [action]}
        chance = self._random.random()
        if chance < 0.03:
            self._drop(body)
        started = time.monotonic()
        result: dict[str, Any] = self._send("/labels", body)["results"][0]
        self.times.append(1000 * (time.monotonic() - started))
        assert result["state"] != "refused", result
        if chance > 0.97:
            again = self._send("/labels", body)["results"][0]
            assert again["state"] == "known", again
        return result

    def _drop(self, body: dict[str, Any]) -> None:
        """Send a request and go away before it is answered; nobody knows what became of it."""
        lost = HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            lost.request("POST", "/api/v1/labels", json.dumps(body), self._headers())
        except OSError:
            pass
        finally:
            lost.close()

    def _send(self, path: str, body: dict[str, Any]) -> Any:
        """What the console answers; asked again until it does."""
        while True:
            try:
                self._connection.request("POST", f"/api/v1{path}", json.dumps(body), self._headers())
                response = self._connection.getresponse()
                raw = response.read()
            except (OSError, HTTPException):
                self._connection.close()
                time.sleep(0.2)
                continue
            if response.status == 503:
                time.sleep(0.2)
                continue
            assert response.status in {200, 204}, (response.status, raw)
            return json.loads(raw) if raw else None

    def _headers(self) -> dict[str, str]:
        name, secret = self.user.cookie
        kind = "application/json"
        return {"Cookie": f"{name}={secret}", "X-CSRF-Token": self.user.csrf, "Content-Type": kind}


def simulate(
    console: ConsoleProcess, annotators: int, seconds: float, pause_seconds: float
) -> tuple[list[SimulatedAnnotator], Holders]:
    """Let so many annotators work for so long, each in a thread; their records.

    Raises:
        AssertionError: If one of them got an answer that may not be.
    """
    holders = Holders()
    crowd = [
        SimulatedAnnotator(console.log_in(f"annotator-{number}"), console.port, holders, pause_seconds)
        for number in range(annotators)
    ]
    until = time.monotonic() + seconds
    failures: list[BaseException] = []

    def work(one: SimulatedAnnotator) -> None:
        try:
            one.work(until)
        except BaseException as err:  # noqa: BLE001  the main thread raises it
            failures.append(err)

    threads = [threading.Thread(target=work, args=(one,)) for one in crowd]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + _HEAD_START_SECONDS)
    if failures:
        raise failures[0]
    return crowd, holders


def account(database: Database, crowd: list[SimulatedAnnotator], holders: Holders) -> Counter[str]:
    """How many answers were given, lost, doubled and misattributed, and how many reviews two had at once."""
    stored: dict[str, list[tuple[int, str | None]]] = {one.user.name: [] for one in crowd}
    faults: Counter[str] = Counter(given=0, lost=0, doubled=0, misattributed=0, shared=len(holders.shared))
    for record, label, name, source in answers(database):
        if name in stored and source in {"console", "undo"}:
            stored[name].append((record, label))
        else:
            faults["misattributed"] += 1
    for one in crowd:
        said, found = Counter(one.said), Counter(stored[one.user.name])
        faults["given"] += len(one.said)
        faults["lost"] += (said - found).total()
        faults["doubled"] += (found - said).total()
        # Of one review, in the order in which they were said.
        for record in {record for record, _ in one.said}:
            in_order = [label for about, label in stored[one.user.name] if about == record]
            faults["misattributed"] += in_order != [label for about, label in one.said if about == record]
    return faults


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotators", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--pause-seconds", type=float, default=1.0)
    given = parser.parse_args()
    report_machine()
    reviews = round(1.5 * given.annotators * given.seconds / given.pause_seconds) + 500
    with open_services() as services, services.database() as url, tempfile.TemporaryDirectory() as folder:
        database = Database(DatabaseSettings(url=SecretStr(url)))
        upgrade(database)
        queue_reviews(database, reviews)
        with console_process(url, Path(folder)) as console:
            started = time.monotonic()
            crowd, holders = simulate(console, given.annotators, given.seconds, given.pause_seconds)
            seconds = time.monotonic() - started
        faults = account(database, crowd, holders)
        database.close()
    times = [took for one in crowd for took in one.times]
    report("console_annotators_actions_a_second", [len(times) / seconds], "1/s")
    report("console_annotators_request_p50_ms", [percentile(times, 0.5)], "ms")
    report("console_annotators_request_p95_ms", [percentile(times, 0.95)], "ms")
    for name, count in faults.items():
        report(f"console_annotators_answers_{name}", [count], "answers")
    assert not any(count for name, count in faults.items() if name != "given"), faults


if __name__ == "__main__":
    main()
