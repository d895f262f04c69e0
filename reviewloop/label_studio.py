"""Label Studio's JSON: tasks with pre-annotations for it, and its export of annotated tasks from it.

The format is Label Studio's own (guide, "Label Studio JSON format of annotated tasks" and "Import
pre-annotated data"): a list of tasks, each with ``data``, ``annotations`` and ``predictions``; a choice is a
result of the type ``choices`` with ``from_name``, ``to_name`` and ``value.choices``.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from xml.sax.saxutils import quoteattr

from reviews.errors import InvalidMessage, WrongUse

_TEXT = "text"


class Annotation(NamedTuple):
    """One annotation of one task: where it stands in the file, and what it says, or why it says nothing."""

    place: str
    values: Mapping[str, Any]
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


def read_export(tasks: Any, control: str, id_field: str) -> Iterator[Annotation]:
    """The annotations in an export; skipped ones ("was_cancelled") say nothing and are passed over.

    Args:
        tasks: The parsed file.
        control: The name of the ``Choices`` tag; where a project has only one, any name will do.
        id_field: The field of ``data`` with the review's id.

    Raises:
        WrongUse: If this is no list of tasks.
    """
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "data" in task for task in tasks):
        raise WrongUse(
            "The file is no export of Label Studio: a list of tasks with 'data' is expected (export as JSON, "
            "not JSON-MIN). JSON lines have the ending .jsonl."
        )
    for number, task in enumerate(tasks, start=1):
        annotations = task.get("annotations")
        for index, annotation in enumerate(annotations if isinstance(annotations, list) else [], start=1):
            place = f"task {number}, annotation {index}"
            if not isinstance(annotation, dict):
                yield Annotation(place, {}, _mistake("not_an_object", "The annotation is no JSON object."))
            elif not annotation.get("was_cancelled"):
                yield _read(place, task["data"], annotation, control, id_field)


def _read(place: str, data: Any, annotation: Mapping[str, Any], control: str, id_field: str) -> Annotation:
    try:
        label = _choice(annotation.get("result"), control)
    except InvalidMessage as err:
        return Annotation(place, {}, err)
    fields = data if isinstance(data, dict) else {}
    values = {
        "record": fields.get("record"),
        "review_id": fields.get(id_field),
        "label": label,
        "annotator": _annotator(annotation.get("completed_by")),
        "labelled_at": annotation.get("updated_at") or annotation.get("created_at"),
    }
    return Annotation(place, {name: value for name, value in values.items() if value is not None})


def _choice(result: Any, control: str) -> str:
    """The one choice of an annotation."""
    parts = [
        part
        for part in (result if isinstance(result, list) else [])
        if isinstance(part, dict) and part.get("type") == "choices"
    ]
    if len({str(part.get("from_name")) for part in parts}) > 1:
        parts = [part for part in parts if part.get("from_name") == control]
    values = [part["value"] for part in parts if isinstance(part.get("value"), dict)]
    choices = [choice for value in values for choice in value.get("choices") or ()]
    if len(choices) != 1 or not isinstance(choices[0], str):
        raise _mistake(
            "bad_label", f"It has {len(choices)} choices of '{control}' where one is needed (--control)."
        )
    return choices[0]


def _annotator(completed_by: Any) -> str | None:
    """Whoever annotated, by e-mail where the export has it, else by Label Studio's number."""
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    if isinstance(completed_by, int) and not isinstance(completed_by, bool):
        return f"label-studio:{completed_by}"
    return completed_by if isinstance(completed_by, str) and completed_by else None


def _mistake(reason: str, message: str) -> InvalidMessage:
    return InvalidMessage(reason, message)
