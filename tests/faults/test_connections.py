"""The connection to the database breaks, or the database refuses: the worker waits, tries again, goes on."""

import os
import secrets
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from tests.faults.accounting import UNSTORABLE
from tests.faults.postgres_proxy import PostgresProxy
from tests.faults.scene import Scene
from tests.faults.test_kills import STATEMENTS
from tests.faults.worker_process import WorkerProcess

Make = Callable[..., Scene]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_cut_in_mid_transaction_costs_nothing_but_another_attempt(
    scene: Make, proxy: PostgresProxy, when: str
):
    stream = scene()
    worker = stream.worker(url=proxy.url)
    for statement in STATEMENTS:
        stop = (proxy.stop_before if when == "before" else proxy.stop_after)(statement)
        stream.publish(100)
        stop.wait()
        proxy.cut()
        stop.release()
        stream.wait_until_stored()
    assert len(worker.events("database_unavailable")) >= len(STATEMENTS)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_cut_while_positions_are_read_is_opened_again(
    scene: Make, proxy: PostgresProxy, when: str
):
    stream = scene()
    stream.publish(50)
    stop = (proxy.stop_before if when == "before" else proxy.stop_after)("SELECT id, cluster_id")
    worker = stream.worker(url=proxy.url)
    stop.wait()
    proxy.cut()
    stop.release()
    stream.wait_until_stored()
    assert worker.events("service_unavailable")


def test_a_statement_that_takes_too_long_is_tried_again(scene: Make):
    """The server cancels a COPY while the connection stays good."""
    stream = scene()
    stream.sql("CREATE TABLE slow (seconds float)")
    stream.sql("INSERT INTO slow VALUES (30)")
    stream.sql(
        "CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN PERFORM pg_sleep(seconds) FROM slow; RETURN NULL; END$$"
    )
    stream.sql("CREATE TRIGGER slow BEFORE INSERT ON review FOR EACH STATEMENT EXECUTE FUNCTION be_slow()")
    worker = stream.worker(database={"statement_timeout_seconds": 0.5})
    stream.publish(100)
    assert "statement timeout" in worker.wait_for_event("database_unavailable")["error"]
    stream.sql("UPDATE slow SET seconds = 0")
    stream.wait_until_stored()


def test_a_lock_that_somebody_else_holds_is_waited_for(scene: Make, database: str):
    """A person's forgotten session holds the offset's row; it is not a frozen writer, so it is left alone."""
    import psycopg

    stream = scene(partitions=1)
    worker = stream.worker()
    stream.publish(20)
    stream.wait_until_stored()
    url = make_url(database).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as person:
        person.execute("SELECT * FROM stream_partition FOR UPDATE")
        stream.publish(20)
        assert "lock timeout" in worker.wait_for_event("database_unavailable")["error"]
        person.execute("SELECT 1")
    stream.wait_until_stored()


def test_too_many_connections_are_waited_out(scene: Make):
    stream = scene()
    role, password = f"worker_{secrets.token_hex(4)}", secrets.token_hex(8)
    stream.sql(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    try:
        stream.sql(f"GRANT pg_read_all_data, pg_write_all_data TO {role}")
        url = make_url(stream.database_url).set(username=role, password=password)
        worker = stream.worker(url=url.render_as_string(hide_password=False))
        stream.publish(50)
        stream.wait_until_stored()
        stream.sql(f"ALTER ROLE {role} CONNECTION LIMIT 0")
        stream.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", role)
        stream.publish(50)
        stream.wait_until(lambda _: any("too many connections" in e["error"] for e in _troubles(worker)))
        stream.sql(f"ALTER ROLE {role} CONNECTION LIMIT -1")
        stream.wait_until_stored()
        worker.kill()
    finally:
        stream.sql(f"DROP OWNED BY {role}")
        stream.sql(f"DROP ROLE {role}")


def _troubles(worker: WorkerProcess) -> list[dict[str, Any]]:
    """While rows are stored, and while positions are read."""
    return worker.events("database_unavailable") + worker.events("service_unavailable")


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = Path(tempfile.mkdtemp(prefix="reviewloop-disk-"))  # pytest's own folders are closed to others
    if os.geteuid() != 0 or _mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)) != 0:
        folder.rmdir()
        pytest.skip("only root can mount a small file system, and not in every container")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=False)  # noqa: S607  where it is differs
    folder.rmdir()


def test_a_full_disk_is_waited_out_until_somebody_makes_room(scene: Make, small_disk: Path):
    """The table of reviews is on a real file system of one megabyte, which somebody enlarges later."""
    stream = scene()
    _give_to_server(stream, small_disk)
    space = f"small_{secrets.token_hex(4)}"
    stream.sql(f"CREATE TABLESPACE {space} LOCATION '{small_disk}'")
    try:
        stream.sql(f"ALTER TABLE review SET TABLESPACE {space}")
        worker = stream.worker()
        stream.publish_raw([_long_review(number) for number in range(400)])
        assert "No space left" in worker.wait_for_event("database_unavailable")["error"]
        assert _mount("-o", "remount,size=16m", str(small_disk)) == 0
        stream.wait_until_stored()
        worker.kill()
    finally:
        stream.sql("ALTER TABLE review SET TABLESPACE pg_default")
        stream.sql(f"DROP TABLESPACE {space}")


def _mount(*arguments: str) -> int:
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode  # noqa: S607  the same


def _give_to_server(stream: Scene, folder: Path) -> None:
    """Let the server write there: it may run as another user."""
    (data,) = stream.sql("SHOW data_directory")[0]
    owner = Path(data).stat()
    os.chown(folder, owner.st_uid, owner.st_gid)


def _long_review(number: int) -> bytes:
    noise = secrets.token_hex(2000)  # that no compression makes small
    return b'{"id": "long%d", "text": "%s"}' % (number, noise.encode())


def test_a_record_that_takes_too_long_by_itself_is_found_and_becomes_a_dead_letter(scene: Make):
    stream = scene(partitions=1)
    stream.sql(
        "CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN PERFORM pg_sleep(30); RETURN NEW; END$$"
    )
    stream.sql(
        "CREATE TRIGGER slow BEFORE INSERT ON review FOR EACH ROW "
        f"WHEN (starts_with(NEW.text, '{UNSTORABLE}')) EXECUTE FUNCTION be_slow()"
    )
    stream.publish(30)
    stream.publish_raw([_review(UNSTORABLE)])
    stream.publish(30)
    worker = stream.worker(database={"statement_timeout_seconds": 1})
    stream.wait_until_stored()
    assert worker.wait_for_event("record_refused")["reason"] == "statement_timeout"
    assert _refused(stream) == [("statement_timeout", _review(UNSTORABLE))]


def test_a_record_that_an_index_cannot_hold_becomes_a_dead_letter_and_those_beside_it_reviews(scene: Make):
    stream = scene(partitions=1)
    stream.sql("CREATE INDEX by_text ON review (text)")  # its rows have at most 2,704 bytes
    long = _review(UNSTORABLE + secrets.token_hex(4000))
    stream.publish(30)
    stream.publish_raw([long])
    stream.publish(30)
    stream.worker()
    stream.wait_until_stored()
    assert _refused(stream) == [("program_limit_exceeded", long)]


def _review(text: str) -> bytes:
    return b'{"id": "refused", "text": "%s"}' % text.encode()


def _refused(stream: Scene) -> list[tuple[str, bytes]]:
    return stream.sql("SELECT error, raw FROM dead_letter WHERE stage = 'store'")
