"""The checks of ``reviewloop doctor``, in the order of their dependencies."""

import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from http import HTTPStatus
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from broker.formats.registry import SchemaRegistry
from broker.topics import look as look_at_brokers
from classifier.base_model import locate
from classifier.devices import Execution, choose_device, describe_dtype
from classifier.host import Hosts
from reviewloop.local.places import cache_directory
from reviewloop.settings import Settings
from reviewloop.wiring.registry import load_registered, open_database, serving_settings
from reviewloop.wiring.sources import open_mappings, open_trier
from reviewloop.wiring.topics import review_topics
from reviews.account import Role
from reviews.errors import ReviewLoopError
from reviews.sources.settings import SourceSettings
from storage.accounts.users import UserStore
from storage.adapters.registry import AdapterStore
from storage.database import OLDEST_SERVER, Database
from storage.database import look as look_at_server
from storage.migrate import status
from storage.roles import CONSOLE_GRANTS, missing_privileges
from storage.stream.sinks import SinkLag, sink_lags

_PACKAGES = ("reviewloop", "torch", "transformers", "peft", "kafka-python", "psycopg", "sqlalchemy", "crc32c")
_LEAST_BYTES = 256 * 1024 * 1024
_FEW_BYTES = 2 * 1024 * 1024 * 1024  # a base model, and some adapters
_NVIDIA = Path("/dev/nvidiactl")
_CLOCK_WARN_SECONDS = 2.0
_CLOCK_FAIL_SECONDS = 60.0
_FUTURE_SECONDS = 300
_TRIED_RECORDS = 20
_CONSOLE_SECONDS = 3.0
_CONSOLE_TABLES = {name: given for name, given in CONSOLE_GRANTS.items() if "(" not in "".join(given)}
_SINK_TABLES = {"sink": ("SELECT",), "sink_position": ("SELECT",), "sink_change": ("SELECT",)}
_LATE_SECONDS = 60.0
_CONSOLE_ACCOUNTS = {"console_user": ("SELECT",)}


class Level(StrEnum):
    """How bad it is."""

    ok = "ok"
    warn = "warn"
    fail = "fail"


class CheckResult(NamedTuple):
    """What was found.

    Attributes:
        check: What was looked at, a word or two.
        level: How bad it is.
        found: What is there, in a sentence or less.
        remedy: How to repair it; empty where all is well, and where the finding says so already.
    """

    check: str
    level: Level
    found: str
    remedy: str = ""


def examine_all(settings: Settings) -> Iterator[CheckResult]:
    """The results, as they come; a check that needs an earlier part which failed is left out."""
    yield from _examine("versions", _versions)
    yield from _examine("caches", lambda: _caches(settings))
    yield from _examine("device", lambda: _device(settings))
    yield from _examine("kafka", lambda: _kafka(settings))
    if settings.registry.url is not None:
        yield from _examine("schema registry", lambda: _registry(settings))
    yield CheckResult("retention", Level.ok, settings.retention.in_words())
    for source in settings.sources:
        yield from _examine("source", partial(_source, settings, source))
    yield from _examine_database(settings)


def _examine_database(settings: Settings) -> Iterator[CheckResult]:
    try:
        with open_database(settings) as database:
            found = list(_examine("database", lambda: _server(database)))
            yield from found
            if len(found) > 1:  # an error stands alone
                yield from _examine("schema", lambda: _schema(database))
                yield from _examine("console", lambda: _console(settings, database))
                yield from _examine("sink", lambda: _sinks(settings, database))
                yield from _examine("adapter", lambda: _adapters(settings, database))
                return
    except ReviewLoopError as err:
        yield _failure("database", err)
    yield from _examine("base model", lambda: _base_model(settings))


def _examine(name: str, check: Callable[[], Iterator[CheckResult]]) -> Iterator[CheckResult]:
    """The results of one check; an error of ours is one, too, and its message says how to repair it."""
    try:
        yield from check()
    except ReviewLoopError as err:
        yield _failure(name, err)


def _failure(name: str, err: ReviewLoopError) -> CheckResult:
    return CheckResult(name, Level.fail, str(err))


def _versions() -> Iterator[CheckResult]:
    """Python and the packages that matter."""
    missing = [name for name in _PACKAGES if _version(name) is None]
    found = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES if name not in missing)
    yield CheckResult("versions", Level.ok, f"Python {platform.python_version()}, {found}")
    if missing:
        yield CheckResult(
            "versions", Level.fail, f"not installed: {', '.join(missing)}", "run pip install reviewloop again"
        )


def _caches(settings: Settings) -> Iterator[CheckResult]:
    """Room where adapters and base models are kept."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folders = {
        "adapter cache": settings.consumer.adapter_cache or cache_directory() / "adapters",
        "model cache": Path(HF_HUB_CACHE),
    }
    for name, folder in folders.items():
        free_bytes = shutil.disk_usage(_existing(folder)).free
        found = f"{folder}: {free_bytes / 2**30:.1f} GiB free"
        level = (
            Level.fail if free_bytes < _LEAST_BYTES else Level.warn if free_bytes < _FEW_BYTES else Level.ok
        )
        yield CheckResult(name, level, found, "" if level is Level.ok else "make room on that disk")


def _device(settings: Settings) -> Iterator[CheckResult]:
    """What the classifier calculates on, in which number format, and why."""
    chosen = choose_device(settings.classifier.device)
    number_format, reason = describe_dtype(settings.classifier.precision, chosen)
    calculates = f"calculates in {number_format}, as {reason}{_faster(chosen.type, number_format)}"
    if chosen.type == "cpu" and settings.classifier.device == "auto" and _NVIDIA.exists():
        yield CheckResult(
            "device",
            Level.warn,
            f"cpu, although there is an NVIDIA GPU; {calculates}",
            "install the CUDA build of PyTorch and a driver that is new enough for it (nvidia-smi shows it)",
        )
    else:
        yield CheckResult("device", Level.ok, f"{chosen}, {calculates}")


def _faster(device: str, number_format: str) -> str:
    """What other hardware was measured to give; empty where this is as fast as was measured."""
    if device != "cpu" or number_format != "fp32":
        return ""
    return (
        "; one core with AVX-512 VNNI and BF16 scored 2.6 times as many texts in int8 as in fp32, and 1.9 "
        "times as many in bf16"
    )


def _kafka(settings: Settings) -> Iterator[CheckResult]:
    """Do the brokers answer, are the topics there, and do publishers live in the present?"""
    options = settings.kafka
    future_ms = int((time.time() + _FUTURE_SECONDS) * 1000)
    choice = review_topics(settings)
    names = tuple(dict.fromkeys((*choice.names, options.labels_topic)))
    report = look_at_brokers(options, replace(choice, names=names), future_ms)
    encrypted = options.security_protocol.endswith("SSL")
    yield CheckResult(
        "kafka",
        Level.ok,
        f"{options.bootstrap_servers} answers: cluster {report.cluster_id}, {report.brokers} broker(s), "
        f"{options.security_protocol}{'' if encrypted else ' (not encrypted)'}",
    )
    for topic in sorted(report.partitions, key=lambda name: not choice.includes(name)):
        yield CheckResult("topic", Level.ok, f"{topic}: {report.partitions[topic]} partition(s)")
    of_reviews = sum(number for topic, number in report.partitions.items() if choice.includes(topic))
    if of_reviews:
        found = f"{of_reviews} partition(s) of reviews, so at most as many workers"
        yield CheckResult("workers", Level.ok, found)
    for topic in choice.missing_among(report.partitions):
        detail = f"no topic matches {topic}" if topic.startswith("/") else f"{topic} does not exist"
        yield CheckResult("topic", Level.fail, detail, "run 'reviewloop topics create'")
    if options.labels_topic not in report.partitions:
        detail = f"{options.labels_topic} does not exist"
        yield CheckResult("topic", Level.warn, detail, "run 'reviewloop topics create'")
    for topic in filter(choice.includes, report.ahead):
        yield CheckResult(
            "kafka clock",
            Level.warn,
            f"{topic} holds records from more than {_FUTURE_SECONDS // 60} minutes ahead of this machine",
            "set the clocks of publishers, brokers and this machine by NTP",
        )


def _registry(settings: Settings) -> Iterator[CheckResult]:
    """Does the schema registry answer, and let us in?"""
    registry = SchemaRegistry(settings.registry)
    registry.check()
    encrypted = "" if registry.place.startswith("https:") else " (not encrypted)"
    yield CheckResult("schema registry", Level.ok, f"{registry.place} answers{encrypted}")


def _source(settings: Settings, source: SourceSettings) -> Iterator[CheckResult]:
    """Can its format be decoded here, and do its settings suit the latest records of its topic?"""
    read = f"{source.name} ({source.preset}, {source.value_format})"
    if source.topic is None:
        open_mappings(settings.model_copy(update={"sources": (source,)}))
        yield CheckResult("source", Level.ok, f"{read} can be decoded")
        return
    trial = open_trier(settings).run(source.topic, source, _TRIED_RECORDS)
    bad = trial.outcomes.get("dead letter", 0)
    found = f"{read}: {len(trial.records) - bad} of its latest {len(trial.records)} records are read"
    if trial.suits:
        yield CheckResult("source", Level.ok, found)
    else:
        yield CheckResult("source", Level.warn, found, f"run 'reviewloop sources try {source.topic}'")


def _server(database: Database) -> Iterator[CheckResult]:
    """Does the database answer, is it one that can serve, and do its clock and ours agree?"""
    before = time.time()
    report = look_at_server(database)
    now = datetime.fromtimestamp((before + time.time()) / 2, UTC)
    encryption = "encrypted" if report.is_encrypted else "not encrypted"
    found = f"PostgreSQL {report.version}, {database.place} as '{report.user}', {encryption}"
    if report.major_version < OLDEST_SERVER:
        yield CheckResult("database", Level.fail, found, f"upgrade the server to {OLDEST_SERVER} or newer")
    elif report.is_replica:
        found += ": a replica, which takes no writes"
        yield CheckResult("database", Level.fail, found, "point database.url at the primary")
    else:
        yield CheckResult("database", Level.ok, found)
    yield _time_outs(report.time_outs, database.time_outs)
    yield _clock(abs((report.clock - now).total_seconds()))


def _schema(database: Database) -> Iterator[CheckResult]:
    """Are the tables there, of this version, and may we use them?"""
    found = status(database)
    if found.missing:
        at = f"at revision {found.current}, behind {found.newest}" if found.current else "not there yet"
        yield CheckResult("schema", Level.fail, at, "run 'reviewloop db upgrade'")
    elif found.is_newer:
        yield CheckResult(
            "schema",
            Level.warn,
            f"at revision {found.current}, which is newer than this program ({found.newest})",
            "upgrade this program",
        )
    else:
        yield CheckResult("schema", Level.ok, f"at revision {found.current}, the newest")
    if found.current is None:
        return
    missing, name = missing_privileges(database), database.url.username
    if missing and not missing_privileges(database, _CONSOLE_TABLES):
        yield CheckResult("roles", Level.ok, f"'{name}' may do what the console does, and is not for workers")
    elif missing:
        yield CheckResult(
            "roles",
            Level.fail,
            f"'{database.url.username}' lacks {', '.join(missing)}",
            f"run 'reviewloop db roles --writer {database.url.username}' as the owner of the tables",
        )
    else:
        yield CheckResult("roles", Level.ok, f"'{database.url.username}' may do all that a worker does")


def _console(settings: Settings, database: Database) -> Iterator[CheckResult]:
    """Can somebody log in to the console, and does it answer? Nothing of it is needed by workers."""
    if missing_privileges(database, _CONSOLE_ACCOUNTS):
        return  # the role of a worker has no business with accounts
    enabled = [user for user in UserStore(database).all() if not user.is_disabled]
    owners = sum(user.role is Role.OWNER for user in enabled)
    found = f"{len(enabled)} account(s), {owners} of them owner(s)"
    if enabled and not owners:
        remedy = "run 'reviewloop console users role NAME owner'"
        yield CheckResult("console accounts", Level.warn, f"{found}: nobody can administer it", remedy)
    else:
        yield CheckResult("console accounts", Level.ok, found)
    url = settings.console.url
    if _answers(f"{url}/log-in"):
        yield CheckResult("console", Level.ok, f"answers at {url}")
    else:
        yield CheckResult("console", Level.ok, f"does not run at {url}: 'reviewloop console' starts it")


def _sinks(settings: Settings, database: Database) -> Iterator[CheckResult]:
    """Does each configured sink keep up, and is each one that is set up configured?"""
    if missing_privileges(database, _SINK_TABLES):
        return  # the role of a worker has no business with sinks
    found = {lag.topic: lag for lag in sink_lags(database, settings.kafka.labels_topic)}
    for topic in [sink.topic for sink in settings.sinks]:
        yield _sink(topic, found.pop(topic, None))
    for topic, lag in found.items():
        yield CheckResult(
            "sink",
            Level.warn,
            f"{topic} is in no settings here, and {lag.changes:,} changes wait for it",
            f"add it to the settings, or run 'reviewloop sink remove {topic}'",
        )


def _sink(topic: str, lag: SinkLag | None) -> CheckResult:
    remedy = "start 'reviewloop sink run', or read its log"
    if lag is None or not lag.is_open:
        return CheckResult("sink", Level.warn, f"{topic} is configured, and has not begun", remedy)
    if lag.seconds is None:
        level, behind = Level.ok, "has every stored row"
    else:
        level = Level.warn if lag.seconds > _LATE_SECONDS else Level.ok
        behind = f"is {lag.records:,} records and {lag.seconds:.0f} s behind"
    changes = f"; {lag.changes:,} changed rows wait" if lag.changes else ""
    return CheckResult("sink", level, f"{topic} {behind}{changes}", "" if level is Level.ok else remedy)


def _answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=_CONSOLE_SECONDS) as answer:  # noqa: S310  the scheme is ours
            return bool(answer.status == HTTPStatus.OK)
    except (OSError, HTTPException):
        return False


def _time_outs(in_force: Mapping[str, float], wanted: Mapping[str, float]) -> CheckResult:
    """Without them a frozen worker holds up its successor for ever."""
    found = ", ".join(f"{name} {seconds:g} s" for name, seconds in sorted(in_force.items()))
    if in_force == wanted:
        return CheckResult("time-outs", Level.ok, f"in force in a transaction: {found}")
    return CheckResult(
        "time-outs",
        Level.fail,
        f"in force in a transaction: {found}, which is not what the settings ask for",
        "let the pooler in between pass SET LOCAL on, in its session or transaction mode",
    )


def _clock(seconds: float) -> CheckResult:
    level = (
        Level.fail
        if seconds > _CLOCK_FAIL_SECONDS
        else Level.warn
        if seconds > _CLOCK_WARN_SECONDS
        else Level.ok
    )
    remedy = "" if level is Level.ok else "set both clocks by NTP"
    return CheckResult("clock", level, f"{seconds:.1f} s apart from the database's", remedy)


def _base_model(settings: Settings) -> Iterator[CheckResult]:
    """Is the configured base model on this machine, or can it be had?

    Where none is configured, the adapter names its own: nothing is looked for that nobody asked for.
    """
    if "base_model" not in settings.classifier.model_fields_set:
        yield CheckResult("base model", Level.ok, "none is configured: each adapter names its own")
        return
    base = locate(settings.classifier.base_model, settings.classifier.base_revision)
    yield CheckResult("base model", Level.ok, f"{base.name} in {base.directory}")


def _adapters(settings: Settings, database: Database) -> Iterator[CheckResult]:
    """Has every task an active adapter that loads and scores here?"""
    store, hosts = AdapterStore(database), Hosts(serving_settings(settings))
    for task in settings.consumer.tasks:
        activation = store.active(task)
        if activation is None:
            yield CheckResult(
                "adapter",
                Level.fail,
                f"none is active for the task '{task}'",
                "run 'reviewloop adapters zero-shot --activate', or 'reviewloop adapters add DIR --activate'",
            )
            continue
        started = time.monotonic()
        classifier = load_registered(settings, store, activation.version, hosts)
        loaded = time.monotonic()
        (answer,) = classifier.predict(["The doctor says that this works."])
        scored = time.monotonic()
        yield CheckResult(
            "adapter",
            Level.ok,
            f"{answer.adapter_version} loads in {loaded - started:.1f} s and scores a sentence in "
            f"{(scored - loaded) * 1000:.0f} ms; {_engine(classifier.execution)}",
        )


def _engine(execution: Execution) -> str:
    said = f"the {execution.engine} engine serves on {execution.device} in {execution.number_format}"
    if execution.engine != "packed":
        said = f"{said}, as {execution.engine_reason}"
    return f"{said}: {execution.format_reason}"


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
