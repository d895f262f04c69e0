"""Training runs on the console: what is at work, the history, one run, and a request for one now."""

from typing import Any

import pytest

from reviews.training_run import STAGES
from storage.learning.leases import Lease, LeaseStore, schedule_lease, training_lease
from storage.learning.run_requests import WAITING_SECONDS, RunRequestStore
from storage.learning.runs import TrainingRunStore
from tests.integration.console.conftest import Site

TASK = "sentiment"
HOSTILE = "<script>alert(1)</script>"
MANIFEST = {
    "labels": ["bad", HOSTILE],
    "rows": {"train": 1200, "validation": 30, "test": 50, "audit": 10},
    "classes": {"train": {"bad": 700, HOSTILE: 500}},
    "sha256": {"train": "ab" * 32},
    "new_train_rows": 12,
    "left_out": {"other_label": 3},
}
METRICS = {
    "recipes": [
        {"name": "warm", "score": 0.71, "start": "active", "train_rows": 1200, "steps": 90, "seconds": 4.5}
    ],
    "skipped": {"base": "There was no time left."},
    "chosen": "warm",
    "chosen_by": "validation rows",
    "active": {"macro_f1": 0.6512, "accuracy": 0.7, "calibration_error": 0.1},
    "candidate": {"macro_f1": 0.7034, "accuracy": 0.72, "calibration_error": 0.08},
    "confusion": {"active": [[20, 5], [6, 29]], "candidate": [[22, 3], [4, 31]]},
}
VERDICT = {
    "promote": False,
    "reasons": [f"Recall of {HOSTILE} fell."],
    "checks": [
        {"name": "rows", "passed": True, "value": 60, "limit": 40, "detail": "60 rows judge."},
        {
            "name": "recall",
            "passed": False,
            "value": -0.1,
            "limit": -0.05,
            "detail": f"Recall of {HOSTILE} fell.",
        },
    ],
}


def _lease(site: Site) -> Lease:
    lease = LeaseStore(site.admin).take(training_lease(TASK), "host:7", 60)
    assert lease is not None
    return lease


def _begin(site: Site, lease: Lease, trigger: str = "nightly") -> int:
    return TrainingRunStore(site.admin).start(
        TASK, trigger, lease, {"seed": 4, "recipe": {"epochs": 3}}, None
    )


@pytest.fixture
def judged(site: Site) -> int:
    """A run whose candidate the gate refused."""
    runs, lease = TrainingRunStore(site.admin), _lease(site)
    number = _begin(site, lease)
    runs.keep_dataset(number, lease, [], MANIFEST)
    runs.decide(number, lease, "kept", verdict=VERDICT, metrics=METRICS, candidate="sentiment-c")
    runs.close(number, lease)
    LeaseStore(site.admin).release(lease)
    return number


def test_a_run_is_shown_with_gate_figures_recipes_and_dataset_all_escaped(site: Site, judged: int) -> None:
    client = site.client("viewer")
    listed, shown = client.get("/runs").text, client.get(f"/runs/{judged}").text
    for part in ("0.651 → 0.703", "The gate refused sentiment-c", "Recall of &lt;script&gt;"):
        assert part in listed
    for part in (
        "60 rows judge.", "-0.05", "0.7034", ">29<", ">31<", "There was no time left.", "1,200",
        "abababababab", "12 training rows are new", "3 whose label the active adapter does not have",
        "epochs",
    ):  # fmt: skip
        assert part in shown, part
    assert HOSTILE not in listed + shown
    assert [client.get(f"/runs/{wrong}").status_code for wrong in ("999", "0", "x", "9" * 12)] == [
        404, 422, 422, 422,
    ]  # fmt: skip


def test_the_page_says_who_asked_for_a_run_and_that_no_schedule_is_there(site: Site) -> None:
    client = site.client("operator", "olga")
    assert "No schedule runs for this task" in client.get("/runs").text
    asked = client.post("/runs", data={"task": TASK, "reason": "after relabelling"})
    assert asked.headers["location"] == "/runs?task=sentiment"
    waiting = client.get("/runs/now").text
    assert "olga asked for a run: after relabelling" in waiting
    assert "No schedule runs that could take it" in waiting
    second = client.post("/runs", data={"task": TASK, "reason": "me too"})
    assert (second.status_code, "olga asked for a run" in second.text) == (409, True)
    LeaseStore(site.admin).take(schedule_lease(TASK), "host:3", 60)
    assert "The schedule on <bdi>host:3</bdi> takes it" in client.get("/runs/now").text
    site.sql("UPDATE run_request SET expires_at = expires_at - :late * interval '1 s'", late=WAITING_SECONDS)
    assert "No schedule took it in time" in client.get("/runs/now").text
    log = site.sql("SELECT actor, action, subject, reason, outcome FROM audit_log ORDER BY id")
    assert [tuple(row) for row in log] == [
        ("olga", "run.start", TASK, "after relabelling", "done"),
        ("olga", "run.start", TASK, "me too", "refused"),
    ]


@pytest.mark.parametrize(("values", "status"), [({"reason": ""}, 422), ({"task": "tone"}, 422)])
def test_a_request_has_a_reason_and_a_known_task(site: Site, values: dict[str, str], status: int) -> None:
    answer = site.client("operator").post("/runs", data={"task": TASK, "reason": "now", **values})
    assert answer.status_code == status
    assert RunRequestStore(site.admin).latest(TASK) is None


def test_the_progress_of_a_run_is_shown_stage_by_stage(site: Site) -> None:
    client, runs = site.client("viewer"), TrainingRunStore(site.admin)
    lease = _lease(site)
    assert "host:7 loads what it needs" in client.get("/runs/now").text
    number = _begin(site, lease)
    for place, stage in enumerate(STAGES):
        runs.reach(number, lease, stage)
        for address in ("/runs/now", f"/runs/{number}/now"):
            shown = client.get(address).text
            assert shown.count('<li class="past">') == place + 1
            assert shown.count('aria-current="step"') == 1
    assert f'data-poll="/runs/{number}/now"' in client.get(f"/runs/{number}").text
    refused = site.client("operator").post("/runs", data={"task": TASK, "reason": "now"})
    assert (refused.status_code, "is at work (host:7)" in refused.text) == (409, True)
    LeaseStore(site.admin).release(lease)
    assert "shows no sign of life" in client.get(f"/runs/{number}").text


def test_programs_see_runs_and_ask_for_them(site: Site, judged: int) -> None:
    viewer, operator = site.program("viewer"), site.program("operator")
    lease = _lease(site)
    second = _begin(site, lease)
    LeaseStore(site.admin).release(lease)
    piece: dict[str, Any] = viewer.get("/api/v1/runs?limit=1").json()
    assert [one["id"] for one in piece["items"]] == [second]
    older = viewer.get(f"/api/v1/runs?limit=1&cursor={piece['next']}").json()
    assert ([one["id"] for one in older["items"]], older["next"]) == ([judged], None)
    whole = viewer.get(f"/api/v1/runs/{judged}").json()
    assert (whole["metrics"], whole["verdict"], whole["manifest"]) == (METRICS, VERDICT, MANIFEST)
    assert viewer.get("/api/v1/runs/999").status_code == 404
    asked = operator.post("/api/v1/runs", json={"reason": "by program"})
    assert (asked.status_code, asked.json()["state"]) == (202, "waiting")
    now = viewer.get("/api/v1/runs/now").json()
    assert (now["run"], now["schedule"], now["request"]["id"]) == (None, None, asked.json()["id"])
    assert operator.post("/api/v1/runs", json={"reason": "again"}).status_code == 409
    assert viewer.post("/api/v1/runs", json={"reason": "me"}).status_code == 403
