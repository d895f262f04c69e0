"""A night replaces an adapter that has seen an erased review, by one that starts from the base without it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.lifecycle.erasure import ErasureStore
from storage.lifecycle.receipts import ReceiptStore
from tests.night_scene import FRESH, TASK, WARM, NightScene

FASTER = {**FRESH, "learning_rate": 3e-2}  # known rows weigh less than new ones


@pytest.fixture
def scene(database: str, tiny_model: Path, tmp_path: Path) -> Iterator[NightScene]:
    made = NightScene(database, tiny_model, tmp_path)
    made.serve()
    made.label(made.publish(240))
    yield made
    made.close()


def test_the_next_night_trains_without_the_review_and_closes_the_receipt(scene: NightScene):
    assert scene.night().state == "promoted"
    seen = scene.adapters.active(TASK)
    assert seen is not None
    record, review_id = scene.rows(
        "SELECT i.record, r.review_id FROM training_item i JOIN review r USING (record) "
        "WHERE slice = 'train' LIMIT 1"
    )[0]
    erasures = ErasureStore(scene.database)
    receipt = erasures.proceed(erasures.request([review_id], "ann", "She asked for it.", None))
    assert [(one.version, one.is_serving) for one in receipt.adapters] == [(seen.version, True)]
    assert receipt.closed_at is None
    run = scene.night(recipes=[WARM, FASTER])
    assert run.state == "promoted", run.verdict
    assert list(run.metrics["skipped"]) == ["warm-all"], "nothing continues from what has seen it"
    assert "replacement" in [check["name"] for check in run.verdict["checks"]]
    assert scene.rows(
        f"SELECT count(*) FROM training_item WHERE record = {record} AND run_id = {run.id}"
    ) == [(0,)]
    assert ReceiptStore(scene.database).close_all() == 1
    files = "SELECT a.version FROM adapter_file f JOIN adapter a ON a.id = f.adapter_id"
    assert (seen.version,) not in scene.rows(files), "it cannot come back"
    again = scene.night(recipes=[WARM, FRESH])
    assert "replacement" not in [check["name"] for check in again.verdict["checks"]]
