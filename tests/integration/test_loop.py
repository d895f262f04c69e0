"""The whole loop by its real commands, beside one worker that runs all the while and is never restarted."""

import csv
import json
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from reviewloop.cli import app
from reviews.errors import ReviewLoopError, WrongUse
from reviews.slices import SliceShares, slice_of
from tests.commands import Running
from tests.conftest import TopicFactory
from tests.integration.in_process import read_topic
from tests.integration.system import System
from tests.night_scene import FRESH, HEAD, TASK, settings_for
from tests.tiny import SENTIMENTS

Make = Callable[..., System]
Review = dict[str, Any]

PATIENCE_SECONDS = 180
SERVED = "SELECT review_id, adapter_version, label FROM scored_reviews WHERE review_id = ANY(%s)"
WARM_HEAD = {"name": "head-active", "kind": "head", "start": "active"}


@dataclass(frozen=True)
class Domain:
    """Made-up reviews whose first letters say which class is theirs.

    Attributes:
        source: Where they come from.
        letters: One for each class.
        words: What the rest of a text is drawn from.
    """

    source: str
    letters: str
    words: tuple[str, ...]

    def reviews(self, prefix: str, number: int) -> list[Review]:
        """So many, always the same for the same prefix."""
        drawn = random.Random(f"{self.source} {prefix}")
        return [
            {
                "id": f"{prefix}-{index}",
                "text": " ".join([drawn.choice(self.letters) * 3, *drawn.choices(self.words, k=3)]),
                "source": self.source,
            }
            for index in range(number)
        ]

    def truth(self, review: Review) -> str:
        return SENTIMENTS[self.letters.index(review["text"][0])]

    def turned(self, review: Review) -> str:
        """A wrong label, the same for all of a class."""
        return SENTIMENTS[(self.letters.index(review["text"][0]) + 1) % len(SENTIMENTS)]

    def described(self) -> str:
        """The section ``tasks``, with sentences about each label."""
        labels = [
            {
                "name": name,
                "description": letter * 3,
                "examples": [f"{letter * 3} {word}" for word in self.words],
            }
            for letter, name in zip(self.letters, SENTIMENTS, strict=True)
        ]
        return json.dumps([{"name": TASK, "labels": labels}])


SHOP = Domain("shop", "abc", ("dress", "skirt", "coat", "fits", "long"))
CINEMA = Domain("cinema", "pqr", ("film", "plot", "actors", "scene", "grief"))


class Loop:
    """A system whose worker runs.

    Args:
        system: Whose settings are in the environment of this process too.
        worker: The process of ``reviewloop consume``.
    """

    def __init__(self, system: System, worker: Running) -> None:
        self.system = system
        self._worker = worker
        self._probes = count()

    def wait_until(self, is_so: Callable[[], bool], wanted: str) -> None:
        """Wait for something that the worker, or a command beside it, brings about."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            log = self.system.folder / "worker.log"
            assert self._worker.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"{wanted}: {log.read_text()}"
            time.sleep(0.1)

    def score(self, reviews: Sequence[Review]) -> dict[str, tuple[str, str]]:
        """Publish reviews and wait for their rows: adapter version and label by review id."""
        ids = [review["id"] for review in reviews]
        self.system.publish(list(reviews))
        self.wait_until(lambda: len(self.system.sql(SERVED, ids)) == len(ids), f"{ids[0]}… scored")
        return {name: (version, label) for name, version, label in self.system.sql(SERVED, ids)}

    def wait_for_swap(self, version: str) -> None:
        """Publish reviews one by one until the worker scores one with this adapter."""

        def is_swapped() -> bool:
            probe = SHOP.reviews(f"probe-{next(self._probes)}", 1)
            return {used for used, _ in self.score(probe).values()} == {version}

        self.wait_until(is_swapped, f"the worker swaps to {version}")

    def import_labels(self, reviews: Sequence[Review], say: Callable[[Review], str]) -> str:
        file = self.system.folder / "labels.csv"
        with file.open("w", newline="") as opened:
            rows = csv.writer(opened)
            rows.writerow(["review_id", "label"])
            rows.writerows((review["id"], say(review)) for review in reviews)
        return _run("label", "import", file, "--annotator", "ann")

    def night(self) -> dict[str, Any]:
        """What ``trainer run`` did."""
        run: dict[str, Any] = json.loads(self.system.run("trainer", "run", "--format", "json"))
        return run

    def active(self) -> str:
        """What serves by the database."""
        ((version,),) = self.system.sql(
            "SELECT a.version FROM adapter_activation s JOIN adapter a ON a.id = s.adapter_id "
            "WHERE s.task = %s ORDER BY s.id DESC LIMIT 1",
            TASK,
        )
        return str(version)

    def stop(self) -> None:
        """End the worker, which is still the one that was started."""
        assert self._worker.poll() is None
        self._worker.send_signal(signal.SIGTERM)
        assert self._worker.wait(timeout=PATIENCE_SECONDS) == 0


@pytest.fixture
def begin(
    system: Make, tiny_adapters: tuple[Path, Path], topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Loop]]:
    """Starts a worker with an adapter; unless told otherwise, with a random one, which knows nothing."""
    workers: list[Running] = []

    def begin(
        recipes: Sequence[dict[str, Any]] = (FRESH,),
        first: Sequence[object] = ("add", tiny_adapters[0]),
        **more: str,
    ) -> Loop:
        night = {"min_new_labels": 0, "poll_seconds": 0.5, "recipes": recipes}
        trainer = settings_for("", Path(), Path(), **night)["trainer"]
        made = system(
            partitions=2,
            REVIEWLOOP_CLASSIFIER__DEVICE="cpu",
            REVIEWLOOP_CLASSIFIER__PRECISION="fp32",
            REVIEWLOOP_TRAINER=json.dumps(trainer),
            REVIEWLOOP_ALERTS__TOPIC=topic(prefix="alerts"),
            OMP_NUM_THREADS="1",
            **more,
        )
        made.environment["REVIEWLOOP_KAFKA__LABELS_TOPIC"] = topic(prefix="labels")
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        _run("adapters", *first, "--activate")
        workers.append(made.start("consume"))
        return Loop(made, workers[-1])

    yield begin
    for worker in workers:
        worker.kill()
        worker.wait()


def _run(*arguments: object, typed: str | None = None) -> str:
    """What a command of a moment prints; in this process, which has imported everything already."""
    result = CliRunner().invoke(app, list(map(str, arguments)), input=typed)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def _label_at_the_terminal(loop: Loop, reviews: dict[str, Review]) -> set[str]:
    """Answer all that is queued, through a pipe; the ids of the reviews."""
    queue = json.loads(_run("label", "queue", "--limit", 1000, "--format", "json"))
    asked = [item["review_id"] for item in queue["top"]]
    typed = "".join(f"{SHOP.truth(reviews[name])}\n" for name in asked)
    _run("label", "--annotator", "ann", typed=typed)
    return set(asked)


def _label_by_topic(loop: Loop, reviews: Sequence[Review]) -> None:
    """Publish labels and wait until the worker stored them."""
    now = datetime.now(UTC).isoformat()
    messages: list[dict[str, Any] | bytes] = [
        {"review_id": review["id"], "label": SHOP.truth(review), "annotator": "ann", "labelled_at": now}
        for review in reviews
    ]
    made = loop.system
    System(made.environment, made.environment["REVIEWLOOP_KAFKA__LABELS_TOPIC"], made.folder).publish(
        messages
    )
    stored = "SELECT count(*) FROM label WHERE source = 'topic'"
    loop.wait_until(lambda: made.sql(stored) == [(len(reviews),)], "labels of the topic stored")


def test_a_night_end_to_end_its_promotion_a_refusal_and_a_rollback_reach_one_worker(
    begin: Callable[..., Loop],
) -> None:
    loop = begin()
    made, first = loop.system, loop.active()
    reviews = {review["id"]: review for review in SHOP.reviews("early", 280)}
    assert {used for used, _ in loop.score(list(reviews.values())).values()} == {first}

    cold = loop.night()
    assert cold["state"] == "waiting"
    assert "more labelled reviews are needed to train on" in cold["verdict"]["reasons"][0]
    queued = {name for (name,) in made.sql("SELECT review_id FROM label_task JOIN review USING (record)")}
    assert len(queued) == 15  # ten uncertain ones and five of the audit slice

    assert _label_at_the_terminal(loop, reviews) == queued
    others = [review for name, review in reviews.items() if name not in queued]
    _label_by_topic(loop, others[:120])
    assert loop.import_labels(others[120:], SHOP.truth).startswith(f"Imported {len(others) - 120} labels")
    assert made.sql("SELECT source, count(*) FROM label GROUP BY 1 ORDER BY 1") == [
        ("import", len(others) - 120), ("terminal", 15), ("topic", 120),
    ]  # fmt: skip
    assert made.sql("SELECT DISTINCT state FROM label_task") == [("done",)]

    good = loop.night()
    second = good["candidate_adapter"]
    assert (good["state"], loop.active()) == ("promoted", second)
    assert second != first
    manifest = good["manifest"]
    assert sum((manifest["rows"] | manifest["left_out"]).values()) == 280
    loop.wait_for_swap(second)
    fresh = SHOP.reviews("fresh", 40)
    said = loop.score(fresh)
    assert {used for used, _ in said.values()} == {second}
    assert _share_right(SHOP, fresh, said) > 0.9

    learned_from = [review for review in reviews.values() if not _is_held_out(review)]
    loop.import_labels(learned_from, SHOP.turned)
    bad = loop.night()
    assert (bad["state"], loop.active()) == ("kept", second)
    assert "improvement" in [check["name"] for check in bad["verdict"]["checks"] if not check["passed"]]
    assert bad["verdict"]["reasons"]
    assert bad["metrics"]["candidate"]["accuracy"] < bad["metrics"]["active"]["accuracy"] - 0.3
    assert {used for used, _ in loop.score(SHOP.reviews("kept", 20)).values()} == {second}

    _run("adapters", "rollback", "--expect", second, "--reason", "customers complain")
    assert loop.active() == first
    loop.wait_for_swap(first)
    assert {used for used, _ in loop.score(SHOP.reviews("late", 20)).values()} == {first}
    loop.stop()


def test_the_first_reviews_are_scored_by_descriptions_of_labels_until_an_adapter_does_better(
    begin: Callable[..., Loop],
) -> None:
    by_descriptions = ("zero-shot", "--unchecked-base")  # a random base tells no sentences apart
    settings = {"REVIEWLOOP_TASKS": SHOP.described(), "REVIEWLOOP_TRAINER__SELECTION__FIRST_LABELS": "100"}
    loop = begin([WARM_HEAD, FRESH], by_descriptions, **settings)
    made, zero_shot = loop.system, loop.active()
    assert zero_shot.startswith("sentiment-zero-shot-")
    reviews = {review["id"]: review for review in SHOP.reviews("first", 280)}
    said = loop.score(list(reviews.values()))
    assert {used for used, _ in said.values()} == {zero_shot}
    assert {row["adapter_version"] for row in _listed("query")} == {zero_shot}
    assert _origins() == {zero_shot: "zero-shot"}

    assert loop.night()["state"] == "waiting"
    standardised = loop.active()
    assert standardised != zero_shot, "it was made on far fewer reviews than are stored"
    ways = "SELECT DISTINCT strategy FROM label_task WHERE reason <> 'audit'"
    assert made.sql(ways) == [("label-descriptions",)]
    queued = _label_at_the_terminal(loop, reviews)
    assert len(queued) == 15
    loop.import_labels([review for name, review in reviews.items() if name not in queued], SHOP.truth)

    good = loop.night()
    first = good["candidate_adapter"]
    assert (good["state"], good["active_adapter"]) == ("promoted", standardised), good["verdict"]
    before, after = (good["metrics"][side]["accuracy"] for side in ("active", "candidate"))
    assert before < 0.9 < after, "the gate measured both on the same rows"
    assert "improvement" in [check["name"] for check in good["verdict"]["checks"]]
    assert "head-active" in [one["name"] for one in good["metrics"]["recipes"]], "descriptions were built on"
    assert _origins() == {zero_shot: "zero-shot", standardised: "zero-shot", first: "trained"}
    loop.wait_for_swap(first)

    with pytest.raises(WrongUse, match=f"{first}, the active adapter .* was fitted to labelled reviews"):
        _run("adapters", *by_descriptions, "--activate")
    with pytest.raises(ReviewLoopError, match=f"{standardised} is worse than {first}"):
        _run("adapters", "promote", standardised, "--reason", "by accident")
    again = loop.night()
    assert loop.active() in {first, again["candidate_adapter"]}
    fresh = SHOP.reviews("fresh", 40)
    assert {used for used, _ in loop.score(fresh).values()} == {loop.active()}
    loop.stop()


def test_films_after_clothes_raise_an_alert_and_a_run_that_promotes_what_knows_films(
    begin: Callable[..., Loop],
) -> None:
    loop = begin(REVIEWLOOP_DRIFT__REFERENCE_REVIEWS="100", REVIEWLOOP_DRIFT__LEAST_REVIEWS="100")
    made = loop.system
    clothes = SHOP.reviews("clothes", 240)
    loop.score(clothes)
    loop.import_labels(clothes, SHOP.truth)
    first = loop.night()
    assert first["state"] == "promoted", first["verdict"]["reasons"]
    loop.wait_for_swap(first["candidate_adapter"])
    loop.score(SHOP.reviews("reference", 120))
    loop.score(SHOP.reviews("usual", 120))
    assert _drift()["verdict"] == "stable"

    films = CINEMA.reviews("films", 240)
    before = _share_right(CINEMA, films, loop.score(films))
    report = _drift()
    assert report["verdict"] == "drift"
    assert report["attribution"]["sources"][0]["name"] == "cinema"
    (alert,) = read_topic(made.bootstrap_servers, made.environment["REVIEWLOOP_ALERTS__TOPIC"], 1)
    assert alert.key.decode() == f"drift-report-{report['id']}"
    asked = (
        "SELECT count(*) FROM label_task JOIN review USING (record) WHERE reason = 'drift' AND source = %s"
    )
    assert made.sql(asked, "cinema")[0][0] >= 40, "what is new is queued to be labelled"

    loop.import_labels(films, CINEMA.truth)
    second = _run_of_the_schedule(loop)
    assert second["trigger"] == "drift"
    assert second["state"] == "promoted", second["verdict"]["reasons"]
    assert second["metrics"]["candidate"]["accuracy"] > second["metrics"]["active"]["accuracy"]
    loop.wait_for_swap(second["candidate_adapter"])
    unseen = CINEMA.reviews("unseen", 60)
    assert _share_right(CINEMA, unseen, loop.score(unseen)) > max(0.9, before + 0.2)
    worn = SHOP.reviews("worn", 60)
    assert _share_right(SHOP, worn, loop.score(worn)) > 0.9, "clothes are not forgotten"
    loop.stop()


def test_a_head_alone_wins_a_night_and_serves_at_the_worker(
    begin: Callable[..., Loop],
) -> None:
    hopeless = FRESH | {"learning_rate": 1e-7}
    loop = begin([HEAD, hopeless])
    clothes = SHOP.reviews("clothes", 240)
    loop.score(clothes)
    loop.import_labels(clothes, SHOP.truth)
    first = loop.night()
    assert (first["state"], first["metrics"]["chosen"]) == ("promoted", "head-base"), first["verdict"]
    assert [one["kind"] for one in first["metrics"]["recipes"]] == ["head", "lora"]
    assert "head-base" in _run("trainer", "show", first["id"])
    loop.wait_for_swap(first["candidate_adapter"])
    fresh = SHOP.reviews("fresh", 60)
    assert _share_right(SHOP, fresh, loop.score(fresh)) > 0.8
    loop.stop()


def _is_held_out(review: Review) -> bool:
    return slice_of(review["id"], SliceShares()) in {"test", "audit"}


def _share_right(domain: Domain, reviews: Sequence[Review], said: dict[str, tuple[str, str]]) -> float:
    return sum(said[review["id"]][1] == domain.truth(review) for review in reviews) / len(reviews)


def _listed(*arguments: object) -> list[dict[str, Any]]:
    """The rows that a command prints."""
    return [json.loads(line) for line in _run(*arguments, "--format", "jsonl").splitlines()]


def _origins() -> dict[str, str]:
    """Where each adapter comes from, as ``adapters list`` says."""
    return {row["version"]: row["origin"] for row in _listed("adapters", "list")}


def _drift() -> dict[str, Any]:
    """The report of all that was scored behind the reference; of drift everybody is told."""
    report: dict[str, Any] = json.loads(_run("drift", "report", "--alert", "--format", "json"))
    return report


def _run_of_the_schedule(loop: Loop) -> dict[str, Any]:
    """Start the schedule, wait for the run that it starts to end, and end it."""
    made = loop.system
    ended = "SELECT id FROM training_run WHERE stage = 'done' ORDER BY id"
    before = made.sql(ended)
    schedule = made.start("trainer", "schedule")
    try:
        loop.wait_until(lambda: made.sql(ended) != before, "the schedule's run ends")
        schedule.send_signal(signal.SIGTERM)
        assert schedule.wait(timeout=PATIENCE_SECONDS) == 0
    finally:
        schedule.kill()
        schedule.wait()
    run: dict[str, Any] = json.loads(made.run("trainer", "show", made.sql(ended)[-1][0], "--format", "json"))
    return run
