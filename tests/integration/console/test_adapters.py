"""Adapters on the console: lists, pages, decisions with a reason, who was faster, and uploads."""

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from classifier.adapters.manifest import describe_adapter, read_files
from reviews.adapter import AdapterVersion
from storage.adapters.registry import AdapterStore
from storage.adapters.shadows import ShadowStore
from storage.stream.partitions import PartitionStore
from tests.integration.console.conftest import Site
from tests.integration.test_shadow import store_scored
from tests.tiny import tiny_adapter

GOOD, WORSE, OTHER = "sentiment-aaaaaaaaaaaa", "sentiment-bbbbbbbbbbbb", "sentiment-dddddddddddd"
LABELS = ("bad", "good")
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def filled(site: Site) -> Site:
    """GOOD is active; WORSE has a lower macro-F1, OTHER has other labels."""
    store = AdapterStore(site.admin)
    for name, labels, value in ((GOOD, LABELS, 0.73), (WORSE, LABELS, 0.58), (OTHER, (HOSTILE, "c"), 0.9)):
        metrics = {
            "test_macro_f1": value,
            "test_macro_f1_low": value - 0.1,
            "test_macro_f1_high": value + 0.1,
        }
        adapter = AdapterVersion(name, "sentiment", labels, "none", None, name[-1] * 64, metrics=metrics)
        store.add(adapter, {"reviewloop.json": b'{"training": {"rows": {"train": 4440}}}'})
    store.activate(store.find(GOOD), expected=None, decided_by="test", reason=f"begin {HOSTILE}")
    return site


def _active(site: Site) -> Any:
    return AdapterStore(site.admin).active("sentiment")


def _log(site: Site) -> list[tuple[str, str, str, str]]:
    return [
        tuple(row) for row in site.sql("SELECT actor, action, subject, outcome FROM audit_log ORDER BY id")
    ]


def test_pages_show_versions_figures_and_history_and_escape_all_of_it(filled: Site) -> None:
    client = filled.client("viewer")
    listed = client.get("/adapters").text
    for part in (GOOD, WORSE, OTHER, "0.730", "decided by <bdi>test</bdi>", "begin &lt;script&gt;"):
        assert part in listed
    shown = client.get(f"/adapters/{OTHER}").text
    for part in (
        "0.900",
        "0.800–1.000",
        "4,440",
        "&lt;script&gt;alert(1)",
        "It never scored the live stream",
    ):
        assert part in shown
    assert HOSTILE not in listed + shown
    assert 'method="post"' not in listed.split("<main")[1] + shown.split("<main")[1], "viewers decide nothing"
    assert client.get("/adapters/sentiment-none").status_code == 404


def test_promote_and_roll_back_write_who_and_why_and_a_log_entry(filled: Site) -> None:
    client, first = filled.client("operator", "olga"), _active(filled)
    values = {"version": WORSE, "reason": "a try", "seen": first.id, "worse": "true"}
    assert client.post("/adapters/promote", data=values).headers["location"] == "/adapters?task=sentiment"
    promoted = _active(filled)
    assert (promoted.version, promoted.decided_by, promoted.reason) == (WORSE, "olga", "a try")
    back = {"task": "sentiment", "reason": "no good", "seen": promoted.id}
    assert client.post("/adapters/rollback", data=back).status_code == 303
    assert (_active(filled).version, _active(filled).restores) == (GOOD, first.id)
    assert _log(filled) == [
        ("olga", "adapter.promote", WORSE, "done"),
        ("olga", "adapter.rollback", "sentiment", "done"),
    ]
    assert "is active again" in client.get("/adapters").text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"version": WORSE, "reason": "a try"}, "is worse"),
        ({"version": OTHER, "reason": "a try"}, "agree to it"),
        ({"version": WORSE, "reason": " ", "worse": "true"}, "The reason is empty"),
        ({"version": GOOD, "reason": "a try"}, "is the active adapter of the task"),
    ],
)
def test_what_nobody_agreed_to_changes_nothing_and_says_why(
    filled: Site, values: dict[str, str], said: str
) -> None:
    before = _active(filled)
    answer = filled.client("operator").post("/adapters/promote", data={**values, "seen": before.id})
    assert answer.status_code == 422
    assert said in answer.text
    assert _active(filled) == before
    assert [row[3] for row in _log(filled)] == ["refused"]


@pytest.mark.parametrize("seen", ["", "1000"])
def test_who_decided_on_an_old_page_hears_who_was_faster(filled: Site, seen: str) -> None:
    store, first = AdapterStore(filled.admin), _active(filled)
    store.activate(store.find(WORSE), expected=first, decided_by="pavel", reason="was first")
    client = filled.client("operator")
    stale = seen or str(first.id)
    for path, values in (
        ("promote", {"version": OTHER, "other_labels": "true"}),
        ("rollback", {"task": "sentiment"}),
    ):
        answer = client.post(f"/adapters/{path}", data={**values, "reason": "mine", "seen": stale})
        assert answer.status_code == 409
        assert f"pavel let {WORSE} take over the task" in answer.text.replace("&#39;", "'")
        assert "was first" in answer.text
        assert _active(filled).version == WORSE


def test_a_trial_is_started_replaced_and_stopped_with_reasons_and_conflicts_are_told(filled: Site) -> None:
    client, shadows = filled.client("operator", "olga"), ShadowStore(filled.admin)
    start = {"version": WORSE, "percent": "25", "reason": "looks better"}
    assert client.post("/adapters/shadow", data=start).status_code == 303
    trial = shadows.running("sentiment")
    assert (trial.version, trial.share, trial.decided_by, trial.reason) == (
        WORSE,
        0.25,
        "olga",
        "looks better",
    )
    again = client.post("/adapters/shadow", data={**start, "version": OTHER})
    assert again.status_code == 409
    assert f"olga began a trial of {WORSE}" in again.text
    instead = {"version": OTHER, "percent": "5", "reason": "rather this", "seen": trial.id}
    assert client.post("/adapters/shadow", data=instead).status_code == 303
    ended, second = shadows.of_adapter(WORSE)[0], shadows.running("sentiment")
    assert (ended.ended_by, ended.end_reason) == ("olga", f"Made way for {OTHER}.")
    late = client.post("/adapters/shadow/stop", data={"task": "sentiment", "seen": trial.id, "reason": "x"})
    assert late.status_code == 409
    stop = {"task": "sentiment", "seen": second.id, "reason": "enough"}
    assert client.post("/adapters/shadow/stop", data=stop).status_code == 303
    assert shadows.running("sentiment") is None
    assert shadows.of_adapter(OTHER)[0].end_reason == "enough"
    refused = client.post("/adapters/shadow", data={"version": GOOD, "reason": "x"})
    assert (refused.status_code, "is active already" in refused.text) == (422, True)
    assert "enough" in client.get(f"/adapters/{OTHER}").text


def test_two_adapters_are_shown_side_by_side_with_what_they_differ_on(filled: Site) -> None:
    client = filled.client("viewer")
    address = f"/adapters/compare?first={GOOD}&second={WORSE}"
    empty = client.get(address).text
    assert "Both scored no review in common" in empty
    assert "reviewloop rescore" in empty
    PartitionStore(filled.admin).register("cluster", "reviews", "topic", 0, 0)
    said = [("good", "good"), ("good", "bad"), ("bad", None), ("bad", "good")]
    store_scored(filled.admin, said, (GOOD, WORSE))
    shown = client.get(address).text
    assert "33%" in shown
    assert shown.count('href="/reviews/one?id=r') == 2
    for wrong in (f"first={GOOD}&second={GOOD}", f"first={GOOD}&second=sentiment-none", "first=&second="):
        assert client.get(f"/adapters/compare?{wrong}").status_code in {404, 422}


def _packed(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, content in files.items():
            writer.writestr(f"adapter/{name}", content)
    return packed.getvalue()


def test_an_uploaded_adapter_is_registered_takes_over_nothing_and_is_what_was_packed(
    filled: Site, tiny_model: Path, tmp_path: Path
) -> None:
    manifest, files = read_files(tiny_adapter(tiny_model, tmp_path))
    version, client = describe_adapter(manifest).version, filled.client("operator")
    for said in ("is registered.", "was registered already."):
        upload = {"file": ("mine.zip", _packed(files), "application/zip")}
        answer = client.post("/adapters/upload", data={"task": ""}, files=upload)
        assert answer.headers["location"] == f"/adapters/{version}"
        assert said in client.get("/adapters").text
    assert AdapterStore(filled.admin).files(version) == files
    assert _active(filled).version == GOOD


def test_what_is_no_adapter_is_refused_in_clear_words_and_logged(filled: Site, monkeypatch) -> None:
    client = filled.client("operator")
    for content, said in (
        (b"GIF89a", "is no readable zip file"),
        (_packed({"../x": b""}), "leads outside"),
        (_packed({"adapter_model.bin": b"\x80"}), "can run code when it is loaded"),
        (_packed({"README.md": b""}), "adapter_config.json is missing"),
    ):
        answer = client.post("/adapters/upload", files={"file": ("mine.zip", content, "application/zip")})
        assert (answer.status_code, said in answer.text) == (422, True), answer.text
    assert {row[3] for row in _log(filled)} == {"refused"}
    assert client.post("/adapters/upload", data={"task": "x"}).status_code == 422
    assert len(AdapterStore(filled.admin).list_versions()) == 3


def test_an_upload_is_bounded_and_only_for_those_who_may(make_site, database: str) -> None:
    site = make_site(upload_bytes=10_000)
    big = {"file": ("mine.zip", bytes(20_000), "application/zip")}
    assert site.client("operator").post("/adapters/upload", files=big).status_code == 413
    assert site.program("operator").post("/api/v1/adapters", content=bytes(20_000)).status_code == 413

    in_pieces = (bytes(5_000) for _ in range(3))  # of a length that nobody states
    assert site.program("operator").post("/api/v1/adapters", content=in_pieces).status_code == 413
    assert site.program("viewer").post("/api/v1/adapters", content=b"x").status_code == 403


def test_programs_see_and_decide_the_same(filled: Site, tiny_model: Path, tmp_path: Path) -> None:
    viewer, operator = filled.program("viewer"), filled.program("operator")
    listed = viewer.get("/api/v1/adapters?limit=2").json()
    assert [one["version"] for one in listed["items"]] == [OTHER, WORSE]
    rest = viewer.get(f"/api/v1/adapters?limit=2&cursor={listed['next']}").json()
    assert ([one["version"] for one in rest["items"]], rest["next"]) == ([GOOD], None)
    seen = viewer.get("/api/v1/adapters/in-effect").json()["active"]["id"]
    wish = {"seen": seen, "reason": "by program", "worse": True}
    made = operator.post(f"/api/v1/adapters/{WORSE}/promote", json=wish).json()
    assert (made["version"], made["decided_by"].startswith("token ")) == (WORSE, True)
    late = operator.post(f"/api/v1/adapters/{WORSE}/promote", json=wish)
    assert (late.status_code, "took over" in late.text or "take over" in late.text) == (409, True)
    back = {"seen": made["id"], "reason": "enough"}
    assert operator.post("/api/v1/adapters/rollback", json=back).json()["version"] == GOOD
    trial = operator.post(f"/api/v1/adapters/{OTHER}/trial", json={"share": 0.5, "reason": "look"}).json()
    stop = {"seen": trial["id"], "reason": "enough"}
    assert operator.post(f"/api/v1/adapters/{OTHER}/trial/stop", json=stop).status_code == 204
    compared = viewer.get(f"/api/v1/adapters/compare?first={GOOD}&second={WORSE}").json()
    assert (compared["reviews"], compared["examples"]) == (0, [])
    manifest, files = read_files(tiny_adapter(tiny_model, tmp_path))
    uploaded = operator.post("/api/v1/adapters", content=_packed(files))
    assert (uploaded.status_code, uploaded.json()["version"]) == (201, describe_adapter(manifest).version)
    assert viewer.post(f"/api/v1/adapters/{WORSE}/promote", json=wish).status_code == 403
