"""The doctor finds what is wrong, says how to repair it, and is content with what works."""

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from kafka import KafkaProducer
from sqlalchemy import make_url

from reviewloop.local.places import free_port
from tests import commands
from tests.integration.system import System

Make = Callable[..., System]
Adapters = tuple[Path, Path]


def _examine(made: System, code: int, **settings: str) -> dict[str, list[dict[str, Any]]]:
    """The findings by check."""
    system = System({**made.environment, **settings}, made.topic, made.folder)
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(_printed(system, "doctor", "--format", "json", code=code)):
        found.setdefault(finding["check"], []).append(finding)
    return found


def _printed(made: System, *arguments: str, code: int) -> str:
    done = commands.run(*arguments, env=made.environment, cwd=made.folder)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def _levels(found: dict[str, list[dict[str, Any]]], check: str) -> list[str]:
    return [finding["level"] for finding in found[check]]


def test_a_system_that_works_gets_a_clean_bill(system: Make, tiny_adapters: Adapters):
    made = system(partitions=3)
    version = made.run("adapters", "add", tiny_adapters[0], "--activate").strip()
    found = _examine(made, code=0)
    assert {finding["level"] for findings in found.values() for finding in findings} <= {"ok", "warn"}
    assert found["topic"][0]["found"] == f"{made.topic}: 3 partition(s)"
    assert found["workers"][0]["found"] == "3 partition(s) of reviews, so at most as many workers"
    assert version in found["adapter"][0]["found"]
    assert "the packed engine serves on cpu in " in found["adapter"][0]["found"]
    assert "cpu, calculates in " in found["device"][0]["found"]
    assert "matrix instructions for bf16" in found["device"][0]["found"]
    for check in ("versions", "adapter cache", "device", "kafka", "database", "clock", "schema", "roles"):
        assert _levels(found, check) == ["ok"], found[check]


def test_a_topic_an_adapter_and_a_schema_that_are_missing_are_told_with_their_commands(
    system: Make, empty_database: str
):
    made = system(partitions=1, REVIEWLOOP_DATABASE__URL=empty_database)
    found = _examine(made, code=1, REVIEWLOOP_KAFKA__REVIEWS_TOPIC=f"none-{secrets.token_hex(4)}")
    assert _levels(found, "topic") == ["fail", "warn"]
    assert found["topic"][0]["remedy"] == "run 'reviewloop topics create'"
    assert found["schema"][0]["remedy"] == "run 'reviewloop db upgrade'"
    made.run("db", "upgrade")
    remedy = _examine(made, code=1)["adapter"][0]["remedy"]
    assert remedy.startswith(
        "run 'reviewloop adapters zero-shot --activate', or 'reviewloop adapters add DIR"
    )


def test_services_that_are_away_fail_and_the_rest_is_examined_all_the_same(system: Make):
    made = system(partitions=1)
    away = f"127.0.0.1:{free_port()}"
    found = _examine(
        made,
        code=1,
        REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS=away,
        REVIEWLOOP_DATABASE__URL=f"postgresql://me@{away}/none",
    )
    assert _levels(found, "kafka") == _levels(found, "database") == ["fail"]
    assert away in found["kafka"][0]["found"]
    assert _levels(found, "base model") == ["ok"]


def test_a_user_without_the_writers_privileges_fails_with_the_command_that_grants_them(system: Make):
    made = system(partitions=1)
    (made.folder / "password").write_text("pw")
    role = f"weak_{secrets.token_hex(4)}"
    made.run("db", "roles", "--reader", role, "--reader-password-file", "password")
    url = make_url(made.environment["REVIEWLOOP_DATABASE__URL"]).set(username=role, password="pw")
    try:
        found = _examine(made, code=1, REVIEWLOOP_DATABASE__URL=url.render_as_string(hide_password=False))
    finally:
        with psycopg.connect(_plain(made)) as connection:
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")
    assert _levels(found, "database") == ["ok"]
    text = json.dumps(found)
    assert "INSERT on review" in text or "may not do this" in text


def test_records_from_the_future_make_the_doctor_look_at_clocks(system: Make):
    made = system(partitions=1)
    producer = KafkaProducer(bootstrap_servers=made.bootstrap_servers)
    ahead_ms = int((time.time() + 1_800) * 1000)  # brokers refuse what is an hour ahead
    producer.send(made.topic, b"{}", timestamp_ms=ahead_ms).get(30)
    producer.close()
    found = _examine(made, code=1)
    assert _levels(found, "kafka clock") == ["warn"]
    assert "NTP" in found["kafka clock"][0]["remedy"]


def test_people_read_a_line_each_with_an_arrow_to_the_remedy(system: Make):
    made = system(partitions=1)
    printed = _printed(made, "doctor", "--format", "text", code=1)
    assert "fail  adapter        none is active for the task 'sentiment'\n" in printed
    assert "→ run 'reviewloop adapters zero-shot --activate'" in printed
    rows = [json.loads(line) for line in _printed(made, "doctor", code=1).splitlines()]
    assert ("fail", "adapter") in {(row["level"], row["check"]) for row in rows}, "in a pipe"


def _plain(made: System) -> str:
    url = make_url(made.environment["REVIEWLOOP_DATABASE__URL"]).set(drivername="postgresql")
    return url.render_as_string(hide_password=False)


def test_records_that_a_source_reads_and_those_that_it_does_not_are_told_apart(system: Make):
    made = system(partitions=1)
    producer = KafkaProducer(bootstrap_servers=made.environment["REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS"])
    for number in range(4):
        producer.send(made.topic, json.dumps({"nr": number, "body": "It fits."}).encode())
    producer.flush()
    producer.close()

    def sources(**more: object) -> str:
        return json.dumps([{"topic": made.topic, **more}])

    fitting = sources(fields={"id": "nr", "text": "body"})
    (good,) = _examine(made, code=1, REVIEWLOOP_SOURCES=fitting)["source"]
    assert good["level"] == "ok"
    assert made.topic in good["found"]
    assert "4 of its latest 4 records are read" in good["found"]
    (bad,) = _examine(made, code=1, REVIEWLOOP_SOURCES=sources(preset="debezium"))["source"]
    assert bad["level"] == "warn"
    assert bad["remedy"] == f"run 'reviewloop sources try {made.topic}'"
