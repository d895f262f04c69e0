"""Receipts of erasures: what was erased where, what is still open, and the seal that shows a later change."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, text

from reviews.erasure import ErasureFinding, ErasureReceipt, FindingState, SeenBy
from reviews.errors import WrongUse
from storage.database import Database
from storage.lifecycle.exported import PLACE
from storage.lifecycle.seen import adapters_that_saw, retire

MAX_NUMBER = 2**31 - 1
"""No erasure has this number or a greater one."""
_RECEIPTS_AT_ONCE = 200

_RECEIPTS = """
SELECT e.id, e.requested_at, e.requested_by, e.reason,
       (SELECT count(*) FROM erasure_review v WHERE v.erasure_id = e.id) AS reviews,
       e.stage, e.finished_at, e.closed_at, e.seal
  FROM erasure e
"""
_ONE = text(f"{_RECEIPTS} WHERE e.id = :erasure")
_LATEST = text(f"{_RECEIPTS} WHERE e.id < :before ORDER BY e.id DESC LIMIT :limit")
_OPEN = text("""
SELECT erasure_id, place FROM erasure_finding
 WHERE erasure_id = ANY(:erasures) AND state = 'open' ORDER BY erasure_id, place
""")
_NOT_CLOSED = text(
    "SELECT id FROM erasure WHERE stage = 'done' AND closed_at IS NULL ORDER BY id LIMIT :limit"
)
_FOUND = text("""
INSERT INTO erasure_finding AS f (erasure_id, place, rows, state, detail)
VALUES (:erasure, :place, :rows, :state, :detail)
ON CONFLICT (erasure_id, place) DO UPDATE SET rows = f.rows + excluded.rows
""")
_SET = text("""
INSERT INTO erasure_finding AS f (erasure_id, place, rows, state, detail)
VALUES (:erasure, :place, :rows, :state, :detail)
ON CONFLICT (erasure_id, place) DO UPDATE
   SET rows = excluded.rows, state = excluded.state, detail = excluded.detail
""")
# A note that an export makes meanwhile waits, and finds the receipt closed.
_LOCK_FINDINGS = text("LOCK TABLE erasure_finding IN SHARE ROW EXCLUSIVE MODE")
_OPEN_EXPORTS = text("""
SELECT count(*) FROM erasure_finding
 WHERE erasure_id = :erasure AND state = 'open' AND starts_with(place, :place)
""")
_CLOSE = text("UPDATE erasure SET closed_at = clock_timestamp() WHERE id = :erasure")
_FINDINGS = text(
    "SELECT place, rows, state, detail FROM erasure_finding WHERE erasure_id = :erasure ORDER BY place"
)
_HASHES = text("SELECT encode(hash, 'hex') FROM erasure_review WHERE erasure_id = :erasure ORDER BY hash")
_TEXT_HASHES = text("SELECT DISTINCT text_sha256 FROM erasure_record WHERE erasure_id = :erasure ORDER BY 1")
_SEAL_BEFORE = text(
    "SELECT seal FROM erasure WHERE id < :erasure AND seal IS NOT NULL ORDER BY id DESC LIMIT 1"
)
_SEAL = text("UPDATE erasure SET seal = :seal WHERE id = :erasure")


class ReceiptStore:
    """Shows receipts, notes what was found, and closes those that are complete.

    Args:
        database: Where they are.
        after_step: Called after a receipt was closed; for tests.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database, after_step: Callable[[str], None] = lambda _: None) -> None:
        self._database = database
        self._after_step = after_step

    def receipt(self, number: int) -> ErasureReceipt:
        """One receipt.

        Raises:
            WrongUse: If there is none of that number.
        """
        row = self._row(number)
        with self._database.begin() as connection:
            return self._receipt(connection, row)

    def receipts(self, limit: int, before: int = MAX_NUMBER) -> list[ErasureReceipt]:
        """The latest receipts, newest first, without what was found.

        Args:
            limit: At most so many.
            before: With lower numbers.
        """
        rows = self._database.fetch(_LATEST, {"limit": limit, "before": before})
        return [_head(row) for row in rows]

    def open_places(self, numbers: Sequence[int]) -> Mapping[int, list[str]]:
        """What is still open on each of these receipts, by number."""
        found: dict[int, list[str]] = {number: [] for number in numbers}
        for number, place in self._database.fetch(_OPEN, {"erasures": list(numbers)}):
            found[number].append(place)
        return found

    def add_finding(self, number: int, finding: ErasureFinding) -> None:
        """Note what was found elsewhere, such as in files; a second note of a place replaces the first."""
        self._database.execute(_SET, {"erasure": number, **finding._asdict()})

    def close(self, number: int) -> ErasureReceipt:
        """Close a receipt; the receipt as it is.

        It stays open as long as an adapter serves that has seen the reviews, or an export holds them.
        """
        row = self._row(number)
        if row.stage == "done" and row.closed_at is None:
            with self._database.begin() as connection:
                connection.execute(_LOCK_FINDINGS)
                exports = connection.execute(_OPEN_EXPORTS, {"erasure": number, "place": PLACE}).scalar()
                seen = adapters_that_saw(connection, number)
                if not exports and not any(one.is_serving for one in seen):
                    note_rows(connection, number, "adapter_file", retire(connection, number))
                    connection.execute(_CLOSE, {"erasure": number})
                    self._seal(connection, number)
            self._after_step("closed")
        return self.receipt(number)

    def close_all(self) -> int:
        """Close every receipt that can be; how many were."""
        numbers = self._database.fetch_values(_NOT_CLOSED, {"limit": _RECEIPTS_AT_ONCE})
        return sum(self.close(number).closed_at is not None for number in numbers)

    def _row(self, number: int) -> Any:
        row = self._database.fetch_one(_ONE, {"erasure": number})
        if row is None:
            raise unknown_erasure(number)
        return row

    def _receipt(self, connection: Connection, row: Any) -> ErasureReceipt:
        given = {"erasure": row.id}
        adapters: list[SeenBy] = adapters_that_saw(connection, row.id)
        return _head(row)._replace(
            hashes=list(connection.execute(_HASHES, given).scalars()),
            texts=list(connection.execute(_TEXT_HASHES, given).scalars()),
            findings=[ErasureFinding(*one) for one in connection.execute(_FINDINGS, given)],
            adapters=adapters,
        )

    def _seal(self, connection: Connection, number: int) -> None:
        """A hash over the receipt and the seal before it: what is changed later shows."""
        row = connection.execute(_ONE, {"erasure": number}).one()
        receipt = self._receipt(connection, row)._replace(seal=None, adapters=[])
        before = connection.execute(_SEAL_BEFORE, {"erasure": number}).scalar() or ""
        connection.execute(_SEAL, {"erasure": number, "seal": seal_of(receipt, before)})


def note_rows(connection: Connection, number: int, place: str, rows: int) -> None:
    """Note so many rows of a place as erased, in addition to those that were noted before."""
    if rows:
        state: FindingState = "erased"
        given = {"erasure": number, "place": place, "rows": rows, "state": state, "detail": ""}
        connection.execute(_FOUND, given)


def unknown_erasure(number: int) -> WrongUse:
    """The error that there is no erasure of a number."""
    return WrongUse(f"There is no erasure {number}: 'reviewloop forget --list' shows them.")


def seal_of(receipt: ErasureReceipt, before: str) -> str:
    """The seal of a receipt.

    Args:
        receipt: Its own seal and the adapters, which may be deleted later, do not count.
        before: The seal of the receipt before it; empty for the first.
    """
    plain = receipt._replace(seal=None, adapters=[])._asdict()
    plain["findings"] = [list(one) for one in receipt.findings if one.state == "erased"]
    said = json.dumps({**plain, "before": before}, default=str, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()


def _head(row: Any) -> ErasureReceipt:
    """A receipt without what was found."""
    return ErasureReceipt(
        row.id, row.requested_at, row.requested_by, row.reason, row.reviews, row.stage, row.finished_at,
        row.closed_at, seal=row.seal,
    )  # fmt: skip
