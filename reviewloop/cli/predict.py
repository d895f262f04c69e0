"""``reviewloop predict``: labels for the texts of a file, without a broker or a database."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from classifier.adapters.manifest import read_manifest
from classifier.classifier import Classifier
from classifier.ensemble import Ensemble
from classifier.host import Hosts
from reviewloop.cli.arguments import (
    DelimiterOption,
    EncodingOption,
    KindOption,
    guessed,
    to_form,
)
from reviewloop.cli.output import (
    Format,
    FormatOption,
    RawOption,
    chosen_format,
    print_csv,
    print_rows,
    print_table,
)
from reviewloop.demo.sample import ADAPTER_DIRECTORY, adapter_directory
from reviewloop.settings import load_settings
from reviewloop.terminal import say
from reviews.errors import InvalidMessage, ReviewLoopError, WrongUse
from reviews.prediction import Prediction
from trainer.data.table_rows import Column, Mistake, TableRow, shown_mistakes, text_of, unique_names
from trainer.data.table_source import STANDARD_INPUT, Form, Kind, kind_of_name, name_of
from trainer.data.tables import checked_rows, open_table

_CHUNK_TEXTS = 1024


class _Text(NamedTuple):
    """A text that can be scored, with the row that it is from."""

    place: str
    text: str
    values: Mapping[str, Any]


def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to classify.")] = None,
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            help="A table (.csv, .jsonl, .json, .parquet), else a text a line; - is standard input."
        ),
    ] = None,
    adapter: Annotated[
        list[Path] | None,
        typer.Option(
            help="An adapter directory; unset or 'demo': the bundled. Given several times: their ensemble."
        ),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(help="Hugging Face id, directory or package:NAME/PATH; unset, the adapter's own."),
    ] = None,
    text_column: Annotated[str, typer.Option(help="Column or field with the texts.")] = "text",
    kind: KindOption = None,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    output: FormatOption = None,
    raw: RawOption = False,
) -> None:
    """Label texts: label, confidence and the probability of each class.

    Where a file is read, its columns come first; if it has a column of such a name, what the model says is
    called model_label and so on. Rows without a text that can be read are listed and left out (exit code 1).
    """
    if bool(texts) == (file is not None):
        raise WrongUse("Give texts to classify, or --file FILE, and not both.")
    form = chosen_format(output)
    mistakes: list[Mistake] = []
    with _opened(texts or (), file, text_column, to_form(kind, encoding, delimiter)) as rows:
        sound = _sound(rows, text_column, mistakes)
        # Whatever is wrong with the file shows before the model is loaded.
        first = list(islice(sound, _CHUNK_TEXTS))
        if file is None and mistakes:
            raise WrongUse(f"{mistakes[0].place} cannot be scored: {mistakes[0].error}")
        if first:
            classifier = _load(adapter, base_model)
            _print(form, _score(classifier, chain(first, sound)), _Names(first, classifier.labels), raw=raw)
    _report(mistakes, file)


def _load(adapters: Sequence[Path] | None, base_model: str | None) -> Classifier | Ensemble:
    """The classifier asked for; its base is the one named, the first adapter's own, or the configured one."""
    settings = load_settings().classifier
    directories = [adapter_directory(adapter) for adapter in adapters or ()] or [ADAPTER_DIRECTORY]
    manifests = [read_manifest(directory, settings.task) for directory in directories]
    base, hosts = base_model or manifests[0].base_model or settings.base_model, Hosts(settings)
    loaded = [
        hosts.load(base, directory, manifest=manifest)
        for directory, manifest in zip(directories, manifests, strict=True)
    ]
    return loaded[0] if len(loaded) == 1 else Ensemble(loaded)


@contextmanager
def _opened(texts: Sequence[str], file: Path | None, column: str, form: Form) -> Iterator[Iterator[TableRow]]:
    """The texts as rows, wherever they are."""
    if file is None:
        yield (TableRow(number, "text", {column: text}) for number, text in enumerate(texts, start=1))
        return
    columns = [Column(column, "--text-column")]
    asked = Form(form.kind or kind_of_name(file) or Kind.lines, form.encoding, form.delimiter)
    with open_table(file, columns, asked, keep_all=True) as table:
        if (note := guessed(file, form, table.form)) is not None:
            say(note, err=True)
        yield checked_rows(table, columns)


def _sound(rows: Iterable[TableRow], column: str, mistakes: list[Mistake]) -> Iterator[_Text]:
    """The rows that can be scored; the others become mistakes."""
    for row in rows:
        try:
            yield _Text(row.place, text_of(row.values, column), row.values)
        except InvalidMessage as err:
            mistakes.append(Mistake(row.place, err))


def _score(classifier: Classifier | Ensemble, texts: Iterator[_Text]) -> Iterator[tuple[_Text, Prediction]]:
    while chunk := list(islice(texts, _CHUNK_TEXTS)):
        yield from zip(chunk, classifier.predict([one.text for one in chunk]), strict=True)


class _Names:
    """What the columns are called: those of the file, and behind them what the model says.

    Args:
        first: The first rows, which decide.
        labels: Of the adapter.
    """

    def __init__(self, first: Sequence[_Text], labels: Sequence[str]) -> None:
        self.given = tuple(dict.fromkeys(name for row in first for name in row.values))
        self.labels = tuple(labels)

    def said(self, name: str) -> str:
        """What the model's answer of that name is called."""
        while name in self.given:
            name = f"model_{name}"
        return name

    def check(self, row: _Text, said: Iterable[str], *, is_fixed: bool) -> None:
        """Make sure that a later row fits the names.

        Args:
            row: Which.
            said: The names of what the model says.
            is_fixed: Whether no other column can be added.

        Raises:
            WrongUse: If it has a field that none of the first rows has, and that has no place.
        """
        new = [name for name in row.values if name not in self.given]
        wrong = [name for name in new if is_fixed or name in said]
        if wrong:
            raise WrongUse(
                f"{row.place} has the field '{wrong[0]}', which none of the first {_CHUNK_TEXTS:,} rows "
                "has, so that there is no column for it: give it to the first row, or leave it out."
            )


def _print(form: Format, scored: Iterable[tuple[_Text, Prediction]], names: _Names, *, raw: bool) -> None:
    if form == "table":
        _print_table(scored, names.labels)
    elif form == "csv":
        _print_csv(scored, names, raw=raw)
    else:
        _print_jsonl(scored, names)


def _print_table(scored: Iterable[tuple[_Text, Prediction]], labels: Sequence[str]) -> None:
    rows = ((row.text, said.label, said.confidence, *said.probabilities) for row, said in scored)
    print_table(("text", "label", "confidence", *labels), rows)


def _print_csv(scored: Iterable[tuple[_Text, Prediction]], names: _Names, *, raw: bool) -> None:
    # A label may be called "label" or "confidence" as well.
    said_names = unique_names([names.said(name) for name in ("label", "confidence", *names.labels)])

    def cells(row: _Text, said: Prediction) -> Iterator[Any]:
        names.check(row, said_names, is_fixed=True)
        yield from map(row.values.get, names.given)
        yield said.label
        yield from (f"{value:.6f}" for value in (said.confidence, *said.probabilities))

    print_csv([*names.given, *said_names], (cells(row, said) for row, said in scored), raw=raw)


def _print_jsonl(scored: Iterable[tuple[_Text, Prediction]], names: _Names) -> None:
    def fields(row: _Text, said: Prediction) -> dict[str, Any]:
        probabilities = (round(value, 6) for value in said.probabilities)
        found = {
            "label": said.label,
            "confidence": round(said.confidence, 6),
            "probabilities": dict(zip(names.labels, probabilities, strict=True)),
            "truncated": said.truncated,
            "adapter_version": said.adapter_version,
        }
        renamed = {names.said(name): value for name, value in found.items()}
        names.check(row, renamed, is_fixed=False)
        return {**row.values, **renamed}

    print_rows((fields(row, said) for row, said in scored), "jsonl", table_columns=())


def _report(mistakes: Sequence[Mistake], file: Path | None) -> None:
    name = name_of(file or STANDARD_INPUT)
    for line in shown_mistakes(mistakes):
        say(f"{name}, {line}", err=True)
    if mistakes:
        raise ReviewLoopError(
            f"{len(mistakes):,} rows of {name} have no text to be scored and were left out."
        )
