"""``reviewloop sources``: topics of other shapes, and what is read from their records."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from console.source_trial import SourceTrial, make_source, section_of
from reviewloop.cli.output import RecordFormatOption, chosen_format, print_record, print_rows
from reviewloop.settings import Settings, load_settings
from reviewloop.terminal import say
from reviewloop.wiring.sources import open_trier
from reviews.errors import WrongUse
from reviews.sources.settings import Format, Preset, SourceSettings, source_of

app = typer.Typer(no_args_is_help=True, help="Topics of other shapes: what is read from their records.")

_TABLE = ("place", "outcome", "review_id", "text", "reason", "message", "product", "stars", "published_at")
_FIELDS = frozenset({"id", "text", "product", "source", "published_at", "stars"})


@app.command("list")
def list_sources(output: RecordFormatOption = None) -> None:
    """The sources in the settings; without any, plain reviews are read from kafka.reviews_topic."""
    settings = load_settings()
    rows = [
        _shown(source, settings) for source in settings.sources or (_plain(settings.kafka.reviews_topic),)
    ]
    columns = ("source", "preset", "format", "tasks", "id", "text", "attributes", "tombstones")
    form = chosen_format(output)
    print_rows(rows, "jsonl" if form == "json" else form, table_columns=columns)


@app.command("try")
def try_source(
    topic: Annotated[str, typer.Argument(help="The topic to read from.")],
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many of its latest records.")] = 50,
    preset: Annotated[Preset | None, typer.Option(help="How records are wrapped.")] = None,
    value_format: Annotated[Format | None, typer.Option(help="How values are written.")] = None,
    key_format: Annotated[Format | None, typer.Option(help="How keys are written.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A field of a review or another setting of a source, such as id=review.id, "
            'text=\'["title", "body"]\', attributes.market=country or tombstones=withdraw; repeatable.',
        ),
    ] = None,
    output: RecordFormatOption = None,
) -> None:
    """Show how live records of a topic would be read, or why not, and propose a mapping.

    Without options, the source that the settings have for the topic is tried, or else plain reviews. Records
    are read outside the consumer group: nothing is stored, and no offset moves. Exit code 1 when more than a
    tenth of the records would become dead letters.
    """
    settings = load_settings()
    given = {"preset": preset, "format": value_format, "key_format": key_format}
    source = _source(settings, topic, {name: value for name, value in given.items() if value}, set_ or ())
    trial = open_trier(settings).run(topic, source, limit)
    form = chosen_format(output)
    if form == "table":
        _show(trial)
    elif form == "json":
        print_record({**trial._asdict(), "records": [record._asdict() for record in trial.records]}, form)
    else:
        print_rows((record._asdict() for record in trial.records), "jsonl", table_columns=())
    if not trial.suits:
        raise typer.Exit(1)


def _show(trial: SourceTrial) -> None:
    """The records as a table, then the section to paste."""
    if not trial.records:
        say("The topic holds no record.")
    else:
        print_rows((record._asdict() for record in trial.records), "table", table_columns=_TABLE)
        counted = ", ".join(f"{number:,} {outcome}" for outcome, number in trial.outcomes.items())
        say(f"Of {len(trial.records):,} records: {counted}. The section that was tried:\n")
        say(trial.section)
    if trial.proposed is not None:
        say("It does not suit these records. A proposal, to be read and corrected:\n")
        say(trial.proposed)
    else:
        for remark in trial.remarks:
            say(remark)


def _source(
    settings: Settings, topic: str, given: Mapping[str, Any], assignments: Sequence[str]
) -> SourceSettings:
    if not given and not assignments:
        return source_of(settings.sources, topic) or _plain(topic)
    values: dict[str, Any] = {"topic": topic, **given}
    for assignment in assignments:
        _assign(values, assignment)
    return make_source(values)


def _assign(values: dict[str, Any], assignment: str) -> None:
    """Put one ``NAME=VALUE`` where it belongs: the name of a field stands for the field's setting."""
    name, equals, written = assignment.partition("=")
    name = name.strip()
    if not name or not equals:
        raise WrongUse(f"--set {assignment} assigns nothing: write NAME=VALUE, such as id=review.id.")
    table, _, inner = name.partition(".")
    value = _value(written.strip())
    if name in _FIELDS:
        values.setdefault("fields", {})[name] = value
    elif inner and table in {"fields", "attributes"}:
        values.setdefault(table, {})[inner] = value
    else:
        values[name] = value


def _value(written: str) -> Any:
    """A list, a table or a quoted text as TOML writes it; anything else is a text."""
    if not written.startswith(("[", "{", '"', "'")):
        return written
    try:
        return tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError as err:
        raise WrongUse(f"--set has a value that is not TOML: {err}.") from err


def _plain(topic: str) -> SourceSettings:
    return make_source({"topic": topic})


def _shown(source: SourceSettings, settings: Settings) -> dict[str, Any]:
    fields = source.fields
    return {
        "source": source.name,
        "preset": source.preset,
        "format": source.value_format,
        "tasks": ", ".join(source.tasks or settings.consumer.tasks),
        "id": "" if fields is None else _paths(fields.id) or "place of the record",
        "text": "" if fields is None else _paths(fields.text),
        "attributes": ", ".join(source.attributes),
        "tombstones": source.tombstones or "",
        "section": section_of(source),
    }


def _paths(rule: Any) -> str:
    return "" if rule is None else ", ".join(map(str, _each_path(rule)))


def _each_path(rule: Any) -> Iterator[Any]:
    yield from rule.paths()
