"""Backups: a dump of the whole database with a manifest, and the list of what was erased.

The dump, the rows that are counted and the positions in the manifest are of one snapshot. The list of
erasures is a file of its own, because it has to be newer than the backup: what is erased after a backup is
still in it.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, TypeVar

import structlog
from pydantic import BaseModel, ValidationError

from reviewloop.operations.dump_programs import dump, find_programs, list_dump, load
from reviewloop.settings import Settings
from reviewloop.wiring.erasing import continue_erasure
from reviews.backup import (
    DUMP_FILE,
    ERASURES_FILE,
    MANIFEST_FILE,
    BackupContent,
    BackupManifest,
    ErasureListing,
    PastErasure,
)
from reviews.durable import replacing, write_file
from reviews.errors import ReviewLoopError, WrongUse
from storage.backup import address_of_empty, content_of, settle, snapshot_of
from storage.database import Database
from storage.lifecycle.erasure import ErasureStore
from storage.lifecycle.past_erasures import PastErasureStore
from storage.migrate import require_known, upgrade

log = structlog.get_logger()

_MOST_MANIFEST_BYTES = 64 * 2**20
_MOST_LIST_BYTES = 2**30
_PART_BYTES = 2**20
_MOST_SHOWN = 3
_ModelT = TypeVar("_ModelT", bound=BaseModel)


class Backup(NamedTuple):
    """A backup that was found whole.

    Attributes:
        directory: Where it is.
        manifest: What it says of itself.
        listed_at: When its list of erasures was written.
        erasures: That list.
    """

    directory: Path
    manifest: BackupManifest
    listed_at: datetime
    erasures: Sequence[PastErasure]


class Restored(NamedTuple):
    """What a restore did beside the dump.

    Attributes:
        erasures: How many erasures were done again.
        reviews: How many reviews were erased again by them.
        open_receipts: How many receipts are not closed yet.
    """

    erasures: int
    reviews: int
    open_receipts: int


def back_up(database: Database, directory: Path) -> BackupManifest:
    """Write a backup into a new directory, which is there when it is whole, for its owner alone.

    Raises:
        WrongUse: If the directory holds something, or there is no pg_dump for this server.
        ReviewLoopError: If the disk or pg_dump fails; there is no directory then.
        Unavailable: If the database does not answer.
    """
    if directory.is_symlink() or (
        directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
    ):
        raise WrongUse(f"{directory} is there already: name a new directory for each backup.")
    try:
        with replacing(directory) as staging:
            staging.mkdir(mode=0o700)
            return _write_backup(database, staging)
    except OSError as err:
        raise ReviewLoopError(f"The backup was not written: {err}.") from err


def _write_backup(database: Database, directory: Path) -> BackupManifest:
    file = directory / DUMP_FILE
    file.touch(mode=0o600)
    with snapshot_of(database) as snapshot:
        programs = find_programs(snapshot.address.major)
        dump(programs, snapshot.address, snapshot.name, file)
        content = snapshot.content()
    with file.open("rb") as written:
        os.fsync(written.fileno())
    size, checksum = _measured(file)
    manifest = BackupManifest(
        taken_at=snapshot.taken_at,
        program=version("reviewloop"),
        content=content,
        dump_bytes=size,
        dump_sha256=checksum,
    )
    list_erasures(database, directory)
    write_file(directory / MANIFEST_FILE, manifest.model_dump_json(indent=1).encode(), secret=True)
    return manifest


def list_erasures(database: Database, directory: Path) -> int:
    """Write the list of all erasures into a backup anew; how many there are.

    Raises:
        WrongUse: If there is no such directory.
        ReviewLoopError: If the disk refuses; the list is as before.
    """
    if not directory.is_dir():
        raise WrongUse(f"There is no backup {directory}.")
    moment, erasures = PastErasureStore(database).list_all()
    lines: list[BaseModel] = [ErasureListing(listed_at=moment, erasures=len(erasures)), *erasures]
    content = "".join(f"{line.model_dump_json()}\n" for line in lines)
    try:
        write_file(directory / ERASURES_FILE, content.encode(), secret=True)
    except OSError as err:
        raise ReviewLoopError(f"The list of erasures was not written: {err}.") from err
    return len(erasures)


def read_backup(directory: Path) -> Backup:
    """A backup, after everything that can be checked without a database.

    Raises:
        WrongUse: If there is none, or it is incomplete, damaged, or of a newer version of this program.
    """
    manifest = _parsed(BackupManifest, _read_small(directory / MANIFEST_FILE), directory / MANIFEST_FILE)
    require_known(manifest.content.revision)
    file = directory / DUMP_FILE
    _require_file(file)
    if file.stat().st_size != manifest.dump_bytes:
        raise WrongUse(
            f"{file} has {file.stat().st_size:,} bytes, and had {manifest.dump_bytes:,}: it is incomplete or "
            "another one. Use another backup."
        )
    if _measured(file)[1] != manifest.dump_sha256:
        raise WrongUse(f"{file} is damaged: its checksum is not that of the manifest. Use another backup.")
    list_dump(find_programs(manifest.content.server), file)
    listing, erasures = read_erasures(directory)
    return Backup(directory, manifest, listing.listed_at, erasures)


def read_erasures(directory: Path) -> tuple[ErasureListing, list[PastErasure]]:
    """The list of erasures of a backup.

    Raises:
        WrongUse: If there is none, or it is incomplete or damaged.
    """
    file = directory / ERASURES_FILE
    _require_file(file)
    lines = _lines(file)
    listing = _parsed(ErasureListing, next(lines, b""), file)
    erasures = [_parsed(PastErasure, line, file) for line in lines]
    if len(erasures) != listing.erasures:
        raise WrongUse(
            f"{file} is incomplete: it has {len(erasures):,} erasures of {listing.erasures:,}. Write it anew "
            "with 'reviewloop backup DIR --erasures-only' where the database still is."
        )
    return listing, erasures


def restore(settings: Settings, database: Database, backup: Backup) -> Restored:
    """Restore a backup into an empty database, check it, and erase again what was erased since.

    Raises:
        WrongUse: If the database is not empty, or its server is older than that of the backup.
        ReviewLoopError: If it could not be restored, and the database is empty; or if it is not what the
            manifest says.
    """
    address = address_of_empty(database)
    content = backup.manifest.content
    if address.major < content.server:
        raise WrongUse(
            f"The backup is of PostgreSQL {content.server}, and this server is PostgreSQL {address.major}: "
            "restore it on the same version or a newer one."
        )
    load(find_programs(address.major), address, backup.directory / DUMP_FILE)
    _require_same(content, content_of(database))
    upgrade(database)
    return finish_restore(settings, database, backup.erasures)


def finish_restore(settings: Settings, database: Database, erasures: Sequence[PastErasure]) -> Restored:
    """What has to follow any restore, before workers start; it may be repeated.

    Raises:
        Unavailable: If the database does not answer; repeat it.
    """
    settle(database)
    past, store = PastErasureStore(database), ErasureStore(database)
    unknown = past.unknown(erasures)
    reviews = past.repeat(unknown)
    receipts = [continue_erasure(settings, database, number) for number in _unfinished(store)]
    return Restored(len(unknown), reviews, sum(one.closed_at is None for one in receipts))


def _unfinished(store: ErasureStore) -> Iterator[int]:
    while numbers := store.unfinished():
        yield from numbers


def _require_same(said: BackupContent, found: BackupContent) -> None:
    """Refuse a database that is not what the manifest says."""
    wrong = [
        name for name in ("revision", "positions", "adapters") if getattr(said, name) != getattr(found, name)
    ]
    wrong += [
        f"the rows of {table} ({found.rows.get(table, 0):,} of {rows:,})"
        for table, rows in said.rows.items()
        if found.rows.get(table) != rows
    ]
    if wrong:
        shown = ", ".join(wrong[:_MOST_SHOWN]) + (" …" if len(wrong) > _MOST_SHOWN else "")
        raise ReviewLoopError(
            f"The restored database is not what the manifest says: {shown}. Drop it, and use another backup."
        )


def _measured(file: Path) -> tuple[int, str]:
    """Size and checksum of a file."""
    found, size = hashlib.sha256(), 0
    with file.open("rb") as opened:
        while part := opened.read(_PART_BYTES):
            found.update(part)
            size += len(part)
    return size, found.hexdigest()


def _require_file(file: Path) -> None:
    if file.is_symlink() or not file.is_file():
        raise WrongUse(f"{file} is missing: that directory is no whole backup.")


def _read_small(file: Path) -> bytes:
    _require_file(file)
    with file.open("rb") as opened:
        content = opened.read(_MOST_MANIFEST_BYTES + 1)
    if len(content) > _MOST_MANIFEST_BYTES:
        raise WrongUse(f"{file} is no manifest of a backup: it is too large.")
    return content


def _lines(file: Path) -> Iterator[bytes]:
    if file.stat().st_size > _MOST_LIST_BYTES:
        raise WrongUse(f"{file} is no list of erasures: it is too large.")
    with file.open("rb") as opened:
        yield from opened


def _parsed(model: type[_ModelT], content: bytes, file: Path) -> _ModelT:
    try:
        return model.model_validate_json(content)
    except ValidationError as err:
        first = err.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise WrongUse(
            f"{file} is damaged, or of another version of this program: {place or 'JSON'}: {first['msg']}."
        ) from None
