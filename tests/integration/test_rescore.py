"""Rescoring by the real commands, with a model, as the role that is meant for it."""

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from reviews.errors import WrongUse
from storage.adapters.registry import AdapterStore
from storage.adapters.rescoring import RescoreStore
from tests.integration.in_process import VERSION, Stream
from tests.integration.system import System

Make = Callable[..., System]
PASSWORD = "a password"


def _as_rescorer(made: System, name: str) -> System:
    (made.folder / "password").write_text(PASSWORD)
    made.run("db", "roles", "--rescorer", name, "--rescorer-password-file", "password")
    url = make_url(made.environment["REVIEWLOOP_DATABASE__URL"]).set(username=name, password=PASSWORD)
    address = url.render_as_string(hide_password=False)
    return System({**made.environment, "REVIEWLOOP_DATABASE__URL": address}, made.topic, made.folder)


def test_stored_reviews_get_the_active_adapter_from_two_workers_with_the_rescorers_rights(
    system: Make, tiny_adapters: tuple[Path, Path]
) -> None:
    made = system(partitions=2)
    first = made.run("adapters", "add", tiny_adapters[0], "--activate").strip()
    made.publish([{"id": f"r{number}", "text": f"review number {number}"} for number in range(120)])
    made.run("consume", "--until-idle", 0.2)
    before = made.sql("SELECT record, label, probabilities FROM prediction ORDER BY record")
    assert len(before) == 120
    second = made.run("adapters", "add", tiny_adapters[1]).strip()
    made.run("adapters", "promote", second)
    name = f"rescorer_{made.topic}"
    rescorer = _as_rescorer(made, name)
    try:
        assert "120 predictions replaced" in rescorer.run(
            "rescore", "--workers", 2, "--range-records", 20, "--nice", 0
        )
        shown = [json.loads(line) for line in rescorer.run("rescore", "--status").splitlines()]
    finally:
        with psycopg.connect(
            make_url(made.environment["REVIEWLOOP_DATABASE__URL"])
            .set(drivername="postgresql")
            .render_as_string(hide_password=False),
            autocommit=True,
        ) as admin:
            admin.execute(f'DROP OWNED BY "{name}"')
            admin.execute(f'DROP ROLE "{name}"')

    assert made.sql("SELECT adapter_version, count(*) FROM scored_reviews GROUP BY 1") == [(second, 120)]
    assert made.sql("SELECT record, label, probabilities FROM prediction_history ORDER BY record") == before
    assert [(item["state"], item["replaced"], item["version"]) for item in shown] == [("done", 120, second)]
    assert first != second


def test_a_job_that_cannot_be_meant_is_refused(stream: Stream, run: Callable[..., str]) -> None:
    made = stream()
    adapters = AdapterStore(made.database)
    for arguments, message in {
        (): "No adapter is active",
        ("--adapter", "sentiment-unknown"): "not registered",
        ("--task", "tone", "--adapter", VERSION): "There is no task 'tone'",
        ("--resume", 7): "There is no rescoring job 7",
        ("--cancel",): "are being rescored",
        ("--cancel", "--status"): "Give one of",
    }.items():
        with pytest.raises(WrongUse, match=message):
            run(made, "rescore", *arguments)
    job = RescoreStore(made.database).create(adapters.find(VERSION))
    with pytest.raises(WrongUse, match="being rescored already"):
        run(made, "rescore", "--adapter", VERSION)
    assert f"Job {job.id} is cancelled" in run(made, "rescore", "--cancel")
    with pytest.raises(WrongUse, match="was cancelled"):
        run(made, "rescore", "--resume", job.id)
