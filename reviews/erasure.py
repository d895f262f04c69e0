"""Erasure of reviews: how an erased one is known again without its id, and the forms that ids take."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

ERASED = "[erased]"
"""What replaces an erased id or text inside of what people wrote."""
MOST_REVIEWS = 10_000
"""One erasure is about so many reviews at most."""
DISTINCT_CHARACTERS = 16
"""Shorter texts, such as "good", are in many places for other reasons: they are not searched alone."""
DISTINCT_ID_BYTES = 8
"""Shorter ids are searched in quotes only."""
_BEGINNING_CHARACTERS = 200
_SALT = b"reviewloop erased\0"

Stage = Literal["requested", "traced", "scrubbed", "deleted", "done"]
"""How far an erasure is; each next one begins where the last one was committed."""
STAGES: tuple[Stage, ...] = ("requested", "traced", "scrubbed", "deleted", "done")
FindingState = Literal["erased", "open"]
"""``open``: a person has to see to it, or time does, such as Kafka's retention."""


def erased_hash(review_id: str) -> bytes:
    """What is kept of an erased review's id: 32 bytes that tell the id again to who has it already."""
    return hashlib.sha256(_SALT + review_id.encode("utf-8", "surrogatepass")).digest()


def written_ids(review_id: str) -> Iterator[bytes]:
    """The forms in which records and files hold an id."""
    plain = review_id.encode("utf-8", "surrogatepass")
    if len(plain) >= DISTINCT_ID_BYTES and not review_id.isdigit():
        yield plain
    yield json.dumps(review_id, ensure_ascii=False).encode("utf-8", "surrogatepass")
    yield json.dumps(review_id).encode()
    if review_id.isdigit():  # publishers also write it as a number
        for before in (":", ": "):
            for behind in (",", "}"):
                yield f"{before}{review_id}{behind}".encode()


def written_texts(text: str) -> Iterator[bytes]:
    """The forms in which records and files hold the beginning of a text; none of one that is too short."""
    if len(text) < DISTINCT_CHARACTERS:
        return
    beginning = text[:_BEGINNING_CHARACTERS]
    forms = (beginning, json.dumps(beginning, ensure_ascii=False)[1:-1], json.dumps(beginning)[1:-1])
    yield from {form.encode("utf-8", "surrogatepass") for form in forms}


class ErasureFinding(NamedTuple):
    """Where something of the erased reviews was.

    Attributes:
        place: A table, or what else holds copies.
        rows: How many rows, files or records.
        state: ``erased``; or ``open`` where this program cannot erase it by itself.
        detail: What is to be done, or why it is harmless.
    """

    place: str
    rows: int
    state: FindingState
    detail: str


class SeenBy(NamedTuple):
    """An adapter that has seen an erased review, or whose files hold one.

    Attributes:
        version: The adapter.
        is_serving: Whether it is active or on trial, itself or as a member of an ensemble.
    """

    version: str
    is_serving: bool


class ErasureReceipt(NamedTuple):
    """What was erased, by whom, and what is still to be done.

    Attributes:
        id: Its number.
        requested_at: When (UTC).
        requested_by: Who asked for it.
        reason: Why, in the person's words.
        reviews: How many ids.
        stage: How far it is.
        finished_at: When everything in the database was gone; None before.
        closed_at: When no adapter served any more that had seen it; None before.
        hashes: sha256 of each id (:func:`erased_hash`), as hexadecimal digits.
        texts: sha256 of each text, as hexadecimal digits.
        findings: What was found where.
        adapters: Which adapters have seen it, as far as they are still there.
        seal: sha256 over the receipt and the seal of the one before it, which shows later changes; None
            before it is closed.
    """

    id: int
    requested_at: datetime
    requested_by: str
    reason: str
    reviews: int
    stage: Stage
    finished_at: datetime | None
    closed_at: datetime | None
    hashes: Sequence[str] = ()
    texts: Sequence[str] = ()
    findings: Sequence[ErasureFinding] = ()
    adapters: Sequence[SeenBy] = ()
    seal: str | None = None

    @property
    def state(self) -> str:
        """``at work (…)``, then ``erased``, and ``closed`` in the end."""
        if self.closed_at is not None:
            return "closed"
        return "erased" if self.finished_at is not None else f"at work ({self.stage})"
