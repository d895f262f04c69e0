"""Receipts of erasures: what was erased, and what is still open. Erasing itself is a command."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from console.access import Owner, Parts
from console.problems import Missing
from console.rendering import page
from reviews.errors import WrongUse
from storage.lifecycle.receipts import MAX_NUMBER, ReceiptStore

router = APIRouter()

_PAGE = 50
_SHOWN_HASHES = 100
Number = Annotated[int, Path(ge=1, lt=MAX_NUMBER)]


@router.get("/erasures")
def show_erasures(
    request: Request,
    parts: Parts,
    _who: Owner,
    before: Annotated[int, Query(ge=1, le=MAX_NUMBER)] = MAX_NUMBER,
) -> Response:
    """The receipts, the newest first, with what is open on each."""
    store = ReceiptStore(parts.database)
    receipts = store.receipts(_PAGE + 1, before)
    shown = receipts[:_PAGE]
    values = {
        "receipts": shown,
        "open": store.open_places([receipt.id for receipt in shown]),
        "older": shown[-1].id if len(receipts) > _PAGE else None,
    }
    return page(request, "erasures.html", values)


@router.get("/erasures/{number}")
def show_erasure(request: Request, parts: Parts, _who: Owner, number: Number) -> Response:
    """One receipt: what was found where, which adapters have seen it, and hashes of ids and texts."""
    try:
        receipt = ReceiptStore(parts.database).receipt(number)
    except WrongUse as err:
        raise Missing(f"There is no erasure {number}.") from err
    return page(request, "erasure.html", {"receipt": receipt, "shown_hashes": _SHOWN_HASHES})
