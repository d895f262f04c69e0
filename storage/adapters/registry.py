"""The registry of adapters: their files, and the active adapter of each task."""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, Integer, Row, Select, bindparam, func, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError

from reviews.adapter import MANIFEST_FILE, Activation, AdapterVersion
from reviews.errors import AdapterError, ReviewLoopError, WrongUse
from storage.database import Database
from storage.learning.leases import Lease, require_held
from storage.lifecycle.seen import has_seen, require_unseen
from storage.schema.adapters import adapter as adapter_table
from storage.schema.adapters import adapter_activation, adapter_file

MAX_FILE_BYTES = 1_000_000_000
"""PostgreSQL takes a little more in one value, and nothing beyond."""
_PIECE_BYTES = 4 * 1024 * 1024
_FIELDS = tuple(AdapterVersion.__dataclass_fields__)
_ADAPTER_COLUMNS = [adapter_table.c[name] for name in _FIELDS]
_REJECT = text("""
UPDATE adapter a SET state = 'rejected'
 WHERE version = :version AND NOT EXISTS (SELECT FROM adapter_activation s WHERE s.adapter_id = a.id)
""")
_IS_REJECTED = text("SELECT state = 'rejected' FROM adapter WHERE version = :version")
# An active adapter is rejected no more. The row's lock keeps the pruning of rejected ones away.
_ACCEPT = text("UPDATE adapter SET state = 'registered' WHERE version = :version AND state = 'rejected'")
# A rejected adapter whose files were pruned; its lock keeps the next pruning away.
_EMPTIED = text("""
SELECT id FROM adapter a
 WHERE version = :version AND state = 'rejected'
   AND NOT EXISTS (SELECT FROM adapter_file f WHERE f.adapter_id = a.id)
   FOR UPDATE
""")


class ActivationConflict(ReviewLoopError):
    """Another adapter took over meanwhile: look at the active adapter and decide again."""


class AdapterStore:
    """Adds, lists and activates adapters.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, adapter: AdapterVersion, files: Mapping[str, bytes]) -> bool:
        """Register an adapter with its files; adding the same content again changes nothing.

        A rejected one whose files were deleted after a while gets them back, unless it has seen a review
        that was erased.

        Args:
            adapter: What it is: its name, task and labels, and where it comes from.
            files: Content by path inside the adapter directory.

        Returns:
            Whether it was new.

        Raises:
            AdapterError: If the database cannot hold a file, for its size.
        """
        for path, content in files.items():
            if len(content) > MAX_FILE_BYTES:
                raise AdapterError(
                    f"The file {path} of the adapter '{adapter.version}' has {len(content):,} bytes; the "
                    f"database holds at most {MAX_FILE_BYTES:,} of one."
                )
        given = {name: getattr(adapter, name) for name in _FIELDS if name != "created_at"}
        values = {**given, "labels": list(adapter.labels), "metrics": dict(adapter.metrics)}
        statement = (
            upsert(adapter_table).values(values).on_conflict_do_nothing().returning(adapter_table.c.id)
        )
        with self._database.begin() as connection:
            number = connection.execute(statement).scalar()
            emptied = None if number is not None else connection.execute(_EMPTIED, given).scalar()
            if emptied is not None and has_seen(connection, adapter.version):
                emptied = None
            if (owner := number or emptied) is not None:
                _insert_files(connection, owner, files)
        return number is not None

    def newest(self, task: str | None = None, limit: int = 50, offset: int = 0) -> list[AdapterVersion]:
        """Registered adapters, the newest first."""
        query = select(*_ADAPTER_COLUMNS).order_by(adapter_table.c.id.desc()).limit(limit).offset(offset)
        if task is not None:
            query = query.where(adapter_table.c.task == task)
        return [_to_adapter(row) for row in self._database.fetch(query)]

    def registered(self, versions: Collection[str]) -> frozenset[str]:
        """Those of some versions that are registered here."""
        query = select(adapter_table.c.version).where(adapter_table.c.version.in_(versions))
        return frozenset(self._database.fetch_values(query))

    def list_versions(self, task: str | None = None) -> list[AdapterVersion]:
        """Every registered adapter, oldest first."""
        query = select(*_ADAPTER_COLUMNS).order_by(adapter_table.c.id)
        if task is not None:
            query = query.where(adapter_table.c.task == task)
        return [_to_adapter(row) for row in self._database.fetch(query)]

    def find(self, version: str) -> AdapterVersion:
        """One adapter by its version, or by an unambiguous beginning of it.

        Raises:
            WrongUse: If no adapter, or more than one, has that name.
        """
        query = select(*_ADAPTER_COLUMNS).where(adapter_table.c.version.startswith(version, autoescape=True))
        # Every version begins with nothing: an empty name is no beginning of one.
        found = [_to_adapter(row) for row in self._database.fetch(query)] if version else []
        exact = [item for item in found if item.version == version]
        if len(exact or found) != 1:
            problem = "is ambiguous" if found else "is not registered"
            raise WrongUse(f"The adapter '{version}' {problem}: 'reviewloop adapters list' shows them.")
        return (exact or found)[0]

    def files(self, version: str) -> dict[str, bytes]:
        """The files of one adapter, by path, each checked against its stored sha256.

        Raises:
            AdapterError: If it is unknown or a file does not match its hash.
        """
        with self._database.begin() as connection:
            rows = connection.execute(_select_files(version)).all()
            contents = {row.path: _read_content(connection, row) for row in rows}
        if not rows:
            raise AdapterError(f"The database holds no files of the adapter '{version}'.")
        for row in rows:
            if hashlib.sha256(contents[row.path]).hexdigest() != row.sha256:
                raise AdapterError(
                    f"The file {row.path} of the adapter '{version}' is damaged in the database."
                )
        return contents

    def file(self, version: str, path: str) -> bytes | None:
        """One file of one adapter; None where it has no such file."""
        with self._database.begin() as connection:
            query = _select_files(version).where(adapter_file.c.path == path)
            row = connection.execute(query).one_or_none()
            return None if row is None else _read_content(connection, row)

    def size(self, version: str) -> int:
        """How many bytes all files of an adapter have."""
        query = select(func.coalesce(func.sum(func.octet_length(adapter_file.c.content)), 0)).join(
            adapter_table, adapter_table.c.id == adapter_file.c.adapter_id
        )
        return int(self._database.fetch_value(query.where(adapter_table.c.version == version)))

    def manifest(self, version: str) -> Mapping[str, Any]:
        """What an adapter says about itself, for example how it was trained; empty where it says nothing."""
        content = self.file(version, MANIFEST_FILE)
        try:
            found = {} if content is None else json.loads(content)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def active(self, task: str) -> Activation | None:
        """The latest activation of a task; None before the first."""
        query = _select_activations().where(adapter_activation.c.task == task).limit(1)
        row = self._database.fetch_one(query)
        return Activation(*row) if row else None

    def history(self, task: str | None = None, limit: int | None = None) -> list[Activation]:
        """Every activation, or the latest so many, newest first."""
        query = _select_activations().limit(limit)
        if task is not None:
            query = query.where(adapter_activation.c.task == task)
        return [Activation(*row) for row in self._database.fetch(query)]

    def activate(
        self,
        adapter: AdapterVersion,
        *,
        expected: Activation | None,
        decided_by: str,
        reason: str,
        restores: Activation | None = None,
        lease: Lease | None = None,
    ) -> Activation:
        """Let an adapter take over its task from the activation that the caller saw (I7).

        Args:
            adapter: Takes over.
            expected: The latest activation that the caller saw.
            decided_by: Who or what decided.
            reason: Why, in a sentence.
            restores: The earlier activation that a rollback goes back to.
            lease: Has to be held for this; None where a person decides.

        Raises:
            ActivationConflict: If another activation came first; nothing was changed.
            LeaseLost: If the lease is not held any more; nothing was changed.
        """
        with self._database.begin() as connection:
            if lease is not None:
                require_held(connection, lease)
            return insert_activation(
                connection,
                adapter,
                expected=expected,
                decided_by=decided_by,
                reason=reason,
                restores=restores,
            )

    def reject(self, version: str) -> None:
        """Keep that the gate refused an adapter; nothing changes for one that ever served."""
        self._database.execute(_REJECT, {"version": version})

    def has_seen_erased(self, version: str) -> bool:
        """Whether an adapter has seen a review that was erased, so that it has to be replaced."""
        with self._database.begin() as connection:
            return has_seen(connection, version)


def insert_activation(
    connection: Connection,
    adapter: AdapterVersion,
    *,
    expected: Activation | None,
    decided_by: str,
    reason: str,
    restores: Activation | None = None,
) -> Activation:
    """As :meth:`AdapterStore.activate`, within a transaction that does more than this.

    Raises:
        ActivationConflict: If another activation came first; the transaction has to end.
        AdapterError: If the adapter has seen an erased review, or was rejected and has no files any more.
    """
    require_unseen(connection, adapter.version)
    if connection.execute(_IS_REJECTED, {"version": adapter.version}).scalar():
        connection.execute(_ACCEPT, {"version": adapter.version})
        require_files(connection, adapter.version)
    # The unique key on (task, replaces) is the compare-and-set: each activation is replaced once.
    statement = insert(adapter_activation).values(
        task=adapter.task,
        adapter_id=adapter_id(connection, adapter.version),
        replaces=expected.id if expected else None,
        decided_by=decided_by,
        reason=reason,
        restores=restores.id if restores else None,
    )
    try:
        number: int = connection.execute(statement.returning(adapter_activation.c.id)).scalar_one()
    except IntegrityError as err:
        raise ActivationConflict(
            f"Another adapter took over the task '{adapter.task}' meanwhile; nothing was changed. "
            "Look at 'reviewloop adapters list' and decide again."
        ) from err
    return activation(connection, number)


def require_files(connection: Connection, version: str) -> None:
    """Refuse an adapter whose files were deleted, as those of rejected ones are after a while.

    Raises:
        AdapterError: If it has none.
    """
    if connection.execute(_select_files(version).limit(1)).first() is None:
        raise AdapterError(f"The files of {version} were deleted since: it cannot score any more.")


def activation(connection: Connection, number: int) -> Activation:
    """An activation by its number, which has to exist."""
    query = _select_activations().where(adapter_activation.c.id == number)
    return Activation(*connection.execute(query).one())


def adapter_id(connection: Connection, version: str) -> int:
    """The number of an adapter by its version.

    Raises:
        WrongUse: If it is not registered.
    """
    found: int | None = connection.execute(
        select(adapter_table.c.id).where(adapter_table.c.version == version)
    ).scalar()
    if found is None:
        raise WrongUse(
            f"The adapter '{version}' is not registered: 'reviewloop adapters add DIR' registers it."
        )
    return found


def _insert_files(connection: Connection, number: int, files: Mapping[str, bytes]) -> None:
    rows = [
        {
            "adapter_id": number,
            "path": path,
            "sha256": hashlib.sha256(content).hexdigest(),
            "content": content,
        }
        for path, content in sorted(files.items())
    ]
    connection.execute(insert(adapter_file), rows)


def _select_files(version: str) -> Select[Any]:
    """The files of an adapter, without their contents."""
    return (
        select(
            adapter_file.c.adapter_id,
            adapter_file.c.path,
            adapter_file.c.sha256,
            func.octet_length(adapter_file.c.content).label("size"),
        )
        .join(adapter_table, adapter_table.c.id == adapter_file.c.adapter_id)
        .where(adapter_table.c.version == version)
    )


def _read_content(connection: Connection, file: Row[Any]) -> bytes:
    """A file's content in pieces: whole it takes several times its size, and beyond 512 MB does not come."""
    start = bindparam("start", type_=Integer)
    query = select(func.substring(adapter_file.c.content, start, _PIECE_BYTES)).where(
        adapter_file.c.adapter_id == file.adapter_id, adapter_file.c.path == file.path
    )
    starts = range(1, file.size + 1, _PIECE_BYTES)
    return b"".join(connection.execute(query, {"start": start}).scalar_one() for start in starts)


def _to_adapter(row: Row[Any]) -> AdapterVersion:
    return AdapterVersion(**{**row._mapping, "labels": tuple(row.labels)})  # noqa: SLF001  the documented accessor


def _select_activations() -> Select[Any]:
    before = adapter_activation.alias("before")
    replaced = adapter_table.alias("replaced")
    return (
        select(
            adapter_activation.c.id,
            adapter_activation.c.task,
            adapter_table.c.version,
            replaced.c.version.label("replaced"),
            adapter_activation.c.activated_at,
            adapter_activation.c.decided_by,
            adapter_activation.c.reason,
            adapter_activation.c.replaces,
            adapter_activation.c.restores,
        )
        .join(adapter_table, adapter_table.c.id == adapter_activation.c.adapter_id)
        .outerjoin(before, before.c.id == adapter_activation.c.replaces)
        .outerjoin(replaced, replaced.c.id == before.c.adapter_id)
        .order_by(adapter_activation.c.id.desc())
    )
