"""The brokers and the database, as a worker on this machine finds them."""

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from broker.topics import look as look_at_brokers
from reviewloop.doctor.finding import Finding, Level
from reviewloop.settings import Settings
from storage.database import OLDEST_SERVER, Database
from storage.database import look as look_at_server
from storage.migrate import status
from storage.roles import missing_privileges

_CLOCK_WARN_SECONDS = 2.0
_CLOCK_FAIL_SECONDS = 60.0
_FUTURE_SECONDS = 300


def kafka(settings: Settings) -> Iterator[Finding]:
    """Do the brokers answer, are the topics there, and do publishers live in the present?"""
    options = settings.kafka
    future_ms = int((time.time() + _FUTURE_SECONDS) * 1000)
    report = look_at_brokers(options, [options.reviews_topic, options.labels_topic], future_ms)
    encrypted = options.security_protocol.endswith("SSL")
    yield Finding(
        "kafka",
        Level.ok,
        f"{options.bootstrap_servers} answers: cluster {report.cluster_id}, {report.brokers} broker(s), "
        f"{options.security_protocol}{'' if encrypted else ' (not encrypted)'}",
    )
    for topic, level in ((options.reviews_topic, Level.fail), (options.labels_topic, Level.warn)):
        number = report.partitions[topic]
        if number:
            yield Finding("topic", Level.ok, f"{topic}: {number} partition(s), so at most as many workers")
        else:
            yield Finding("topic", level, f"{topic} does not exist", "run 'reviewloop topics create'")
    if report.has_future_records:
        yield Finding(
            "kafka clock",
            Level.warn,
            f"{options.reviews_topic} holds records from more than {_FUTURE_SECONDS // 60} minutes ahead of "
            "this machine",
            "set the clocks of publishers, brokers and this machine by NTP",
        )


def server(database: Database) -> Iterator[Finding]:
    """Does the database answer, is it one that can serve, and do its clock and ours agree?"""
    before = time.time()
    report = look_at_server(database)
    now = datetime.fromtimestamp((before + time.time()) / 2, UTC)
    encryption = "encrypted" if report.is_encrypted else "not encrypted"
    found = f"PostgreSQL {report.version}, {database.place} as '{report.user}', {encryption}"
    if report.major_version < OLDEST_SERVER:
        yield Finding("database", Level.fail, found, f"upgrade the server to {OLDEST_SERVER} or newer")
    elif report.is_replica:
        found += ": a replica, which takes no writes"
        yield Finding("database", Level.fail, found, "point database.url at the primary")
    else:
        yield Finding("database", Level.ok, found)
    yield _time_outs(report.time_outs, database.time_outs)
    yield _clock(abs((report.clock - now).total_seconds()))


def schema(database: Database) -> Iterator[Finding]:
    """Are the tables there, of this version, and may we use them?"""
    found = status(database)
    if found.missing:
        at = f"at revision {found.current}, behind {found.newest}" if found.current else "not there yet"
        yield Finding("schema", Level.fail, at, "run 'reviewloop db upgrade'")
    elif found.is_newer:
        yield Finding(
            "schema",
            Level.warn,
            f"at revision {found.current}, which is newer than this program ({found.newest})",
            "upgrade this program",
        )
    else:
        yield Finding("schema", Level.ok, f"at revision {found.current}, the newest")
    if found.current is None:
        return
    missing = missing_privileges(database)
    if missing:
        yield Finding(
            "roles",
            Level.fail,
            f"'{database.url.username}' lacks {', '.join(missing)}",
            f"run 'reviewloop db roles --writer {database.url.username}' as the owner of the tables",
        )
    else:
        yield Finding("roles", Level.ok, f"'{database.url.username}' may do all that a worker does")


def _time_outs(in_force: Mapping[str, float], wanted: Mapping[str, float]) -> Finding:
    """Without them a frozen worker holds up its successor for ever."""
    found = ", ".join(f"{name} {seconds:g} s" for name, seconds in sorted(in_force.items()))
    if in_force == wanted:
        return Finding("time-outs", Level.ok, f"in force in a transaction: {found}")
    return Finding(
        "time-outs",
        Level.fail,
        f"in force in a transaction: {found}, which is not what the settings ask for",
        "let the pooler in between pass SET LOCAL on, in its session or transaction mode",
    )


def _clock(seconds: float) -> Finding:
    level = (
        Level.fail
        if seconds > _CLOCK_FAIL_SECONDS
        else Level.warn
        if seconds > _CLOCK_WARN_SECONDS
        else Level.ok
    )
    remedy = "" if level is Level.ok else "set both clocks by NTP"
    return Finding("clock", level, f"{seconds:.1f} s apart from the database's", remedy)
