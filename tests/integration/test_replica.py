"""A replica that only follows answers what only reads: queries, exports and backups."""

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
from pydantic import SecretStr

from reviewloop.operations.backup import read_backup
from storage.database import Database
from storage.migrate import upgrade
from storage.settings import DatabaseSettings
from tests.conftest import TopicFactory
from tests.faults.standby import Pair
from tests.integration.in_process import open_in_process

Run = Callable[..., str]


def test_a_replica_answers_queries_exports_and_gives_backups(
    kafka_bootstrap: str, topic: TopicFactory, run: Run, tmp_path: Path
):
    pair = Pair()
    try:
        with closing(Database(DatabaseSettings(url=SecretStr(pair.primary)))) as primary:
            upgrade(primary)
        with open_in_process(kafka_bootstrap, pair.primary, topic(1)) as made:
            made.publish([json.dumps({"id": f"r{n}", "text": f"Review {n}."}).encode() for n in range(5)])
            made.consume()
            pair.wait_for_standby()
            with closing(Database(DatabaseSettings(url=SecretStr(pair.standby)))) as follower:
                replica = replace(made, database=follower)
                found = [json.loads(line)["review_id"] for line in run(replica, "query").splitlines()]
                run(replica, "export", tmp_path / "lake")
                run(replica, "backup", tmp_path / "backup")
    finally:
        pair.close()
    assert sorted(found) == [f"r{n}" for n in range(5)]
    assert pq.read_table(tmp_path / "lake" / "reviews").num_rows == 5
    content = read_backup(tmp_path / "backup").manifest.content
    assert (content.rows["review"], content.positions[0].next_offset) == (5, 5)
