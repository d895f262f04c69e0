"""Dead letters: by reason, one with its bytes, corrected and replayed, discarded, many at once."""

from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from console.access import Operator, Parts, Viewer
from console.byte_view import editable, edited
from console.letters import (
    EDITED_BYTES,
    SHOWN_BYTES,
    cursor_of,
    decision_about,
    parser_of,
    position_of,
    view_letter,
)
from console.parts import ConsoleParts
from console.rendering import done, page
from console.replaying import choose_letters, discard_letters, replay_letters
from reviews.account import LONGEST_REASON
from reviews.dead_letter import DeadLetterStage
from reviews.errors import InvalidMessage, WrongUse
from storage.stream.dead_letters import Choice, ChosenLetter, DeadLetterStore
from storage.stream.letters_by_reason import COUNTED_LETTERS, LetterLine, count_reasons, list_letters

router = APIRouter()

MOST_AT_ONCE = 1_000
"""So many are replayed or discarded by one form."""
STATES = ("waiting", "replayed", "discarded")
_PAGE = 50
_LONGEST_NAME = 200

Reason = Annotated[str, Form(max_length=LONGEST_REASON)]
ShortName = Annotated[str, Query(max_length=_LONGEST_NAME)]


class ManyLetters(BaseModel):
    """A form about many dead letters.

    Attributes:
        which: Whether those that were ticked are meant, or all that wait with a reason.
        record: The ticked ones.
        stage: The stage of the list that was shown; empty for all.
        reason_name: The reason of the list that was shown; empty for all.
        reason: Why, for the audit log.
    """

    which: Literal["ticked", "all"]
    record: list[int] = Field(default=[], max_length=MOST_AT_ONCE)
    stage: DeadLetterStage | Literal[""] = ""
    reason_name: str = Field(default="", max_length=_LONGEST_NAME)
    reason: str = Field(default="", max_length=LONGEST_REASON)


@router.get("/dead-letters")
def show_dead_letters(
    request: Request,
    parts: Parts,
    _who: Viewer,
    *,
    state: Annotated[str, Query(pattern="^(waiting|replayed|discarded)$")] = "waiting",
    stage: ShortName = "",
    reason: ShortName = "",
    before: Annotated[str | None, Query(max_length=1000)] = None,
) -> Response:
    """Dead letters of one state by reason, the latest first."""
    lines = list_letters(
        parts.database,
        state=state,
        stage=stage or None,
        reason=reason or None,
        before=position_of(before),
        limit=_PAGE + 1,
    )
    chosen = {"state": state, "stage": stage, "reason": reason}
    values = {
        **chosen,
        "states": [(name.capitalize(), f"/dead-letters?state={name}") for name in STATES],
        "reasons": count_reasons(parts.database, state),
        "counted": COUNTED_LETTERS,
        "letters": lines[:_PAGE],
        "older": _address(**chosen, before=cursor_of(lines[_PAGE - 1])) if len(lines) > _PAGE else "",
        "most": MOST_AT_ONCE,
        "address": _address,
        "begins": _begins,
    }
    return page(request, "dead_letters.html", values)


@router.post("/dead-letters/replay")
def replay_many(parts: Parts, who: Operator, form: Annotated[ManyLetters, Form()]) -> Response:
    """Publish the chosen dead letters anew, or the oldest with a reason."""
    chosen = _chosen(parts, form)
    with decision_about(parts, who, "dead_letters.replay", chosen, form.reason):
        result = replay_letters(parts.kafka, DeadLetterStore(parts.database), chosen)
    left_out = f" {len(result.cut):,} were left out: only their beginning was kept." if result.cut else ""
    return done(
        _address(stage=form.stage, reason=form.reason_name),
        f"Published {result.published:,} anew. Each is settled when a worker has stored its row.{left_out}",
    )


@router.post("/dead-letters/discard")
def discard_many(parts: Parts, who: Operator, form: Annotated[ManyLetters, Form()]) -> Response:
    """Settle the chosen dead letters, or the oldest with a reason, for a reason that is kept."""
    chosen = _chosen(parts, form)
    with decision_about(parts, who, "dead_letters.discard", chosen, form.reason):
        discarded = discard_letters(DeadLetterStore(parts.database), chosen, form.reason)
    return done(_address(stage=form.stage, reason=form.reason_name), f"Discarded {discarded:,} dead letters.")


@router.get("/dead-letters/{record}")
def show_dead_letter(
    request: Request,
    parts: Parts,
    _who: Viewer,
    record: int,
    *,
    start: Annotated[int | None, Query(ge=0)] = None,
    hint: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    """One dead letter, with its bytes and what is wrong with them."""
    return _show(request, parts, record, start=start, hint=hint)


@router.post("/dead-letters/{record}/replay")
def replay_one(
    request: Request,
    parts: Parts,
    who: Operator,
    record: int,
    *,
    value: Annotated[str | None, Form(max_length=2 * EDITED_BYTES)] = None,
    reason: Reason = "",
) -> Response:
    """Publish a dead letter anew, with an edited value where one is given."""
    corrected = None if value is None else edited(value)
    store = DeadLetterStore(parts.database)
    chosen = choose_letters(store, Choice(records=(record,)))
    if corrected is not None:
        try:
            parser_of(parts, next(store.read(chosen)))(corrected)
        except InvalidMessage as err:
            return _show(request, parts, record, text=value, error=str(err), status=422)
    with decision_about(parts, who, "dead_letters.replay", chosen, reason):
        replay_letters(parts.kafka, store, chosen, value=corrected, is_named=True)
    return done(f"/dead-letters/{record}", "Published anew. It is settled when a worker has stored its row.")


@router.post("/dead-letters/{record}/discard")
def discard_one(parts: Parts, who: Operator, record: int, reason: Reason = "") -> Response:
    """Settle a dead letter for a reason that is kept."""
    store = DeadLetterStore(parts.database)
    chosen = choose_letters(store, Choice(records=(record,)))
    with decision_about(parts, who, "dead_letters.discard", chosen, reason):
        discard_letters(store, chosen, reason)
    return done(f"/dead-letters/{record}", "Discarded.")


def _show(
    request: Request,
    parts: ConsoleParts,
    record: int,
    *,
    start: int | None = None,
    hint: int | None = None,
    text: str | None = None,
    error: str = "",
    status: int = 200,
) -> Response:
    """The page of one dead letter; an edited text stays in the form, whatever is wrong with it."""
    view = view_letter(parts, record, start)
    if text is None and view.text is not None:
        text = view.text.text
    if hint is not None and hint < len(view.hints) and (corrected := view.hints[hint].corrected) is not None:
        text = editable(corrected).text
    values = {
        "view": view,
        "line": view.line,
        "key": (view.letter.key or b"").decode(errors="replace"),
        "text": text,
        "error": error,
        "shown_bytes": SHOWN_BYTES,
    }
    return page(request, "dead_letter.html", values, status=status)


def _chosen(parts: ConsoleParts, form: ManyLetters) -> list[ChosenLetter]:
    """The dead letters that were ticked, or the oldest with a reason."""
    store = DeadLetterStore(parts.database)
    if form.which == "all" and form.stage and form.reason_name:
        return choose_letters(store, Choice(error=form.reason_name, stage=form.stage, limit=MOST_AT_ONCE))
    if not form.record:
        raise WrongUse("No dead letter is chosen: tick at least one of them.")
    return choose_letters(store, Choice(records=tuple(form.record)))


def _begins(line: LetterLine) -> str:
    """The beginning of a value as text."""
    return "no value" if line.beginning is None else line.beginning.decode(errors="replace")


def _address(**values: str) -> str:
    given = {name: value for name, value in values.items() if value}
    return f"/dead-letters?{urlencode(given)}" if given else "/dead-letters"
