"""Label Studio's JSON: tasks with pre-annotations for it, and its export of annotated tasks from it.

The format is Label Studio's own (guide, "Label Studio JSON format of annotated tasks" and "Import
pre-annotated data"): a list of tasks, each with ``data``, ``annotations`` and ``predictions``; a choice is a
result of the type ``choices`` with ``from_name``, ``to_name`` and ``value.choices``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from xml.sax.saxutils import quoteattr

from reviews.errors import InvalidMessage, WrongUse

_TEXT = "text"


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
    data = {"record": str(item["record"]), "review_id": item["review_id"], _TEXT: item["text"]}
    for name in ("product", "source", "published_at"):
        if item[name] is not None:
            value = item[name]
            data[name] = value.isoformat() if name == "published_at" else value
    task: dict[str, Any] = {"data": data}
    if not blind:
        task["predictions"] = [_prediction(item, control)]
    return task


def _prediction(item: Mapping[str, Any], control: str) -> dict[str, Any]:
    result = {
        "from_name": control,
        "to_name": _TEXT,
        "type": "choices",
        "value": {"choices": [item["label"]]},
    }
    return {"model_version": item["adapter_version"], "score": item["confidence"], "result": [result]}


def to_config(control: str, labels: list[str]) -> str:
    """The labelling configuration that such tasks need."""
    choices = "\n".join(f"    <Choice value={quoteattr(label)}/>" for label in labels)
    return (
        f'<View>\n  <Text name="{_TEXT}" value="${_TEXT}"/>\n'
        f'  <Choices name={quoteattr(control)} toName="{_TEXT}" choice="single" required="true">\n'
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
            for part in _choices(answer.get("result") if isinstance(answer, dict) else None):
                yield str(part.get("from_name"))


def _choices(result: Any) -> list[dict[str, Any]]:
    parts = result if isinstance(result, list) else []
    return [part for part in parts if isinstance(part, dict) and part.get("type") == "choices"]


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
    parts = _choices(annotation.get("result"))
    under = [part for part in parts if str(part.get("from_name")) == control]
    if parts and not under:
        return Annotation(place, None)  # it answers what another tag asks
    try:
        label = _only_choice(under, control)
    except InvalidMessage as err:
        return Annotation(place, None, err)
    fields = data if isinstance(data, dict) else {}
    values = {
        "record": fields.get("record"),
        "review_id": fields.get(id_field),
        "label": label,
        "annotator": _annotator(annotation.get("completed_by")),
        "labelled_at": annotation.get("updated_at") or annotation.get("created_at"),
    }
    return Annotation(place, {name: value for name, value in values.items() if value is not None})


def _only_choice(parts: Sequence[Mapping[str, Any]], control: str) -> str:
    values = [part["value"] for part in parts if isinstance(part.get("value"), dict)]
    choices = [choice for value in values for choice in _list(value.get("choices"))]
    if len(choices) != 1 or not isinstance(choices[0], str):
        raise InvalidMessage(
            "bad_label", f"It has {len(choices)} choices under '{control}' where one is needed (--control)."
        )
    return choices[0]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _annotator(completed_by: Any) -> str | None:
    """The annotator, by e-mail where the export has it, else by Label Studio's number."""
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    if isinstance(completed_by, int) and not isinstance(completed_by, bool):
        return f"label-studio:{completed_by}"
    return completed_by if isinstance(completed_by, str) and completed_by else None
