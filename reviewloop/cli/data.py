"""``reviewloop data``: labelled rows in files, checked and split; and how long stored data is kept."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from reviewloop.cli.arguments import DelimiterOption, EncodingOption, KindOption, guessed, to_form
from reviewloop.cli.output import RecordFormatOption, chosen_format, print_record, print_table
from reviewloop.cli.retain import retain
from reviewloop.terminal import say
from reviews.csv_output import to_csv
from reviews.errors import ReviewLoopError, WrongUse
from trainer.data.dataset import LabelledRow, LabelledTable, class_names, listed, read_labelled, with_classes
from trainer.data.inspection import QUANTILES, contradictions, statistics, straddling
from trainer.data.near_duplicates import duplicate_groups
from trainer.data.splitting import SPLITS, stratified_split
from trainer.data.table_rows import Mistake
from trainer.data.table_source import Form, name_of
from trainer.fitting.outputs import write_whole

app = typer.Typer(no_args_is_help=True, help="Labelled rows in files, and how long stored data is kept.")
app.command()(retain)

File = Annotated[
    Path, typer.Argument(help="CSV, JSON lines, a JSON array or Parquet, also .gz; - is standard input.")
]
Labels = Annotated[str | None, typer.Option(help="Names of the classes 0, 1, 2 …, comma-separated.")]
NumLabels = Annotated[int | None, typer.Option(min=2, help="How many classes there have to be.")]
TextColumn = Annotated[str, typer.Option(help="Column with the texts.")]
LabelColumn = Annotated[str, typer.Option(help="Column with the labels.")]


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="Files of one data set: train, val, test.")],
    *,
    labels: Labels = None,
    num_labels: NumLabels = None,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    kind: KindOption = None,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
) -> None:
    """List every row that cannot be used, with its line; exit code 1 if there are any.

    Near-duplicates with different labels, and texts that occur in more than one file, are listed as well:
    they can be used, but a metric measured on them is too high.
    """
    form = to_form(kind, encoding, delimiter)
    bad, sound, names = 0, [], _names(labels)
    for file in files:
        rows, mistakes, names = _read(file, names, num_labels, (text_column, label_column), form)
        texts = [row.text for row, _ in rows]
        for mistake in mistakes:
            say(f"{name_of(file)}, {mistake}")
        for doubt in contradictions(rows, duplicate_groups(texts)):
            say(f"{name_of(file)}, {doubt} (can be used)")
        say(f"{name_of(file)}: {len(rows):,} rows can be used, {len(mistakes):,} cannot", err=True)
        bad += len(mistakes)
        sound.append((str(file), texts))
    for doubt in straddling(sound) if len(sound) > 1 else ():
        say(f"{doubt} (can be used)")
    if bad:
        raise ReviewLoopError(
            f"{bad:,} row(s) cannot be used; correct or remove them (each is listed above)."
        )


@app.command()
def stats(
    file: File,
    *,
    labels: Labels = None,
    num_labels: NumLabels = None,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    kind: KindOption = None,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    output: RecordFormatOption = None,
) -> None:
    """Classes, lengths, near-duplicates."""
    form = to_form(kind, encoding, delimiter)
    rows, mistakes, names = _read(file, _names(labels), num_labels, (text_column, label_column), form)
    found = statistics(rows, names, duplicate_groups([row.text for row, _ in rows]))
    if chosen_format(output) != "table":
        words = dict(zip(map(str, QUANTILES), found.word_quantiles, strict=True))
        print_record({"file": str(file), "bad_rows": len(mistakes), **asdict(found), "word_quantiles": words},
                     chosen_format(output))  # fmt: skip
        return
    shown = [("rows that can be used", f"{found.rows:,}"), ("rows that cannot", f"{len(mistakes):,}")]
    for name, count in found.classes.items():
        shown.append((name, f"{count:,} ({count / max(1, found.rows):.1%})"))
    for share, length in zip(QUANTILES, found.word_quantiles, strict=True):
        name = {0.0: "fewest words", 1.0: "most words"}.get(share, f"words at {share:.0%}")
        shown.append((name, f"{length:,}"))
    shown.append(("near-duplicates of earlier rows", f"{found.duplicates:,}"))
    shown.append(("of these, with another label", f"{found.contradictions:,}"))
    print_table((str(file), ""), shown)


@app.command()
def split(
    file: File,
    output_dir: Annotated[Path, typer.Argument(help="Gets train.csv, val.csv and test.csv.")] = Path("data"),
    *,
    labels: Labels = None,
    num_labels: NumLabels = None,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    kind: KindOption = None,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides which row goes where.")] = 0,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="List rows that cannot be used, and go on.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the three files.")] = False,
) -> None:
    """Split rows 80/10/10, every class in proportion; near-duplicates stay together."""
    targets = [output_dir / f"{name}.csv" for name in SPLITS]
    there = [str(target) for target in targets if target.exists()]
    if there and not overwrite:
        raise WrongUse(f"{', '.join(there)} would be replaced; say --overwrite, or name another directory.")
    table, rows, names = _splittable(
        file,
        _names(labels),
        num_labels,
        (text_column, label_column),
        to_form(kind, encoding, delimiter),
        skip=skip_bad_rows,
    )
    chosen = stratified_split(
        [label for _, label in rows], duplicate_groups([row.text for row, _ in rows]), seed
    )
    parts = [[pair for pair, part in zip(rows, chosen, strict=True) if part == index] for index in range(3)]
    _require_every_class(parts, names, file)
    _write(dict(zip(targets, parts, strict=True)), table)
    for target, part in zip(targets, parts, strict=True):
        say(f"{target}: {len(part):,} rows")


def _read(
    file: Path,
    names: tuple[str, ...] | None,
    num_labels: int | None,
    columns: tuple[str, str],
    form: Form,
) -> tuple[list[tuple[LabelledRow, int]], list[Mistake], tuple[str, ...]]:
    """The rows that can be used with their classes, those that cannot, and the names of the classes."""
    table = _labelled(file, columns, form)
    known = names or class_names((row.label for row in table.rows), num_labels)
    rows, mistakes = with_classes(table, known)
    return rows, mistakes, known


def _labelled(file: Path, columns: tuple[str, str], form: Form, *, keep_all: bool = False) -> LabelledTable:
    table = read_labelled(file, *columns, form, keep_all=keep_all)
    if (note := guessed(file, form, table.form)) is not None:
        say(note, err=True)
    return table


def _splittable(
    file: Path,
    names: tuple[str, ...] | None,
    num_labels: int | None,
    columns: tuple[str, str],
    form: Form,
    *,
    skip: bool,
) -> tuple[LabelledTable, list[tuple[LabelledRow, int]], tuple[str, ...]]:
    table = _labelled(file, columns, form, keep_all=True)
    known = names or class_names((row.label for row in table.rows), num_labels)
    rows, mistakes = with_classes(table, known)
    if mistakes and not skip:
        raise WrongUse(
            f"{file} has rows that cannot be used; correct them, or give --skip-bad-rows:\n  "
            f"{listed(mistakes)}"
        )
    for mistake in mistakes:
        say(f"Left out: {file}, {mistake}", err=True)
    return table, rows, known


def _require_every_class(parts: list[Any], names: tuple[str, ...], file: Path) -> None:
    for part in parts:
        missing = [name for index, name in enumerate(names) if not any(label == index for _, label in part)]
        if missing:
            raise WrongUse(
                f"{file} has too few rows of {', '.join(missing)} for three splits; add rows "
                "(at least ten of each class that are not near-duplicates of each other)."
            )


def _write(parts: dict[Path, list[tuple[LabelledRow, int]]], table: LabelledTable) -> None:
    """All files, each whole; every column of the source is kept."""
    for target, rows in parts.items():
        cells = ([row.values.get(name) for name in table.columns] for row, _ in rows)
        write_whole(target, to_csv(table.columns, cells).encode())


def _names(value: str | None) -> tuple[str, ...] | None:
    return tuple(name.strip() for name in value.split(",") if name.strip()) if value else None
