"""Erasure with what is around the database: Kafka's ends before it, copies on this machine after it."""

import shutil
from collections.abc import Iterator, Sequence
from threading import Event

import structlog

from broker.topics import topic_ends
from reviewloop.export.settings import target_name
from reviewloop.local.places import cache_directory
from reviewloop.settings import Settings
from reviewloop.wiring.registry import open_database
from reviews.erasure import ErasureFinding, ErasureReceipt
from reviews.errors import ReviewLoopError, Unavailable
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.learning.leases import LeaseHeld
from storage.lifecycle.erasure import ErasureStore
from storage.lifecycle.exported import PLACE
from storage.lifecycle.receipts import ReceiptStore
from storage.roles import KEEPER_GRANTS, missing_privileges
from storage.stream.partitions import PartitionStore
from trainer.nightly.schedule import Upkeep

log = structlog.get_logger()
_EVERY_FIVE_MINUTES = "*/5 * * * *"
_WITHDRAWN_BY = "publisher"
_DAYS_NAMED = 20


def erase(
    settings: Settings, database: Database, review_ids: Sequence[str], by: str, reason: str
) -> ErasureReceipt:
    """Erase reviews, now; the receipt as far as it is.

    Raises:
        WrongUse: If there are none, or too many at once.
        LeaseHeld: If another process is at an erasure; this one is asked for, and done by the next.
        Unavailable: If the database does not answer; what was asked for is continued later.
    """
    store = ErasureStore(database)
    number = store.request(review_ids, by, reason, partition_ends(settings, database))
    return continue_erasure(settings, database, number)


def continue_erasure(settings: Settings, database: Database, number: int) -> ErasureReceipt:
    """Do what is left of an erasure; the receipt as far as it is."""
    erasures, receipts = ErasureStore(database), ReceiptStore(database)
    note_export(settings, database, number)
    receipt = erasures.proceed(number)
    if receipt.closed_at is None or not any(one.state == "open" for one in receipt.findings):
        for finding in _copies_elsewhere(settings, receipt):
            receipts.add_finding(number, finding)
    remove_retired(settings, database, receipt)
    return receipts.receipt(number)


def note_export(settings: Settings, database: Database, number: int) -> None:
    """Note on the receipt that the configured export may hold the reviews, and which days of it."""
    if settings.export.target is None:
        return
    place = f"{PLACE}{target_name(settings.export)}"
    receipts = ReceiptStore(database)
    if any(one.place == place for one in receipts.receipt(number).findings):
        return
    days = ErasureStore(database).days(number)
    more = f" and {len(days) - _DAYS_NAMED:,} others" if len(days) > _DAYS_NAMED else ""
    of_days = f" of {', '.join(days[:_DAYS_NAMED])}{more}" if days else " that hold them"
    detail = f"The files{of_days}: 'reviewloop export' writes them anew; with --erase it does nothing else."
    receipts.add_finding(number, ErasureFinding(place, 0, "open", detail))


def partition_ends(settings: Settings, database: Database) -> dict[int, int] | None:
    """Where each stored partition ends in Kafka now, by its id; None where no broker answers."""
    positions = PartitionStore(database).list_positions()
    try:
        ends = topic_ends(settings.kafka, {position.topic for position in positions})
    except ReviewLoopError as err:
        log.warning("kafka_ends_unknown", error=str(err), detail="Kafka's times decide what came before.")
        return None
    return {
        position.partition_id: found.offsets[position.partition]
        for position in positions
        if (found := ends.get(position.topic)) is not None
        and (found.cluster_id, found.topic_id) == (position.cluster_id, position.topic_id)
        and position.partition in found.offsets
    }


def remove_retired(settings: Settings, database: Database, receipt: ErasureReceipt) -> int:
    """Remove adapters that have seen the reviews and serve no more from this machine's cache; how many."""
    root = settings.consumer.adapter_cache or cache_directory() / "adapters"
    adapters, removed = AdapterStore(database), 0
    for one in receipt.adapters:
        if one.is_serving:
            continue
        place = root / adapters.find(one.version).content_hash
        if place.is_dir():
            shutil.rmtree(place)
            removed += 1
    return removed


def erasure_job(settings: Settings, stopping: Event) -> list[Upkeep]:
    """What a schedule does about erasures; nothing where its role may not."""
    if not keeps_data(settings, "erasures"):
        return []

    def tend() -> None:
        with open_database(_as_keeper(settings)) as database:
            tend_erasures(settings, database, stopping)

    return [Upkeep("erasures", _EVERY_FIVE_MINUTES, "erasures", tend)]


def keeps_data(settings: Settings, what: str) -> bool:
    """Whether a schedule may delete stored data; the log says how it could, where it may not.

    Args:
        settings: All settings.
        what: The job, for the log.
    """
    with open_database(_as_keeper(settings)) as database:
        missing = missing_privileges(database, _STATED_GRANTS)
    if missing:
        detail = (
            "Set retention.database_url to the role of 'db roles --keeper', or run 'data retain' and 'forget "
            "--resume' as it by cron."
        )
        log.warning("left_to_the_keeper", job=what, lacks=missing[0], detail=detail)
    return not missing


def _as_keeper(settings: Settings) -> Settings:
    """The settings with the keeper's connection, where one is configured."""
    url = settings.retention.database_url
    if url is None:
        return settings
    return settings.model_copy(update={"database": settings.database.model_copy(update={"url": url})})


_STATED_GRANTS = {
    name: tuple(one for one in given if "(" not in one and one != "MAINTAIN")
    for name, given in KEEPER_GRANTS.items()
}


def tend_erasures(settings: Settings, database: Database, stopping: Event) -> None:
    """Continue what was begun, erase what publishers took back if that is wanted, and close what can be."""
    store = ErasureStore(database)
    try:
        for number in store.unfinished():
            if stopping.is_set():
                return
            continue_erasure(settings, database, number)
        wanted = settings.retention.erase_withdrawn
        while (
            wanted != "never"
            and not stopping.is_set()
            and (ids := store.withdrawn(only_tombstones=wanted == "tombstones"))
        ):
            erase(settings, database, ids, _WITHDRAWN_BY, "The publisher took the review back.")
        ReceiptStore(database).close_all()
    except LeaseHeld:
        log.info("erasures_in_other_hands")
    except Unavailable as err:
        log.warning("erasures_wait", error=str(err))


def _copies_elsewhere(settings: Settings, receipt: ErasureReceipt) -> Iterator[ErasureFinding]:
    """What this program cannot erase by itself."""
    found = {one.place: one.rows for one in receipt.findings}
    yield ErasureFinding(
        "Kafka", 0, "open",
        "Topics keep their records until their own retention or compaction; none is stored again.",
    )  # fmt: skip
    if settings.consumer.dead_letter_topic and found.get("dead_letter"):
        yield ErasureFinding(
            f"topic {settings.consumer.dead_letter_topic}", found["dead_letter"], "open",
            "Forwarded dead letters stay until that topic's retention.",
        )  # fmt: skip
    yield ErasureFinding(
        "backups and other copies", 0, "open",
        "Adapter caches of other machines: delete them. Exports to targets that the settings do not name: "
        "'reviewloop export TARGET --erase'. Backups: 'restore' erases it "
        "again if 'backup DIR --erasures-only' was run since.",
    )  # fmt: skip
