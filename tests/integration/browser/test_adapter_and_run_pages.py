"""Adapters and training runs in a browser: decisions reach a running worker, uploads, and live progress."""

import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page

from classifier.adapters.manifest import describe_adapter, read_files
from reviewloop.settings import Settings
from reviewloop.wiring.workers import open_worker
from reviewloop.wiring.zero_shot import activate_zero_shot, make_zero_shot
from reviews.task import LabelSettings, TaskSettings
from storage.adapters.registry import AdapterStore
from storage.learning.leases import LeaseStore, training_lease
from storage.learning.run_requests import RunRequestStore
from storage.learning.runs import TrainingRunStore
from tests.browser.visits import Visits, accessibility_violations
from tests.integration.browser.conftest import Served
from tests.integration.system import System
from tests.night_scene import NightScene
from tests.tiny import SENTIMENTS
from trainer.fitting.zero_shot import ReferenceTexts

TASK = "sentiment"


@pytest.fixture
def versions(served: Served, tiny_adapters: tuple[Path, Path]) -> list[str]:
    """Two registered adapters, of which the first is active."""
    store, found = AdapterStore(served.site.admin), []
    for directory in tiny_adapters:
        manifest, files = read_files(directory)
        store.add(describe_adapter(manifest), files)
        found.append(manifest.version)
    store.activate(store.find(found[0]), expected=None, decided_by="test", reason="begin")
    return found


@contextmanager
def _worker(made: System) -> Iterator[None]:
    """A real worker of the system, at work in a thread."""
    environment = made.environment
    settings = Settings(
        kafka={
            "bootstrap_servers": made.bootstrap_servers,
            "reviews_topic": made.topic,
            "group_id": environment["REVIEWLOOP_KAFKA__GROUP_ID"],
        },
        database={"url": environment["REVIEWLOOP_DATABASE__URL"]},
        classifier={
            "base_model": environment["REVIEWLOOP_CLASSIFIER__BASE_MODEL"], "device": "cpu", "threads": 1,
        },
        consumer={
            "adapter_cache": environment["REVIEWLOOP_CONSUMER__ADAPTER_CACHE"], "adapter_poll_seconds": 0.1,
        },
    )  # fmt: skip
    stopping = threading.Event()
    with open_worker(settings, stopping) as worker:
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join(60)


@pytest.fixture
def scene(database: str, tiny_model: Path, tmp_path: Path) -> Iterator[NightScene]:
    """A zero-shot adapter has scored 240 reviews."""
    made = NightScene(database, tiny_model, tmp_path)
    labels = [
        LabelSettings(name=name, description=f"{letter * 3} it is", examples=(letter * 6,))
        for letter, name in zip("abc", SENTIMENTS, strict=True)
    ]
    settings = made.settings.model_copy(update={"tasks": (TaskSettings(name=TASK, labels=tuple(labels)),)})
    sample = ReferenceTexts([letter * 3 + number * "x" for letter in "abc" for number in range(20)], "a test")
    adapter = make_zero_shot(settings, made.database, TASK, sample, check_base=False)
    activate_zero_shot(made.adapters, adapter, None, "test", "nothing is labelled yet")
    made.label(made.publish(240))
    yield made
    made.close()


def _decide(page: Page, button: str, reason: str) -> None:
    """Open a decision, write the reason, and send it."""
    page.locator("summary", has_text=button).first.click()
    sheet = page.locator("details.decision[open]")
    sheet.get_by_label("Reason").fill(reason)
    assert accessibility_violations(page) == []
    sheet.get_by_role("button", name=button).click()


def _scored_by(made: System, review: str) -> str:
    """The adapter that a worker scores a review with; published again until one has."""
    for number in range(600):
        rows = made.sql("SELECT adapter_version FROM scored_reviews WHERE review_id = %s", review)
        if rows:
            return str(rows[0][0])
        if number == 0:
            made.publish([{"id": review, "text": "Lovely fabric, but it shrank."}])
        threading.Event().wait(0.1)
    raise AssertionError(f"{review} was not scored")


def _scored_by_at_last(made: System, name: str, version: str) -> bool:
    """Whether a worker comes to score with an adapter: it looks for decisions now and then."""
    return any(_scored_by(made, f"{name}-{number}") == version for number in range(60))


def test_promote_and_roll_back_reach_a_running_worker_and_who_was_slower_hears_it(
    system: Callable[..., System], served: Served, visits: Visits, versions: list[str]
) -> None:
    made, (first, second) = system(partitions=1), versions
    page, late = served.page("operator", "olga"), served.page("operator", "pavel")
    late.goto(f"/adapters/{second}")
    with _worker(made):
        assert _scored_by(made, "before") == first
        page.goto("/adapters")
        page.get_by_role("link", name=second, exact=True).first.click()
        _decide(page, "Promote", "it is newer")
        page.get_by_text(f"{second} is active now").first.wait_for()
        assert _scored_by_at_last(made, "promoted", second)

        visits.expect_error("409")
        _decide(late, "Promote", "me too")
        text = late.get_by_role("alert").inner_text()
        assert f"olga let {second} take over the task 'sentiment'" in text
        assert "it is newer" in text

        _decide(page, "Roll back", "it was no better")
        page.get_by_text(f"{first} is active again").first.wait_for()
        assert _scored_by_at_last(made, "back", first)
    log = served.site.sql("SELECT actor, action, reason, outcome FROM audit_log ORDER BY id")
    assert [tuple(row) for row in log] == [
        ("olga", "adapter.promote", "it is newer", "done"),
        ("pavel", "adapter.promote", "me too", "refused"),
        ("olga", "adapter.rollback", "it was no better", "done"),
    ]


def test_a_zip_file_is_uploaded_and_put_on_trial(
    served: Served, versions: list[str], tiny_adapters: tuple[Path, Path]
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as writer:
        for name, content in read_files(tiny_adapters[1])[1].items():
            writer.writestr(name, content)
    page = served.page("operator")
    page.goto("/adapters")
    page.locator("summary", has_text="Upload").click()
    upload = {"name": "mine.zip", "mimeType": "application/zip", "buffer": packed.getvalue()}
    page.get_by_label("Zip file").set_input_files(upload)
    page.locator("details.decision[open]").get_by_role("button", name="Upload").click()
    page.get_by_text(f"{versions[1]} was registered already").first.wait_for()
    _decide(page, "Start a trial", "to see how it differs")
    page.get_by_text(f"{versions[1]} scores 10% of the reviews, unseen.").first.wait_for()
    _decide(page, "Stop the trial", "seen enough")
    page.get_by_text(f"{versions[1]} is on trial no more.").first.wait_for()


def test_a_run_is_asked_for_and_its_progress_is_seen_without_loading_the_page_again(served: Served) -> None:
    page, admin = served.page("operator", "olga"), served.site.admin
    page.goto("/runs")
    _decide(page, "Start a run", "the labels are corrected")
    page.get_by_text("olga asked for a run: the labels are corrected").wait_for()
    asked = RunRequestStore(admin).take((TASK,), "host:3")
    lease = LeaseStore(admin).take(training_lease(TASK), "host:3", 60)
    assert asked is not None
    assert lease is not None
    runs = TrainingRunStore(admin)
    number = runs.start(TASK, "requested", lease, {}, None, request=asked.id)
    runs.reach(number, lease, "fit")
    page.locator("[aria-current=step]", has_text="Fit candidates").wait_for()
    page.get_by_role("link", name=f"Run {number}").click()
    runs.decide(
        number, lease, "waiting", verdict={"promote": False, "reasons": ["40 more labels are needed."]}
    )
    runs.close(number, lease)
    page.get_by_text("40 more labels are needed.").wait_for()
    assert "olga, the labels are corrected" in page.locator("main").inner_text()
    assert accessibility_violations(page) == []


def test_a_zero_shot_adapter_is_called_so_on_every_page_until_and_after_it_is_replaced(
    served: Served, scene: NightScene
) -> None:
    page, zero_shot = served.page("operator", "olga"), scene.adapters.active(TASK).version
    assert "-zero-shot-" in zero_shot

    def shown(address: str, *words: str) -> None:
        page.goto(address)
        main = page.locator("main").inner_text()
        assert [word for word in words if word not in main] == [], main
        assert accessibility_violations(page) == []

    shown("/", zero_shot, "zero-shot", "it has learned from no labelled review yet", "Answers to the queue")
    shown("/adapters", zero_shot, "zero-shot", "label descriptions")
    about = (
        "no labelled review made it",
        "Texts about the labels",
        "aaa it is aaaaaa",
        "on 60 reviews: a test",
    )
    shown(f"/adapters/{zero_shot}", "zero-shot", *about, "no labelled review was there when it was made")
    shown("/reviews/one?id=review-0&task=sentiment", "What adapters say", zero_shot)

    run = scene.night()
    assert run.state == "promoted", run.verdict
    shown(f"/runs/{run.id}", "Active when it began", zero_shot, "improvement", run.candidate_adapter)
    shown("/", run.candidate_adapter)
    assert "it has learned from no labelled review yet" not in page.locator("main").inner_text()
    shown(f"/adapters/{zero_shot}", "made from descriptions of its labels alone")
    page.locator("summary", has_text="Promote").first.click()
    sheet = page.locator("details.decision[open]")
    assert not sheet.get_by_label("It is worse by that. Promote it all the same.").is_checked()
