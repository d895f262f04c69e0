"""What a backup says of itself, and the erasures that are done again after a restore."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from reviews.erasure import MOST_REVIEWS
from reviews.record_id import MAX_OFFSET

MANIFEST_FILE = "manifest.json"
"""Written last: a directory without it is no backup."""
DUMP_FILE = "database.dump"
ERASURES_FILE = "erasures.jsonl"
"""A line on the list itself, then one for each erasure."""

_Name = Annotated[str, Field(max_length=1000)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Number = Annotated[int, Field(ge=0, le=2**63 - 1)]


class _OfBackup(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StoredOffset(_OfBackup):
    """Where one partition of one topic of one cluster was read to.

    Attributes:
        cluster_id: The Kafka cluster.
        topic: The topic's name.
        topic_id: The topic's id; a topic made anew under the same name has another one.
        partition: The number of the partition.
        next_offset: The first offset that is not stored.
    """

    cluster_id: _Name
    topic: _Name
    topic_id: _Name
    partition: Annotated[int, Field(ge=0, lt=2**31)]
    next_offset: Annotated[int, Field(ge=0, le=MAX_OFFSET + 1)]


class BackedUpAdapter(_OfBackup):
    """An adapter, whose files are in the dump.

    Attributes:
        version: The adapter.
        task: What it answers.
        content_hash: Of its files.
        is_active: Whether it was the active one.
    """

    version: _Name
    task: _Name
    content_hash: _Name
    is_active: bool


class BackupContent(_OfBackup):
    """What is in a database, as one snapshot of it shows.

    Attributes:
        revision: Of the schema.
        server: PostgreSQL's major version.
        database_bytes: How large the database is on its server's disk.
        rows: How many each table has, by its name.
        positions: Where each partition was read to.
        adapters: Those that are registered.
    """

    revision: _Name
    server: Annotated[int, Field(ge=1, le=1000)]
    database_bytes: _Number
    rows: dict[str, _Number]
    positions: tuple[StoredOffset, ...]
    adapters: tuple[BackedUpAdapter, ...]


class BackupManifest(_OfBackup):
    """The file by which a backup is checked.

    Attributes:
        kind: What the directory is.
        layout: Of this file; a later version of the program may write another one.
        taken_at: When the snapshot was taken.
        program: The version of ReviewLoop that took it.
        content: What was in the database.
        dump_bytes: The size of the dump.
        dump_sha256: Its checksum.
    """

    kind: Literal["reviewloop backup"] = "reviewloop backup"
    layout: Literal[1] = 1
    taken_at: AwareDatetime
    program: _Name
    content: BackupContent
    dump_bytes: _Number
    dump_sha256: _Sha256


class PastErasure(_OfBackup):
    """An erasure as it can be done again, without the ids.

    Attributes:
        requested_at: When; it tells one erasure from another.
        requested_by: Who asked for it.
        reason: Why.
        hashes: sha256 of each id, as :func:`reviews.erasure.erased_hash` makes it, in hexadecimal digits.
        ends: Where each partition ended then: what is before was erased.
    """

    requested_at: AwareDatetime
    requested_by: _Name
    reason: Annotated[str, Field(max_length=10_000)]
    hashes: Annotated[tuple[_Sha256, ...], Field(min_length=1, max_length=MOST_REVIEWS)]
    ends: tuple[StoredOffset, ...]


class ErasureListing(_OfBackup):
    """The first line of a list of erasures.

    Attributes:
        kind: What the file is.
        listed_at: When: no erasure that was asked for later is on it.
        erasures: How many lines follow.
    """

    kind: Literal["reviewloop erasures"] = "reviewloop erasures"
    listed_at: AwareDatetime
    erasures: _Number
