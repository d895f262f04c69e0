"""The options that say how a table in a file is written; what they leave out is found out."""

from pathlib import Path
from typing import Annotated

import typer

from reviews.errors import WrongUse
from trainer.data.table_source import Form, Kind, name_of

KindOption = Annotated[
    Kind | None,
    typer.Option("--input-format", help="Unset: by the file's ending, else by how it begins."),
]
EncodingOption = Annotated[
    str | None,
    typer.Option(help="Unset: by its byte order mark, else UTF-8, else Windows-1252 where it is no UTF-8."),
]
DelimiterOption = Annotated[
    str | None,
    typer.Option(
        help="Between the cells of a CSV, such as ; or tab. Unset: a line sep=; or the header tells."
    ),
]
_NAMED_DELIMITERS = {"tab": "\t", "\\t": "\t"}


def to_form(kind: Kind | None, encoding: str | None, delimiter: str | None) -> Form:
    """What the options say of a file.

    Raises:
        WrongUse: If the delimiter is none.
    """
    if delimiter is not None:
        delimiter = _NAMED_DELIMITERS.get(delimiter.lower(), delimiter)
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise WrongUse("--delimiter is one character such as ; or |, or the word tab.")
    return Form(kind, encoding, delimiter)


def guessed(file: Path, asked: Form, found: Form) -> str | None:
    """What is to be told about a file's encoding, where nothing but its bytes speaks for it."""
    if asked.encoding is None and found.encoding == "windows-1252":
        return (
            f"{name_of(file)} is not UTF-8 and read as Windows-1252; if that is wrong, name its --encoding."
        )
    return None
