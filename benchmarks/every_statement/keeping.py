"""What retention, erasure and exports send."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from benchmarks.every_statement.call import Call
from reviews.dead_letter import DeadLetter
from reviews.erasure import ErasureFinding
from reviews.errors import ReviewLoopError
from reviews.stream_records import (
    PartitionRange,
)
from storage.adapters.registry import AdapterStore
from storage.arrow import open_arrow
from storage.database import Database
from storage.exporting import ExportSource, exclusive
from storage.lifecycle.erasure import ErasureStore
from storage.lifecycle.exported import ExportErasures
from storage.lifecycle.past_erasures import PastErasureStore
from storage.lifecycle.receipts import ReceiptStore
from storage.lifecycle.retention import Retention
from storage.lifecycle.settings import RetentionSettings
from storage.lifecycle.subjects import ids_with
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter


def keeping(database: Database) -> Iterator[Call]:
    """Retention and erasure: what goes, and what is looked for before."""
    days: dict[str, Any] = {name: 360.0 for name in RetentionSettings.model_fields if name.endswith("_days")}
    for wanted in (RetentionSettings(**days), RetentionSettings(texts_days=200)):
        retention = Retention(database, wanted, wait=lambda _: False)
        yield Call("data retain --dry-run", retention.rehearse, 30)
        yield Call("data retain", retention.run, 120)
    keeping = Retention(database, RetentionSettings(), wait=lambda _: False)
    yield Call("data retain --shrink", keeping.shrink, 600)
    erasures, receipts, writer = ErasureStore(database), ReceiptStore(database), ReviewWriter(database)
    ids = list(database.fetch_values(text("SELECT review_id FROM review ORDER BY record LIMIT 3")))
    partitions = PartitionStore(database)

    def erase() -> None:
        number = erasures.request(ids, "walker", "walked", {1: 10})
        erasures.unfinished()
        erasures.withdrawn(only_tombstones=True)
        erasures.proceed(number)
        receipts.add_finding(number, ErasureFinding("elsewhere", 0, "open", ""))
        receipts.receipts(5)
        receipts.open_places([number])
        erasures.days(number)
        lake = ExportErasures(database, "lake")
        lake.can_note()
        lake.to_apply(())
        lake.note(number, "reviews/day=2026-05-01", 1)
        lake.settle([number])
        receipts.close_all()
        with suppress(ReviewLoopError):
            receipts.receipt(10**9)

    yield Call("forget", erase, 60)

    def erase_again() -> None:
        past = PastErasureStore(database)
        _, listed = past.list_all()
        past.unknown(listed)
        past.repeat([one.model_copy(update={"requested_at": datetime.now(UTC)}) for one in listed])
        erasures.proceed(erasures.unfinished()[0])

    yield Call("restore --erasures-only", erase_again, 600)
    yield Call("forget --attribute", lambda: ids_with(database, "author", "nobody"), 60)
    new = partitions.register("walk", "reviews", f"topic of {uuid4()}", 0, 0)
    letter = DeadLetter(0, "parse", "walked", "Walked.", b'{"id": "q"}', None, datetime.now(UTC))
    part = PartitionRange[Any](new.partition_id, 0, 1, [], [letter])
    yield Call("store a batch that may be erased", lambda: writer.write([part]))
    yield Call("adapter: has seen an erased review", lambda: AdapterStore(database).has_seen_erased("none"))


def exporting(database: Database) -> Iterator[Call]:
    """What an export reads: of each partition the last records, and everything that was not exported yet."""
    with open_arrow(database) as arrow, exclusive(database, f"walk-{uuid4()}") as lock:
        source = ExportSource(database, arrow)
        ends = [end for end in source.ends() if end.next_offset > end.start_offset]
        first = [max(end.start_offset, end.next_offset - 1_000) for end in ends]
        yield Call("export: lock", lock.require_held)
        yield Call("export: database", lambda: (source.identity(), source.adapters(), source.ended_jobs()))
        yield Call("export: settled labels", lambda: source.settled_transaction(0))
        for name, read in (("reviews", source.reviews), ("withdrawals", source.withdrawals)):
            yield Call(
                f"export: {name}",
                lambda read=read: [list(read(*at)) for at in zip(ends, first, strict=True)],
                2,
            )
        yield Call(
            "export: predictions",
            lambda: [list(source.predictions(*at, [1])) for at in zip(ends, first, strict=True)],
            2,
        )
        yield Call(
            "export: rescored",
            lambda: [
                list(source.rescored(end._replace(start_offset=at), 1))
                for end, at in zip(ends, first, strict=True)
            ],
            2,
        )
        yield Call("export: labels", lambda: list(source.labels(0, 0, 1 << 62)), 60)
