"""``data retain`` as an operator uses it: refused without a setting, counted, and done by its own role."""

import json
from collections.abc import Callable
from threading import Event

import pytest
from sqlalchemy import make_url, text
from structlog.testing import capture_logs

from reviewloop.settings import load_settings
from reviewloop.wiring.erasing import erasure_job
from reviewloop.wiring.nightly import retention_job
from reviews.errors import WrongUse
from storage.database import Database
from storage.lifecycle.erasure import ErasureStore
from storage.roles import KEEPER_GRANTS, TRAINER_GRANTS, DatabaseRole, set_up_roles
from tests.integration.in_process import Stream

Run = Callable[..., str]


def test_what_is_aged_is_counted_and_then_deleted_by_the_keeper(
    stream: Stream, run: Run, monkeypatch: pytest.MonkeyPatch
):
    made = stream()
    made.publish([json.dumps({"id": f"r{n}", "text": f"Review {n}."}).encode() for n in range(6)])
    made.consume()
    made.database.execute(
        text("UPDATE review SET received_at = now() - interval '9 days' WHERE record & 1 = 0")
    )
    with pytest.raises(WrongUse, match="texts_days"):
        run(made, "data", "retain")
    monkeypatch.setenv("REVIEWLOOP_RETENTION__TEXTS_DAYS", "8")
    told = [json.loads(line) for line in run(made, "data", "retain", "--dry-run").splitlines()]
    assert told == [{"table": "review", "rows": 3}]
    role, password = "keeper of tests", "pass-word"
    set_up_roles(made.database, [DatabaseRole(role, KEEPER_GRANTS, password)])
    try:
        url = make_url(made.environment()["REVIEWLOOP_DATABASE__URL"]).set(username=role, password=password)
        monkeypatch.setattr(
            made, "environment", _with(made.environment(), url.render_as_string(hide_password=False))
        )
        done = [json.loads(line) for line in run(made, "data", "retain").splitlines()]
    finally:
        made.database.execute(text(f'DROP OWNED BY "{role}"'))
        made.database.execute(text(f'DROP ROLE "{role}"'))
    assert {row["table"]: row["rows"] for row in done} == {"prediction": 3, "review": 3}
    _require_left(made.database, 3)


def _with(environment: dict[str, str], url: str) -> Callable[[], dict[str, str]]:
    return lambda: {**environment, "REVIEWLOOP_DATABASE__URL": url}


def _require_left(store: Database, reviews: int) -> None:
    assert store.fetch_value(text("SELECT count(*) FROM scored_reviews")) == reviews


def test_a_schedule_deletes_as_the_keeper_and_leaves_it_to_others_without(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
):
    made = stream()
    made.publish([json.dumps({"id": f"r{n}", "text": f"Review {n}."}).encode() for n in range(6)])
    made.consume()
    made.database.execute(
        text("UPDATE review SET received_at = now() - interval '9 days' WHERE record & 1 = 0")
    )
    roles = {"trainer of tests": TRAINER_GRANTS, "keeper of schedules": KEEPER_GRANTS}
    set_up_roles(made.database, [DatabaseRole(name, grants, "pass-word") for name, grants in roles.items()])
    for name, value in {**made.environment(), "REVIEWLOOP_RETENTION__TEXTS_DAYS": "8"}.items():
        monkeypatch.setenv(name, value)
    try:
        trainer, keeper = (
            make_url(made.environment()["REVIEWLOOP_DATABASE__URL"]).set(username=name, password="pass-word")
            for name in roles
        )
        monkeypatch.setenv("REVIEWLOOP_DATABASE__URL", trainer.render_as_string(hide_password=False))
        with capture_logs() as logs:
            assert retention_job(load_settings(), Event()) == []
            assert erasure_job(load_settings(), Event()) == []
        assert [(one["event"], one["job"]) for one in logs] == [
            ("left_to_the_keeper", "retention"), ("left_to_the_keeper", "erasures"),
        ]  # fmt: skip
        monkeypatch.setenv("REVIEWLOOP_RETENTION__DATABASE_URL", keeper.render_as_string(hide_password=False))
        (deletion,) = retention_job(load_settings(), Event())
        (erasures,) = erasure_job(load_settings(), Event())
        deletion.do()
        _require_left(made.database, 3)
        ErasureStore(made.database).request(["r1"], "ann", "She asked for it.", None)
        erasures.do()
        _require_left(made.database, 2)
    finally:
        for role in roles:
            made.database.execute(text(f'DROP OWNED BY "{role}"'))
            made.database.execute(text(f'DROP ROLE "{role}"'))
