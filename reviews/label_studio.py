"""Label Studio's JSON as far as it is about choices: configurations, results, and predictions.

The formats are Label Studio's own (guide: "Label Studio JSON format of annotated tasks", "Import
pre-annotated data", "Tags: Choices"). A choice is a result of the type ``choices`` with ``from_name``,
``to_name`` and ``value.choices``; a configuration is XML whose ``Choices`` tags name what they ask.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from xml.parsers import expat

from reviews.errors import InvalidMessage, WrongUse
from reviews.fields import MODEL_PREFIX
from reviews.label import ONE_LABEL_EACH

TEXT_FIELD = "text"
"""The field of a task's data, and the tag, that hold the text of a review."""
LABEL_STUDIO_SOURCE = "label-studio"
"""The source of a label that an annotation in Label Studio gave."""
_MOST_CONFIG_CHARACTERS = 1_000_000


class ChoicesTag(NamedTuple):
    """One ``Choices`` tag of a labelling configuration.

    Attributes:
        name: Its name, which results bear as ``from_name``.
        to_name: The name of the tag that shows what is judged.
        field: The field of a task's data that this tag shows; None where it shows no single field.
        labels: Its choices, as results name them; empty where they come from the task's data.
    """

    name: str
    to_name: str
    field: str | None
    labels: tuple[str, ...]


class GivenAnnotation(NamedTuple):
    """What one annotation says at present.

    Attributes:
        project: The project, as :func:`project_name` names it.
        number: Label Studio's number of the annotation.
        in_task: Label Studio's number of the task that it is about.
        record: The record that was judged.
        annotator: Who made it.
        changed_at: When it was last changed, by Label Studio's clock (UTC).
        answers: The label by task of ours; None is "unsure".
        passed_on: The tasks of ours that the annotator skipped.
    """

    project: str
    number: int
    in_task: int
    record: int
    annotator: str
    changed_at: datetime
    answers: Mapping[str, str | None]
    passed_on: tuple[str, ...] = ()


def read_config(config: str) -> list[ChoicesTag]:
    """The ``Choices`` tags of a labelling configuration, in order.

    Raises:
        WrongUse: If it is not XML, is too long, or declares a document type.
    """
    if len(config) > _MOST_CONFIG_CHARACTERS:
        raise WrongUse(
            f"The labelling configuration has {len(config):,} characters; at most "
            f"{_MOST_CONFIG_CHARACTERS:,} are read."
        )
    reader = _ConfigReader()
    try:
        reader.parser.Parse(config.encode("utf-8", "replace"), True)  # noqa: FBT003  it takes no name
    except expat.ExpatError as err:
        raise WrongUse(f"The labelling configuration is not XML: {err}.") from err
    return reader.tags()


class _ConfigReader:
    """Reads tags as they come, without a tree: nesting costs nothing."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}
        self._choices: list[tuple[str, str, list[str]]] = []
        self._open: list[list[str]] = []
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._begin
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._refuse

    def tags(self) -> list[ChoicesTag]:
        return [
            ChoicesTag(name, to_name, self._fields.get(to_name), tuple(labels))
            for name, to_name, labels in self._choices
        ]

    def _begin(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "Choices":
            labels: list[str] = []
            self._choices.append((attributes.get("name", ""), attributes.get("toName", ""), labels))
            self._open.append(labels)
        elif tag == "Choice" and self._open:
            self._open[-1].append(attributes.get("alias") or attributes.get("value", ""))
        elif "name" in attributes and attributes.get("value", "").startswith("$"):
            self._fields[attributes["name"]] = attributes["value"][1:]

    def _end(self, tag: str) -> None:
        if tag == "Choices":
            self._open.pop()

    def _refuse(self, *_: Any) -> None:
        raise WrongUse("The labelling configuration declares a document type, which none needs: remove it.")


def tags_of_tasks(tags: Sequence[ChoicesTag], tasks: Sequence[str]) -> dict[str, ChoicesTag]:
    """Which tag asks for which task: the one with its name; a single tag of another name asks for the first.

    Args:
        tags: Of the configuration.
        tasks: Those that are known, the most important first.

    Raises:
        WrongUse: If no tag asks for a task.
    """
    named = {tag.name: tag for tag in tags}
    found = {task: named[task] for task in tasks if task in named}
    if not found and len(tags) == 1:
        found = {tasks[0]: tags[0]}
    if not found:
        there = ", ".join(f"'{tag.name}'" for tag in tags) or "none"
        raise WrongUse(
            f"No Choices tag of the labelling configuration asks for a task (tags: {there}; tasks: "
            f"{', '.join(tasks)}): name a tag after its task. 'reviewloop label export --config' prints a "
            "configuration."
        )
    return found


def to_prediction(tags_and_labels: Sequence[tuple[ChoicesTag, str]], score: float, version: str) -> Any:
    """A prediction, with one choice a tag.

    Args:
        tags_and_labels: What is predicted under which tag.
        score: How sure the model is, in [0, 1].
        version: Of the adapters that say so.
    """
    result = [
        {"from_name": tag.name, "to_name": tag.to_name, "type": "choices", "value": {"choices": [label]}}
        for tag, label in tags_and_labels
    ]
    return {"model_version": version, "score": score, "result": result}


def choices_in(result: Any) -> list[dict[str, Any]]:
    """The parts of a result that are choices."""
    parts = result if isinstance(result, list) else []
    return [part for part in parts if isinstance(part, dict) and part.get("type") == "choices"]


def choice_under(result: Any, control: str) -> str:
    """The one choice that a result makes under a tag.

    Raises:
        InvalidMessage: If there is none, or more than one.
    """
    parts = [part for part in choices_in(result) if str(part.get("from_name")) == control]
    values = [part["value"] for part in parts if isinstance(part.get("value"), dict)]
    choices = [choice for value in values for choice in _list(value.get("choices"))]
    if len(choices) != 1 or not isinstance(choices[0], str):
        several = f" {ONE_LABEL_EACH}" if len(choices) > 1 else ""
        raise InvalidMessage(
            "bad_label",
            f"It has {len(choices)} choices under '{control}' where one is needed (--control).{several}",
        )
    return choices[0]


def answered_tags(result: Any, names: Collection[str]) -> list[str]:
    """The tags of these names under which a result makes a choice."""
    given = {str(part.get("from_name")) for part in choices_in(result)}
    return [name for name in names if name in given]


def annotator_name(completed_by: Any) -> str | None:
    """The annotator, by e-mail where the JSON has it, else by Label Studio's number; None: it has neither."""
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    if isinstance(completed_by, int) and not isinstance(completed_by, bool):
        return f"label-studio:{completed_by}"
    return completed_by if isinstance(completed_by, str) and completed_by else None


def of_account(name: str, models: Mapping[str, str]) -> str:
    """The annotator of an account: a model where the settings say that one answers by it."""
    return f"{MODEL_PREFIX}{models[name]}" if name in models else name


def project_name(number: int, created_at: datetime) -> str:
    """How Label Studio itself names a project to an ML backend: number and second of its creation.

    Two installations number their projects alike, but hardly make them in the same second.
    """
    return f"{number}.{int(created_at.timestamp())}"


def record_of(data: Mapping[str, Any]) -> int | None:
    """The record that a task is about, as ``reviewloop`` wrote it into the data; None where it is missing."""
    value = data.get("record")
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    is_record = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    return value if is_record else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
