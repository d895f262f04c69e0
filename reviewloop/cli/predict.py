"""``reviewloop predict``: what the classifier makes of texts, without a broker or a database."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reviewloop.cli.rows import Format, chosen_format, print_csv, print_rows, print_table
from reviews.errors import WrongUse

if TYPE_CHECKING:
    from classifier.classifier import Classifier
    from reviews.prediction import Prediction

DEMO_ADAPTER = Path(__file__).resolve().parents[1] / "demo" / "adapter"
_CHUNK_TEXTS = 1024


def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to classify.")] = None,
    *,
    file: Annotated[
        Path | None,
        typer.Option(help="One text per line, or .csv / .jsonl with a text column; - reads lines."),
    ] = None,
    adapter: Annotated[Path | None, typer.Option(help="An adapter directory; unset, the demo's.")] = None,
    base_model: Annotated[
        str | None,
        typer.Option(help="Hugging Face id, directory or package:NAME/PATH; unset, the adapter's own."),
    ] = None,
    text_column: Annotated[str, typer.Option(help="Column or field with the texts.")] = "text",
    output: Annotated[
        Format | None, typer.Option("--format", help="Unset: a table on a terminal, jsonl elsewhere.")
    ] = None,
) -> None:
    """Label texts: label, confidence and the probability of each class."""
    if bool(texts) == (file is not None):
        raise WrongUse("Give texts to classify, or --file FILE, and not both.")
    rows = iter(texts) if texts else _read(file or Path("-"), text_column)
    form = chosen_format(output)
    classifier = _load(adapter, base_model)
    scored = _score(classifier, rows)
    {Format.table: _print_table, Format.csv: _print_csv, Format.jsonl: _print_jsonl}[form](
        scored, classifier.labels
    )


def _load(adapter: Path | None, base_model: str | None) -> "Classifier":
    """The classifier asked for; its base is the one named, the adapter's own, or the configured one."""
    from classifier.adapter import read_manifest
    from classifier.classifier import load
    from reviewloop.settings import load_settings

    settings = load_settings().classifier
    directory = adapter or DEMO_ADAPTER
    base = base_model or read_manifest(directory, settings.task).base_model or settings.base_model
    return load(base, directory, settings)


def _read(file: Path, text_column: str) -> Iterator[str]:
    """The texts of a file, one at a time.

    Raises:
        WrongUse: If the file cannot be read or a row has no text.
    """
    if str(file) == "-":
        yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        return
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            if file.suffix == ".csv":
                yield from _column(csv.DictReader(lines), text_column, file)
            elif file.suffix in (".jsonl", ".ndjson"):
                yield from _column((json.loads(line) for line in lines if line.strip()), text_column, file)
            else:
                yield from (line.rstrip("\r\n") for line in lines if line.strip())
    except OSError as err:
        raise WrongUse(f"{file} cannot be read: {err.strerror or err}.") from err
    except ValueError as err:
        raise WrongUse(f"{file} is not valid {file.suffix.removeprefix('.') or 'UTF-8'}: {err}.") from err


def _column(rows: Iterable[object], name: str, file: Path) -> Iterator[str]:
    for number, row in enumerate(rows, start=1):
        text = row.get(name) if isinstance(row, dict) else None
        if not isinstance(text, str):
            raise WrongUse(f"Row {number} of {file} has no {name!r}; name the column with --text-column.")
        yield text


def _score(classifier: "Classifier", texts: Iterator[str]) -> "Iterator[tuple[str, Prediction]]":
    from itertools import islice

    while chunk := list(islice(texts, _CHUNK_TEXTS)):
        yield from zip(chunk, classifier.predict(chunk), strict=True)


def _print_table(scored: "Iterable[tuple[str, Prediction]]", labels: Sequence[str]) -> None:
    rows = ((text, said.label, said.confidence, *said.probabilities) for text, said in scored)
    print_table(("text", "label", "confidence", *labels), rows)


def _print_csv(scored: "Iterable[tuple[str, Prediction]]", labels: Sequence[str]) -> None:
    rows = (
        (text, said.label, *(f"{value:.6f}" for value in (said.confidence, *said.probabilities)))
        for text, said in scored
    )
    print_csv(("text", "label", "confidence", *labels), rows)


def _print_jsonl(scored: "Iterable[tuple[str, Prediction]]", labels: Sequence[str]) -> None:
    rows = (
        {
            "text": text,
            "label": said.label,
            "confidence": round(said.confidence, 6),
            "probabilities": {
                label: round(value, 6) for label, value in zip(labels, said.probabilities, strict=True)
            },
            "truncated": said.truncated,
            "adapter_version": said.adapter_version,
        }
        for text, said in scored
    )
    print_rows(rows, Format.jsonl, table_columns=())
