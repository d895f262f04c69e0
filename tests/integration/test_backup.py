"""``backup`` and ``restore`` as operators use them: what was stored, what Kafka kept, and what was erased."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition
from pydantic import SecretStr
from sqlalchemy import text

from reviewloop.operations.backup import back_up, list_erasures, read_backup, restore
from reviewloop.operations.dump_programs import dump, find_programs
from reviewloop.settings import Settings
from reviews.backup import DUMP_FILE, ERASURES_FILE, MANIFEST_FILE, ErasureListing, PastErasure
from reviews.erasure import erased_hash
from reviews.errors import ReviewLoopError, WrongUse
from reviews.label import Label
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.store import LabelStore
from storage.lifecycle.past_erasures import PastErasureStore
from storage.settings import DatabaseSettings
from storage.stream.partitions import PartitionStore
from tests.conftest import _new_database
from tests.integration.in_process import VERSION, InProcess, Stream

Run = Callable[..., str]
ERASED = "ann-4711"


def _message(review_id: str, said: str = "It is good.", **more: object) -> bytes:
    return json.dumps({"id": review_id, "text": said, **more}).encode()


def _opened(url: str) -> closing[Database]:
    return closing(Database(DatabaseSettings(url=SecretStr(url))))


def _current(made: InProcess) -> list[str]:
    return [row[0] for row in made.sql("SELECT review_id FROM scored_reviews ORDER BY 1")]


def _restored_rows(run: Run, made: InProcess, *arguments: object) -> list[dict[str, object]]:
    return [json.loads(line) for line in run(made, "restore", *arguments).splitlines()]


@pytest.fixture
def empty(empty_database: str) -> Iterator[Database]:
    with _opened(empty_database) as opened:
        yield opened


def test_workers_read_on_after_a_restore_and_nothing_is_lost_stored_twice_or_back_from_erasure(
    stream: Stream, run: Run, empty: Database, kafka_admin: KafkaAdminClient, tmp_path: Path
):
    made = stream(partitions=2)
    made.publish([_message("a"), _message(ERASED), _message("b"), _message(ERASED, stars=99), b"no JSON"])
    made.publish([_message("c"), _message("d")], partition=1)
    made.consume()
    record = made.sql("SELECT record FROM review WHERE review_id = 'a'")[0][0]
    LabelStore(made.database).add(
        [Label(record, "sentiment", "positive", "bob", "import", datetime.now(UTC))]
    )
    # As on a server that has counted more transactions than the one of the restore.
    made.database.execute(text("UPDATE label SET transaction_id = 4000000000000000000"))
    place = tmp_path / "backup"
    run(made, "backup", place)
    before = made.sql("SELECT record, review_id, text, received_at FROM review ORDER BY record")

    made.publish([_message("e"), _message(ERASED, "Again."), _message("f")])
    made.publish([_message("g"), _message("h"), _message("i")], partition=1)
    made.consume()
    run(made, "forget", ERASED, "--yes")
    run(made, "backup", place, "--erasures-only")
    made.publish([_message("j")])
    kafka_admin.delete_records({TopicPartition(made.topic, 1): 4})  # g and h

    new = replace(made, database=empty)
    told = {row["partition"]: row for row in _restored_rows(run, new, place, "--check")}
    assert (told[0]["state"], told[0]["to_read"]) == ("goes on", 4)
    assert (told[1]["state"], told[1]["lost"], told[1]["to_read"]) == ("gap", 2, 1)
    assert list(told.values()) == _restored_rows(run, new, place, "--yes")
    kept = [row for row in before if row[1] != ERASED]
    assert new.sql("SELECT record, review_id, text, received_at FROM review ORDER BY record") == kept
    assert new.sql("SELECT transaction_id FROM label") == [(0,)]
    assert new.sql("SELECT count(*) FROM dead_letter") == [(1,)]  # the one that held the erased id is gone
    assert AdapterStore(empty).files(VERSION) == AdapterStore(made.database).files(VERSION)
    with pytest.raises(WrongUse, match="not empty"):
        run(new, "restore", place, "--yes")

    new.consume()
    assert _current(new) == ["a", "b", "c", "d", "e", "f", "i", "j"]
    stored = new.sql("SELECT count(*), count(DISTINCT record) FROM review")
    assert stored == [(8, 8)]
    gaps = PartitionStore(empty).list_gaps()
    assert [(gap.partition, gap.first_offset, gap.next_offset) for gap in gaps] == [(1, 2, 4)]
    assert [row[0] for row in new.sql("SELECT encode(hash, 'hex') FROM erasure_review")] == [
        erased_hash(ERASED).hex()
    ]
    assert json.loads(run(new, "forget", "--list"))["state"] == "closed"


def test_a_backup_is_of_one_moment_while_workers_go_on(
    stream: Stream, run: Run, empty: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = stream()
    made.publish([_message("a")])
    made.consume()

    def dump_late(*arguments: Any) -> None:
        made.publish([_message("b")])
        made.consume()
        dump(*arguments)

    monkeypatch.setattr("reviewloop.operations.backup.dump", dump_late)
    run(made, "backup", tmp_path / "backup")
    new = replace(made, database=empty)
    told = _restored_rows(run, new, tmp_path / "backup", "--yes")
    assert [(row["next_offset"], row["to_read"]) for row in told] == [(1, 1)]
    assert _current(new) == ["a"]
    new.consume()
    assert _current(new) == ["a", "b"]


def test_a_restore_does_not_keep_silent_about_later_erasures(
    stream: Stream, run: Run, empty: Database, tmp_path: Path
):
    made = stream()
    made.publish([_message("a")])
    made.consume()
    run(made, "backup", tmp_path / "backup")
    new = replace(made, database=empty)
    with pytest.raises(WrongUse, match="Nothing was restored"):
        run(new, "restore", tmp_path / "backup", input_bytes=b"n\n")
    run(new, "restore", tmp_path / "backup", input_bytes=b"y\n")
    assert _current(new) == ["a"]


def test_what_has_to_follow_a_restore_can_be_done_by_itself_and_repeated(
    stream: Stream, run: Run, tmp_path: Path
):
    made = stream()
    made.publish([_message(ERASED), _message("b")])
    made.consume()
    past = PastErasure(
        requested_at=datetime.now(UTC),
        requested_by="ann",
        reason="She asked for it.",
        hashes=(erased_hash(ERASED).hex(), erased_hash("never seen").hex()),
        ends=(),
    )
    listing = ErasureListing(listed_at=datetime.now(UTC), erasures=1)
    (tmp_path / ERASURES_FILE).write_text(f"{listing.model_dump_json()}\n{past.model_dump_json()}\n")
    assert PastErasureStore(made.database).repeat([past]) == 1  # and then it is killed
    for _ in range(2):
        run(made, "restore", tmp_path, "--erasures-only", "--yes")
        assert _current(made) == ["b"]
    assert made.sql("SELECT stage, requested_at FROM erasure") == [("done", past.requested_at)]
    assert list_erasures(made.database, tmp_path) == 1
    assert PastErasureStore(made.database).unknown([past]) == []


@pytest.fixture(scope="module")
def whole(database_url: str, migrated_template: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a database without rows."""
    place = tmp_path_factory.mktemp("backups") / "whole"
    with _new_database(database_url, template=migrated_template) as url, _opened(url) as opened:
        back_up(opened, place)
    return place


def test_a_backup_is_for_its_owner_alone_and_replaces_nothing(whole: Path, empty: Database):
    assert whole.stat().st_mode & 0o077 == 0
    assert {file.name for file in whole.iterdir()} == {DUMP_FILE, ERASURES_FILE, MANIFEST_FILE}
    assert all(file.stat().st_mode & 0o077 == 0 for file in whole.iterdir())
    with pytest.raises(WrongUse, match="is there already"):
        back_up(empty, whole)
    assert read_backup(whole).manifest.content.rows["review"] == 0


def _edit(file: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda place: (place / file).write_bytes(change((place / file).read_bytes())) and None


def _claim(place: Path, content: bytes) -> None:
    """Another dump, with the manifest of one who knows how it is checked."""
    (place / DUMP_FILE).write_bytes(content)
    manifest = json.loads((place / MANIFEST_FILE).read_text())
    manifest |= {"dump_bytes": len(content), "dump_sha256": hashlib.sha256(content).hexdigest()}
    (place / MANIFEST_FILE).write_text(json.dumps(manifest))


def _lead_elsewhere(place: Path) -> None:
    (place / DUMP_FILE).unlink()
    (place / DUMP_FILE).symlink_to("/etc/passwd")


BROKEN = {
    "nothing": (shutil.rmtree, "manifest.json is missing"),
    "no manifest": (lambda place: (place / MANIFEST_FILE).unlink(), "manifest.json is missing"),
    "no JSON": (_edit(MANIFEST_FILE, lambda _: b"\x00{"), "is damaged"),
    "another layout": (
        _edit(MANIFEST_FILE, lambda old: old.replace(b'"layout": 1', b'"layout": 2')), "layout",
    ),
    "another program": (_edit(MANIFEST_FILE, lambda _: b'{"kind": "someone\'s"}'), "kind"),
    "a newer schema": (
        _edit(MANIFEST_FILE, lambda old: old.replace(b'"revision": "0', b'"revision": "9')), "does not know",
    ),
    "a negative offset": (
        _edit(MANIFEST_FILE, lambda old: old.replace(b'"positions": []', b'"positions": [{}]')),
        "positions.0",
    ),
    "cut off": (_edit(DUMP_FILE, lambda old: old[:-1]), "is incomplete"),
    "damaged": (_edit(DUMP_FILE, lambda old: old[:-1] + bytes([old[-1] ^ 1])), "checksum"),
    "a link": (_lead_elsewhere, "database.dump is missing"),
    "no dump": (lambda place: _claim(place, b"DROP TABLE review;" * 99), "pg_restore failed"),
    "no list": (lambda place: (place / ERASURES_FILE).unlink(), "erasures.jsonl is missing"),
    "a list cut off": (
        _edit(ERASURES_FILE, lambda old: old.replace(b'"erasures":0', b'"erasures":1')), "0 erasures of 1",
    ),
    "a list of anything": (_edit(ERASURES_FILE, lambda old: old + b'{"hashes": ["x"]}\n'), "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_backup_is_refused_by_what_is_wrong(
    whole: Path, tmp_path: Path, spoil: Callable[[Path], None], said: str
):
    place = tmp_path / "broken"
    shutil.copytree(whole, place)
    spoil(place)
    with pytest.raises(ReviewLoopError, match=said):
        read_backup(place)


def test_a_restore_that_fails_leaves_an_empty_database_and_one_that_lacks_rows_is_noticed(
    whole: Path, tmp_path: Path, empty: Database
):
    place = tmp_path / "broken"
    shutil.copytree(whole, place)
    dump = (whole / DUMP_FILE).read_bytes()
    _claim(place, dump[: len(dump) * 9 // 10])  # its table of contents is whole
    with pytest.raises(ReviewLoopError, match="pg_restore failed"):
        restore(Settings(), empty, read_backup(place))
    assert empty.fetch_values(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")) == []
    _edit(MANIFEST_FILE, lambda old: old.replace(b'"review": 0', b'"review": 7'))(place)
    _claim(place, dump)
    with pytest.raises(ReviewLoopError, match=r"the rows of review \(0 of 7\)"):
        restore(Settings(), empty, read_backup(place))


def test_programs_older_than_the_server_are_not_used():
    assert find_programs(15).major >= 15
    with pytest.raises(WrongUse, match=r"pg_restore of PostgreSQL 99 or newer.*postgresql-client-99"):
        find_programs(99)
