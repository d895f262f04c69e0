"""Checked arguments of the command line: times, records, tasks, labels, file formats."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel

from reviewloop.settings import Settings, load_settings
from reviewloop.wiring.registry import open_database
from reviews.errors import WrongUse
from storage.adapters.registry import AdapterStore
from storage.database import Database
from trainer.data.table_source import Form, Kind, name_of

_JSON_TYPES = {"integer": int, "number": float, "boolean": bool, "string": str, "array": str}
_MOST_SHOWN = 20
KindOption = Annotated[
    Kind | None,
    typer.Option("--input-format", help="Unset: by the file's ending, else by how it begins."),
]
EncodingOption = Annotated[
    str | None,
    typer.Option(help="Unset: by its byte order mark, else UTF-8, else Windows-1252 if it is not UTF-8."),
]
DelimiterOption = Annotated[
    str | None,
    typer.Option(
        help="Between the cells of a CSV, such as ; or tab. Unset: a line sep=; or the header tells."
    ),
]
_NAMED_DELIMITERS = {"tab": "\t", "\\t": "\t"}


def parse_place(place: str) -> tuple[str, int, int]:
    """Topic, partition and offset of ``TOPIC:PARTITION:OFFSET``.

    Raises:
        WrongUse: If it does not look like that.
    """
    topic, _, rest = place.partition(":")
    partition, _, offset = rest.partition(":")
    if not (topic and _is_number(partition, 2**31) and _is_number(offset, 2**40)):
        raise WrongUse(f"'{place}' names no record: give TOPIC:PARTITION:OFFSET, for example reviews:0:42.")
    return topic, int(partition), int(offset)


def _is_number(digits: str, end: int) -> bool:
    return digits.isascii() and digits.isdecimal() and len(digits) <= 13 and int(digits) < end


def require_known(kind: str, name: str | None, known: Iterable[str]) -> None:
    """Refuse a name that is not among the known ones; None is always accepted.

    Args:
        kind: What is named, such as "label".
        name: The name that was given.
        known: The names that there are.

    Raises:
        WrongUse: Which lists the known names.
    """
    names = sorted(set(known))
    if name is None or name in names:
        return
    listed = ", ".join(names[:_MOST_SHOWN]) + (" …" if len(names) > _MOST_SHOWN else "")
    there_is = f"there is {listed}" if names else "there is none yet"
    raise WrongUse(f"There is no {kind} '{name}': {there_is}.")


@contextmanager
def configured(task: str | None = None, label: str | None = None) -> Iterator[tuple[Settings, Database]]:
    """The settings and their database, open, once the names that were given are known to exist.

    Args:
        task: One that an adapter answers or a setting names; None: none was given.
        label: One that an adapter (of that task) can give; None: none was given.

    Raises:
        WrongUse: If there is no such name; lists those that there are. Also if no database is configured.
    """
    settings = load_settings()
    with open_database(settings) as database:
        if task is not None or label is not None:
            versions = AdapterStore(database).list_versions()
            tasks = {*settings.consumer.tasks, settings.classifier.task, *(one.task for one in versions)}
            require_known("task", task, tasks)
            labels = {name for one in versions if task in {None, one.task} for name in one.labels}
            require_known("label", label, labels)
        yield settings, database


def read_password(file: Path) -> str:
    """The password in a file, without line ends around it.

    Raises:
        WrongUse: If the file cannot be read, or is empty.
    """
    try:
        password = file.read_text(encoding="utf-8-sig").strip("\r\n")
    except (OSError, UnicodeDecodeError) as err:
        raise WrongUse(
            f"The password file {file} cannot be read: {getattr(err, 'strerror', None) or err}."
        ) from err
    if not password:
        raise WrongUse(f"The password file {file} is empty.")
    return password


def refuse_options(context: typer.Context, owner: str) -> None:
    """Refuse options of a group that were given although one of its subcommands is what runs.

    Args:
        context: The group's.
        owner: What its options belong to.

    Raises:
        WrongUse: If there is such an option.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            raise WrongUse(
                f"{parameter.opts[0]} belongs to {owner}: give it behind "
                f"'{context.info_name} {context.invoked_subcommand}' if that has such an option."
            )


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
    """A message about a file's encoding, if it was guessed from the bytes alone."""
    if asked.encoding is None and found.encoding == "windows-1252":
        return (
            f"{name_of(file)} is not UTF-8 and read as Windows-1252; if that is wrong, name its --encoding."
        )
    return None


def model_options(
    model: type[BaseModel], names: Iterable[str], panel: Callable[[str], str]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each of these fields of a model, which arrives as a keyword argument.

    An option that is not given is None.

    Args:
        model: Whose fields; their descriptions become help, their bounds and choices are kept.
        names: Which fields.
        panel: Where in the help a field is listed.
    """
    fields = model.model_json_schema()["properties"]
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=_model_option(fields[name], panel(name)),
        )
        for name in fields
        if name in set(names)
    ]

    def give(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            one for one in inspect.signature(command).parameters.values() if one.kind is not one.VAR_KEYWORD
        ]
        command.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
        return command

    return give


def _model_option(field: Mapping[str, Any], panel: str) -> Any:
    """The type of an option from the JSON schema of its field, with help and bounds for Typer."""
    value = next((kind for kind in field.get("anyOf", ()) if kind["type"] != "null"), field)
    least, about = value.get("minimum"), field["description"]
    if value["type"] == "integer" and "exclusiveMinimum" in value:
        least = value["exclusiveMinimum"] + 1
    elif value["type"] == "array":
        about = f"{about} Comma-separated."
    kind: Any = Literal[tuple(value["enum"])] if "enum" in value else _JSON_TYPES[value["type"]]
    return Annotated[kind | None, typer.Option(help=about, min=least, rich_help_panel=panel)]
