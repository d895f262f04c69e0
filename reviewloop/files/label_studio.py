"""Label Studio's JSON: tasks with pre-annotations for it, and its export of annotated tasks from it.

The format is Label Studio's own (guide, "Label Studio JSON format of annotated tasks" and "Import
pre-annotated data"): a list of tasks, each with ``data``, ``annotations`` and ``predictions``; a choice is a
result of the type ``choices`` with ``from_name``, ``to_name`` and ``value.choices``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from xml.sax.saxutils import quoteattr

from reviews.errors import InvalidMessage, WrongUse
from reviews.label_studio import (
    TEXT_FIELD,
    ChoicesTag,
    annotator_name,
    choice_under,
    choices_in,
    to_prediction,
)


class Annotation(NamedTuple):
    """One annotation of one task; with neither values nor mistake it says nothing under the tag that is read.

    Attributes:
        place: Where it is in the file.
        values: What it says.
        mistake: Why it cannot be read.
    """

    place: str
    values: dict[str, Any] | None
    mistake: InvalidMessage | None = None


def to_task(item: Mapping[str, Any], control: str, *, blind: bool) -> dict[str, Any]:
    """A task to import into Label Studio, with the model's answer as a pre-annotation.

    Args:
        item: A scored review with ``record``.
        control: The name of the ``Choices`` tag.
        blind: Leave the pre-annotation out.
    """
    # As a text: JavaScript's numbers end at 2**53, and records go on.
    data = {"record": str(item["record"]), "review_id": item["review_id"], TEXT_FIELD: item["text"]}
    for name in ("product", "source", "published_at"):
        if item[name] is not None:
            value = item[name]
            data[name] = value.isoformat() if name == "published_at" else value
    task: dict[str, Any] = {"data": data}
    if not blind:
        tag = ChoicesTag(control, TEXT_FIELD, TEXT_FIELD, ())
        said = to_prediction([(tag, item["label"])], item["confidence"], item["adapter_version"])
        task["predictions"] = [said]
    return task


def to_config(control: str, labels: list[str]) -> str:
    """The labelling configuration that such tasks need."""
    choices = "\n".join(f"    <Choice value={quoteattr(label)}/>" for label in labels)
    return (
        f'<View>\n  <Text name="{TEXT_FIELD}" value="${TEXT_FIELD}"/>\n'
        f'  <Choices name={quoteattr(control)} toName="{TEXT_FIELD}" choice="single" required="true">\n'
        f"{choices}\n  </Choices>\n</View>\n"
    )


def is_task(row: Mapping[str, Any], label_column: str) -> bool:
    """Whether a row of JSON is one of Label Studio's tasks, and no row with a label of its own."""
    return "data" in row and label_column not in row


def read_export(
    rows: Iterable[Mapping[str, Any] | InvalidMessage], control: str | None, task: str, id_field: str
) -> tuple[str, list[Annotation]]:
    """The annotations in an export; skipped ones ("was_cancelled") are left out.

    Args:
        rows: The tasks, or what is wrong with the row.
        control: The name of the ``Choices`` tag to read. None: the one with the task's name, else the only
            one that there is in the file.
        task: What is asked.
        id_field: The field of ``data`` with the review's id.

    Returns:
        The tag that was read, and the annotations in order.

    Raises:
        WrongUse: If these are not tasks as Label Studio has exported them since 1.0, or if it is not clear
            which tag is meant.
    """
    tasks = list(rows)
    for number, row in enumerate(tasks, start=1):
        if not isinstance(row, InvalidMessage):
            _check_task(number, row)
    chosen = _chosen_control(tasks, control, task)
    return chosen, list(_annotations(tasks, chosen, id_field))


def _check_task(number: int, row: Mapping[str, Any]) -> None:
    if "completions" in row:
        raise WrongUse(
            f"Task {number} has 'completions', as Label Studio wrote them before 1.0: export it with 1.0 or "
            "later."
        )
    if "data" not in row or not isinstance(row.get("annotations"), list):
        raise WrongUse(
            f"Task {number} is none of Label Studio's: 'data' and a list 'annotations' are expected (export "
            "as JSON, not JSON-MIN)."
        )


def _chosen_control(tasks: Sequence[Any], control: str | None, task: str) -> str:
    names = sorted({name for row in tasks if isinstance(row, dict) for name in _controls(row)})
    wanted = control or task
    if wanted in names or not names:
        return wanted
    if control is None and len(names) == 1:
        return names[0]
    if control is None:
        raise WrongUse(
            f"The export has the Choices tags {', '.join(names)}, and none is called '{task}' as the task "
            "is: say with --control which one answers it."
        )
    raise WrongUse(
        f"The export has no Choices tag '{control}' (it has: {', '.join(names) or 'none'}): name another one "
        "with --control."
    )


def _controls(row: Mapping[str, Any]) -> Iterator[str]:
    """The names of the tags under which a task was answered, or was to be: pre-annotations count as well."""
    for answers in (row.get("annotations"), row.get("predictions")):
        for answer in answers if isinstance(answers, list) else ():
            for part in choices_in(answer.get("result") if isinstance(answer, dict) else None):
                yield str(part.get("from_name"))


def _annotations(tasks: Sequence[Any], control: str, id_field: str) -> Iterator[Annotation]:
    for number, row in enumerate(tasks, start=1):
        if isinstance(row, InvalidMessage):
            yield Annotation(f"task {number}", None, row)
            continue
        for index, annotation in enumerate(row["annotations"], start=1):
            place = f"task {number}, annotation {index}"
            if not isinstance(annotation, dict):
                mistake = InvalidMessage("not_an_object", "The annotation is not a JSON object.")
                yield Annotation(place, None, mistake)
            elif not annotation.get("was_cancelled"):
                yield _read(place, row["data"], annotation, control, id_field)


def _read(place: str, data: Any, annotation: Mapping[str, Any], control: str, id_field: str) -> Annotation:
    parts = choices_in(annotation.get("result"))
    if parts and not any(str(part.get("from_name")) == control for part in parts):
        return Annotation(place, None)  # it answers what another tag asks
    try:
        label = choice_under(parts, control)
    except InvalidMessage as err:
        return Annotation(place, None, err)
    fields = data if isinstance(data, dict) else {}
    values = {
        "record": fields.get("record"),
        "review_id": fields.get(id_field),
        "label": label,
        "annotator": annotator_name(annotation.get("completed_by")),
        "labelled_at": annotation.get("updated_at") or annotation.get("created_at"),
    }
    return Annotation(place, {name: value for name, value in values.items() if value is not None})
