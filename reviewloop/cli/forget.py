"""``reviewloop forget``: erase reviews everywhere, and show the receipts."""

import getpass
from pathlib import Path
from typing import Annotated, Any

import typer

from reviewloop.cli.arguments import configured
from reviewloop.cli.output import RecordFormatOption, chosen_format, print_record, print_rows
from reviewloop.operations.logs import configure_logging
from reviewloop.settings import Settings
from reviewloop.terminal import say, say_named
from reviewloop.wiring.erasing import continue_erasure, erase
from reviews.erasure import ErasureReceipt
from reviews.errors import WrongUse
from storage.accounts.audit_log import AuditLog
from storage.database import Database
from storage.lifecycle.erasure import ErasureStore
from storage.lifecycle.receipts import ReceiptStore
from storage.lifecycle.subjects import ids_with
from trainer.data.table_rows import Column
from trainer.data.tables import checked_rows, open_table

_INDENT = 14
_TABLE = ("erasure", "state", "reviews", "requested_at", "requested_by", "finished_at", "closed_at", "reason")


def forget(
    reviews: Annotated[
        list[str] | None, typer.Argument(help="Ids of reviews.", metavar="REVIEW_ID...")
    ] = None,
    *,
    attribute: Annotated[
        str | None,
        typer.Option(help="Also every review with this: NAME=VALUE of an attribute, product or source."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Also the ids in a table: its column 'id', or the one of --column.")
    ] = None,
    column: Annotated[str, typer.Option(help="Column of --file with the ids.")] = "id",
    reason: Annotated[
        str, typer.Option(help="Why, in a sentence; without ids and names.")
    ] = "Asked to erase.",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many; erase nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Show the latest erasures instead.")] = False,
    show: Annotated[int | None, typer.Option(help="Show the receipt of this erasure instead.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue what was begun, and close what can be.")
    ] = False,
    output: RecordFormatOption = None,
) -> None:
    """Erase reviews and every copy in the database, and show the receipts.

    That is all versions, and what adapters and people said of them. What is still in Kafka is not stored
    again. Adapters that have seen a review are replaced by the next training run, and the receipt is closed
    when none of them serves. It cannot be undone. Run it as the owner of the tables, or with the role of
    'db roles --keeper'.
    """
    configure_logging(quiet=True)
    given = bool(reviews or attribute or file)
    if listed + (show is not None) + resume + given != 1:
        raise WrongUse(
            "Name reviews by id, --attribute or --file; or give one of --list, --show and --resume."
        )
    with configured() as (settings, database):
        receipts = ReceiptStore(database)
        if listed:
            print_rows(map(_row, receipts.receipts(100)), output_of(output), table_columns=_TABLE)
        elif show is not None:
            _print(receipts.receipt(show), output)
        elif resume:
            _resume(settings, database, receipts)
        else:
            ids = [*(reviews or ()), *_of_file(file, column), *_of_attribute(database, attribute)]
            ids = list(dict.fromkeys(ids))
            if dry_run:
                say(f"{len(ids):,} reviews would be erased.")
                return
            _erase(settings, database, ids, reason, output, yes=yes)


def output_of(output: Any) -> Any:
    """The format of a list where that of one record was asked for."""
    return "jsonl" if output == "json" else output


def _erase(
    settings: Settings, database: Database, ids: list[str], reason: str, output: Any, *, yes: bool
) -> None:
    if not ids:
        raise WrongUse("No review is named by that: nothing was erased.")
    if not yes and not typer.confirm(f"Erase {len(ids):,} reviews? This cannot be undone.", err=True):
        raise WrongUse("Nothing was erased.")
    by = getpass.getuser()
    with AuditLog(database).decision(
        f"command line, {by}", "review.forget", f"{len(ids)} reviews", reason=reason
    ):
        receipt = erase(settings, database, ids, by, reason)
    _print(receipt, output)


def _resume(settings: Settings, database: Database, receipts: ReceiptStore) -> None:
    left = ErasureStore(database).unfinished()
    for number in left:
        continue_erasure(settings, database, number)
    closed = receipts.close_all()
    say(f"{len(left)} erasures continued, {closed} receipts closed.")


def _of_file(file: Path | None, column: str) -> list[str]:
    if file is None:
        return []
    wanted = [Column(column, "--column")]
    with open_table(file, wanted) as table:
        return [str(row.values[column]) for row in checked_rows(table, wanted) if row.values.get(column)]


def _of_attribute(database: Database, attribute: str | None) -> list[str]:
    if attribute is None:
        return []
    name, is_given, value = attribute.partition("=")
    if not (name and is_given and value):
        raise WrongUse(f"'{attribute}' names nothing: give NAME=VALUE, for example author=ann.")
    return ids_with(database, name, value)


def _row(receipt: ErasureReceipt) -> dict[str, Any]:
    return {
        "erasure": receipt.id,
        "state": receipt.state,
        "reviews": receipt.reviews,
        "requested_at": receipt.requested_at,
        "requested_by": receipt.requested_by,
        "finished_at": receipt.finished_at,
        "closed_at": receipt.closed_at,
        "reason": receipt.reason,
        "seal": receipt.seal,
    }


def _print(receipt: ErasureReceipt, output: Any) -> None:
    form = chosen_format(output)
    if form != "table":
        record = {**_row(receipt), "id_hashes": receipt.hashes, "text_hashes": receipt.texts}
        record["findings"] = [one._asdict() for one in receipt.findings]
        record["adapters"] = [one._asdict() for one in receipt.adapters]
        print_record(record, form)
        return
    for name, value in _row(receipt).items():
        say_named(name, "" if value is None else value, _INDENT)
    for one in receipt.findings:
        rows = f": {one.rows:,}" if one.rows or one.state == "erased" else ""
        detail = f"; {one.detail}" if rows and one.detail else f": {one.detail}" if one.detail else ""
        say_named(one.state, f"{one.place}{rows}{detail}", _INDENT)
    for adapter in receipt.adapters:
        serves = (
            "serves, and is replaced by the next training run" if adapter.is_serving else "serves no more"
        )
        say_named("seen by", f"{adapter.version}, which {serves}", _INDENT)
