"""Pictures of all pages for the documentation, from the bundled reviews as the bundled adapter scores them.

    python -m benchmarks.console_screenshots --state DIR --into docs/console

The database is made once in the state's folder. Pictures are as large as the window, with few colours.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kafka import KafkaProducer
from PIL import Image
from playwright.sync_api import BrowserContext, Page

from benchmarks.console_paths import reading_addresses
from benchmarks.console_state import ConsoleState, opened_state, running_console
from benchmarks.services import connect
from benchmarks.stream import environment, run_command
from broker.settings import KafkaSettings
from broker.topics import create_topics
from reviewloop.demo.sample import REVIEWS_FILE
from reviews.account import Role
from tests.browser.chromium import find_chromium
from tests.browser.visits import WIDTHS, Visits, opened_chromium
from tests.console_process import ConsoleProcess

REVIEWS, DAYS, DENSITY, LETTERS = 12_000, 30, 5, 60
ROOT = Path(__file__).parents[1]
_COLOURS = 128
_FOREIGN = "shop-reviews"
_ROWS, _PATIENCE_SECONDS, _SKIPPED = 30, 180, 20
_TEXT = "This jacket is unbelievably warm, but the zip broke after one week. I still love it!"
# The name of each picture, and the route that it shows.
_PICTURES: Mapping[str, str] = {
    "overview": "/",
    "reviews": "/reviews",
    "review": "/reviews/one",
    "label": "/label",
    "adapters": "/adapters",
    "adapter-comparison": "/adapters/compare",
    "runs": "/runs",
    "run": "/runs/{number}",
    "drift": "/drift",
    "drift-report": "/drift/{report_id}",
    "dead-letters": "/dead-letters",
    "dead-letter": "/dead-letters/{record}",
    "try-it": "/try",
    "people": "/people",
    "audit-log": "/audit-log",
    "erasure": "/erasures/{number}",
    "sources": "/sources",
}


def main() -> None:
    asked = _parse()
    asked.into.mkdir(parents=True, exist_ok=True)
    with (
        opened_state(asked.state, REVIEWS, DAYS, density=DENSITY, letters=LETTERS) as state,
        _stream(state),
        running_console(state) as console,
    ):
        with connect(state.url) as connection:
            found = {visited.route: visited.address for visited in reversed(reading_addresses(connection))}
        with opened_chromium(find_chromium()) as browser, ExitStack() as stack:
            visits = Visits(browser)
            stack.callback(visits.close)
            for width in WIDTHS:
                page = _logged_in(visits.context(width=width, base_url=console.address), console).new_page()
                page.goto(found["/try"])  # begins to load the adapter
                for name in asked.pictures or _PICTURES:
                    _show(page, _PICTURES[name], found)
                    _keep(page, asked.into / f"{name}-{WIDTHS[width]}.png")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder of services and database")
    parser.add_argument("--into", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help=f"one of: {', '.join(_PICTURES)}")
    return parser.parse_args()


@contextmanager
def _stream(state: ConsoleState) -> Iterator[None]:
    """A worker, and a publisher of the bundled reviews, three a second."""
    settings = environment(
        state.bootstrap_servers, state.url, "reviews", "pictures", HF_HUB_OFFLINE="1",
        REVIEWLOOP_TRAINER__NIGHTLY__MIN_NEW_LABELS="1000000",
        REVIEWLOOP_TRAINER__NIGHTLY__RUN_ON_DRIFT="false",
    )  # fmt: skip
    run_command(settings, "topics", "create")
    publish_foreign(state.bootstrap_servers)
    command = [sys.executable, "-m", "reviewloop"]
    parts = (["consume"], ["trainer", "schedule"], ["publish", REVIEWS_FILE, "--rate", "2"])
    running = [
        subprocess.Popen([*command, *arguments], env=settings, stdout=subprocess.DEVNULL, cwd=ROOT)
        for arguments in parts
    ]
    try:
        _wait_for_rows(state)
        yield
    finally:
        for process in running:
            process.terminate()
            process.wait(60)


def _wait_for_rows(state: ConsoleState) -> None:
    """Until the worker, which loads its model first, has kept up for a while."""
    query = "SELECT count(*) FROM review WHERE received_at > now() - interval '20 s'"
    with connect(state.url) as connection:
        for _ in range(_PATIENCE_SECONDS):
            row = connection.execute(query).fetchone()
            if row and int(str(row[0])) >= _ROWS:
                return
            time.sleep(1)
    raise RuntimeError("The worker stores nothing; its log stands above.")


def _logged_in(context: BrowserContext, console: ConsoleProcess) -> BrowserContext:
    user = console.log_in("olga", Role.OWNER)
    context.add_cookies([{"name": user.cookie[0], "value": user.cookie[1], "url": console.address}])
    return context


def _show(page: Page, route: str, found: Mapping[str, str]) -> None:
    page.goto(found[route])
    if route == "/":
        page.get_by_text("Is being computed").first.wait_for(state="detached", timeout=120_000)
    if route == "/try":
        page.get_by_text("Answers come from").wait_for(timeout=120_000)
        page.get_by_label("Text of a review").fill(_TEXT)
        page.get_by_role("button", name="Classify").click()
        page.get_by_text("What the model read").wait_for()
    if route == "/sources":
        try_source(page)
    if route == "/label":
        page.locator("#item:not(.empty)").wait_for()
        for _ in range(_SKIPPED):  # to a text that most readers of the documentation can read
            if page.locator("#item").inner_text().replace("·", "").isascii():
                break
            page.keyboard.press("s")
            page.wait_for_timeout(500)
    page.wait_for_load_state("networkidle")


def publish_foreign(bootstrap_servers: str) -> None:
    """Reviews as a shop may have them, to be tried as a source."""
    settings = KafkaSettings(bootstrap_servers=bootstrap_servers)
    create_topics(settings, [_FOREIGN], partitions=1, replication_factor=1)
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers)
    with REVIEWS_FILE.open(encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if row["text"].isascii()]
    for number, row in enumerate(rows[:9]):
        value = {
            "order": f"A{4711 + number}", "body": row["text"], "item": row["product"], "rating": row["stars"]
        }  # fmt: skip
        producer.send(_FOREIGN, json.dumps(value).encode())
    producer.flush()
    producer.close()


def try_source(page: Page) -> None:
    """Try a topic, then the section that is proposed."""
    for _ in range(2):
        page.get_by_role("textbox", name="Topic").fill(_FOREIGN)
        page.get_by_role("button", name="Try").click()
        page.get_by_role("region", name="What becomes of each record").wait_for(timeout=60_000)


def _keep(page: Page, file: Path) -> None:
    """The window as it is; few colours make a picture of text a third as large."""
    page.screenshot(path=file)
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    main()
