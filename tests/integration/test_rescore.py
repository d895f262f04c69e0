"""Rescoring by the real commands, with a model, as the role that is meant for it."""

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
from sqlalchemy import make_url

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
    made.run("consume", "--until-idle", 1)
    before = made.sql("SELECT record, label, probabilities FROM prediction ORDER BY record")
    second = made.run("adapters", "add", tiny_adapters[1]).strip()
    made.run("adapters", "promote", second)
    name = f"rescorer_{made.topic}"
    rescorer = _as_rescorer(made, name)
    try:
        assert "120 predictions replaced" in rescorer.run(
            "rescore", "--workers", 2, "--range-records", 20, "--nice", 0
        )
        assert "0 predictions replaced" in rescorer.run("rescore", "--since", "1d", "--nice", 0)
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
    assert [(item["state"], item["replaced"], item["version"]) for item in shown] == [
        ("done", 0, second),
        ("done", 120, second),
    ]
    # What a worker would have said: the same texts, published again, get the same answers.
    made.publish([{"id": f"r{number}", "text": f"review number {number}"} for number in range(120)])
    made.run("consume", "--until-idle", 1)
    assert made.sql(
        "SELECT count(DISTINCT (r.review_id, p.label)) FROM prediction p JOIN review r USING (record)"
    ) == [(120,)]
    assert first != second


def test_a_job_that_cannot_be_meant_is_refused(system: Make, tiny_adapters: tuple[Path, Path]) -> None:
    made = system(partitions=1)
    assert "No adapter is active" in made.run("rescore", code=2)
    version = made.run("adapters", "add", tiny_adapters[0], "--activate").strip()
    assert "was made for the task 'sentiment'" in made.run(
        "rescore", "--task", "tone", "--adapter", version, code=2
    )
    assert "There is no rescoring job 7" in made.run("rescore", "--resume", 7, code=2)
    assert "are being rescored" in made.run("rescore", "--cancel", code=2)
    assert "Give one of" in made.run("rescore", "--cancel", "--status", code=2)
