"""Dead letters for programs."""

import base64
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Base64Bytes, BaseModel, Field

from console.access import Operator, Parts, Viewer
from console.api.bodies import Body
from console.api.paging import Cursor, Limit, Piece
from console.letters import cursor_of, decision_about, parser_of, position_of, view_letter
from console.replaying import choose_letters, discard_letters, replay_letters
from reviews.account import LONGEST_REASON
from reviews.errors import WrongUse
from storage.stream.dead_letters import Choice, DeadLetterStore
from storage.stream.letters_by_reason import LetterLine, count_reasons, list_letters

router = APIRouter(tags=["dead letters"])

_MOST_AT_ONCE = 1_000
_MOST_BYTES = 1024 * 1024
LetterState = Literal["waiting", "replayed", "discarded", "superseded"]
Name = Annotated[str | None, Query(max_length=200)]


class ApiLetter(BaseModel):
    """A record that could not become a review or a label."""

    record: int = Field(description="Its number here.")
    place: str = Field(description="TOPIC:PARTITION:OFFSET.")
    stage: str
    reason: str
    message: str
    state: str
    received_at: datetime
    attempts: int
    bytes: int | None = Field(description="The length of its value; null for a tombstone.")
    is_cut: bool = Field(description="Whether only the beginning was kept.")
    state_reason: str | None


class ApiLetterHint(BaseModel):
    """One thing that is wrong with a value."""

    text: str
    corrected_base64: str | None = Field(description="A value without it that can be read, if there is one.")


class ApiLetterDetail(ApiLetter):
    """A dead letter with its bytes."""

    value_base64: str | None
    key_base64: str | None
    hints: list[ApiLetterHint]


class ApiReason(BaseModel):
    """How many dead letters of one state have a reason."""

    stage: str
    reason: str
    letters: int = Field(description="Counted up to 10,000; 10,001 where there are more.")
    latest_at: datetime


class LettersToReplay(Body):
    """Dead letters to be published anew."""

    records: list[int] = Field(min_length=1, max_length=_MOST_AT_ONCE)
    value_base64: Base64Bytes | None = Field(
        default=None,
        description="The value to publish in place of the one that was kept, of one dead letter.",
    )
    reason: str = Field(default="", max_length=LONGEST_REASON, description="For the audit log.")


class LettersToDiscard(Body):
    """Dead letters that nobody will correct."""

    records: list[int] = Field(min_length=1, max_length=_MOST_AT_ONCE)
    reason: str = Field(min_length=1, max_length=LONGEST_REASON, description="Kept with them.")


class ApiReplay(BaseModel):
    """How many were published, and which were left out since only their beginning was kept."""

    published: int
    cut: list[str]


class ApiDiscard(BaseModel):
    """How many were discarded, other attempts at the same records among them."""

    discarded: int


@router.get("/dead-letters")
def read_dead_letters(
    parts: Parts,
    _who: Viewer,
    *,
    state: LetterState = "waiting",
    stage: Name = None,
    reason: Name = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Piece[ApiLetter]:
    """Dead letters, the latest received first."""
    lines = list_letters(
        parts.database, state=state, stage=stage, reason=reason, before=position_of(cursor), limit=limit + 1
    )
    further = cursor_of(lines[limit - 1]) if len(lines) > limit else None
    return Piece(items=[_letter(line) for line in lines[:limit]], next=further)


@router.get("/dead-letters/reasons")
def read_reasons(parts: Parts, _who: Viewer, state: LetterState = "waiting") -> list[ApiReason]:
    """How many dead letters have each reason, the most frequent first."""
    return [ApiReason(**count._asdict()) for count in count_reasons(parts.database, state)]


@router.get("/dead-letters/{record}")
def read_dead_letter(parts: Parts, _who: Viewer, record: int) -> ApiLetterDetail:
    """One dead letter with its bytes, and what is wrong with them."""
    view = view_letter(parts, record)
    said = [ApiLetterHint(text=hint.text, corrected_base64=_base64(hint.corrected)) for hint in view.hints]
    return ApiLetterDetail(
        **_letter(view.line).model_dump(),
        value_base64=_base64(view.letter.raw),
        key_base64=_base64(view.letter.key),
        hints=said,
    )


@router.post("/dead-letters/replay")
def replay_dead_letters(parts: Parts, who: Operator, body: LettersToReplay) -> ApiReplay:
    """Publish dead letters anew; each is settled when a worker has stored its row."""
    value, store = body.value_base64, DeadLetterStore(parts.database)
    chosen = choose_letters(store, Choice(records=tuple(body.records)))
    if value is not None:
        if len(chosen) != 1:
            raise WrongUse("A value corrects one dead letter: name one.")
        if len(value) > _MOST_BYTES:
            raise WrongUse(f"The value has more than {_MOST_BYTES:,} bytes.")
        parser_of(parts, next(store.read(chosen)))(value)
    with decision_about(parts, who, "dead_letters.replay", chosen, body.reason):
        result = replay_letters(parts.kafka, store, chosen, value=value)
    return ApiReplay(published=result.published, cut=list(result.cut))


@router.post("/dead-letters/discard")
def discard_dead_letters(parts: Parts, who: Operator, body: LettersToDiscard) -> ApiDiscard:
    """Settle dead letters for a reason that is kept."""
    store = DeadLetterStore(parts.database)
    chosen = choose_letters(store, Choice(records=tuple(body.records)))
    with decision_about(parts, who, "dead_letters.discard", chosen, body.reason):
        return ApiDiscard(discarded=discard_letters(store, chosen, body.reason))


def _letter(line: LetterLine) -> ApiLetter:
    return ApiLetter(
        record=line.record,
        place=line.place,
        stage=line.stage,
        reason=line.reason,
        message=line.message,
        state=line.state,
        received_at=line.received_at,
        attempts=line.attempts,
        bytes=line.full_bytes,
        is_cut=line.is_cut,
        state_reason=line.state_reason,
    )


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()
