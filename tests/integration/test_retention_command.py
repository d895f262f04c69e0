"""``data retain`` as an operator uses it: refused without a setting, counted, and done by its own role."""

import json
from collections.abc import Callable

import pytest
from sqlalchemy import make_url, text

from reviews.errors import WrongUse
from storage.database import Database
from storage.roles import KEEPER_GRANTS, DatabaseRole, set_up_roles
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
