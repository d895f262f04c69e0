"""From key press to the next review on screen, in a real Chromium, with latency added to every request.

    python -m benchmarks.console_label --presses 200

A key is pressed every 250 ms, as fast annotators do at best. The time is taken in the page: from the key's
own time stamp to the frame in which the next review is painted. Chromium adds 100 ms to every request of the
page. At the end the rows in the database are compared with the keys.
"""

import argparse
import tempfile
from pathlib import Path

from playwright.sync_api import Page
from pydantic import SecretStr

from benchmarks.figures import percentile, report, report_machine
from benchmarks.services import open_services
from storage.database import Database
from storage.migrate import upgrade
from storage.settings import DatabaseSettings
from tests.browser.chromium import find_chromium
from tests.browser.visits import Visits, opened_chromium
from tests.console_process import ConsoleProcess, console_process
from tests.integration.queued_reviews import answers, queue_reviews

_PAUSE_MS = 250
_MEASURE = """
window.pressed = [];
document.addEventListener("keydown", (event) => { window.pressedAt = event.timeStamp; }, true);
document.addEventListener("DOMContentLoaded", () => {
  new MutationObserver(() => {
    const began = window.pressedAt;
    // The first frame after the change is drawn when the next one begins.
    if (began) requestAnimationFrame(() => setTimeout(() => window.pressed.push(performance.now() - began)));
    window.pressedAt = undefined;
  }).observe(document.getElementById("item"), { attributeFilter: ["data-record"] });
});
"""


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presses", type=int, default=200)
    parser.add_argument("--latency-ms", type=float, default=100)
    given = parser.parse_args()
    report_machine()
    with open_services() as services, services.database() as url, tempfile.TemporaryDirectory() as folder:
        database = Database(DatabaseSettings(url=SecretStr(url)))
        upgrade(database)
        records = queue_reviews(database, given.presses + 20)
        with console_process(url, Path(folder)) as console:
            times = _press_keys(console, given.presses, given.latency_ms)
        stored = [(record, label) for record, label, _, _ in answers(database)]
        database.close()
    assert stored == [(record, "negative") for record in records[: given.presses]], "answers differ from keys"
    assert len(times) == given.presses
    report("console_label_key_to_next_p50_ms", [percentile(times, 0.5)], "ms")
    report("console_label_key_to_next_p95_ms", [percentile(times, 0.95)], "ms")
    report("console_label_key_to_next_max_ms", [max(times)], "ms")


def _press_keys(console: ConsoleProcess, presses: int, latency_ms: float) -> list[float]:
    user = console.log_in("ann")
    with opened_chromium(find_chromium()) as browser:
        visits = Visits(browser)
        context = visits.context()
        context.add_cookies([{"name": user.cookie[0], "value": user.cookie[1], "url": console.address}])
        context.add_init_script(_MEASURE)
        page = context.new_page()
        slow = {"offline": False, "latency": latency_ms, "downloadThroughput": -1, "uploadThroughput": -1}
        context.new_cdp_session(page).send("Network.emulateNetworkConditions", slow)
        page.goto(f"{console.address}/label")
        page.locator("#item:not(.empty)").wait_for()
        for _ in range(presses):
            page.keyboard.press("1")
            page.wait_for_timeout(_PAUSE_MS)
        times = _saved(page)
        visits.close()
    return times


def _saved(page: Page) -> list[float]:
    """The times in milliseconds, when nothing is left to be saved."""
    while page.evaluate("Object.keys(localStorage).length"):
        page.wait_for_timeout(100)
    times: list[float] = page.evaluate("window.pressed")
    return times


if __name__ == "__main__":
    main()
