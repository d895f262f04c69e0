"""Each review has one label of a task: every entrance refuses several, and says what to do instead."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from classifier.adapters.manifest import read_files
from console.api.labels import LabelAction
from reviewloop.cli.init import init
from reviewloop.files.labels import LabelColumns, read_labels
from reviews.errors import ReviewLoopError, WrongUse
from reviews.label import ONE_LABEL_EACH, Vocabulary, parse_label, resolve_label
from reviews.label_set import LabelChange, LabelSet
from reviews.label_studio import choice_under
from reviews.task import LabelSettings, TaskSettings
from tests.tiny import tiny_adapter, tiny_base
from trainer.data.dataset import read_dataset

WHAT_TO_DO = ONE_LABEL_EACH[:-1]
PARTS = ("price", "delivery")
SEVERAL = "price;delivery"


def _message() -> None:
    parse_label(json.dumps({"review_id": "1", "annotator": "ann", "label": list(PARTS)}).encode())


def _name_on_the_topic() -> None:
    resolve_label(SEVERAL, Vocabulary(PARTS))


def _settings() -> None:
    labels = tuple(LabelSettings(name=name, description=name) for name in (*PARTS, SEVERAL))
    TaskSettings(name="about", labels=labels)


def _init() -> None:
    init(Path("project"), task="about", label=[f"{name}=It is about {name}." for name in (*PARTS, SEVERAL)])


def _added_label() -> None:
    LabelSet(PARTS).changed(LabelChange("add", (), (SEVERAL,)))


def _written(name: str, content: str) -> Path:
    Path(name).write_text(content)
    return Path(name)


def _label_file(name: str, content: str) -> None:
    (row,) = read_labels(_written(name, content), LabelColumns(), "about").rows
    if row.error is not None:
        raise row.error


def _csv_with_a_written_list() -> None:
    _label_file("labels.csv", 'review_id,label\n1,"[""price"", ""delivery""]"\n')


def _json_with_a_list() -> None:
    _label_file("labels.jsonl", '{"review_id": "1", "label": ["price", "delivery"]}\n')


def _training_csv() -> None:
    read_dataset(_written("train.csv", f"text,label\nA,price\nB,delivery\nC,{SEVERAL}\n"))


def _training_csv_with_a_written_list() -> None:
    read_dataset(_written("train.csv", 'text,label\nA,"[""price""]"\n'))


def _choices_of_label_studio() -> None:
    made = {"type": "choices", "from_name": "about", "value": {"choices": list(PARTS)}}
    choice_under([made], "about")


def _request_to_the_api() -> None:
    given = {"id": "9f6a6b1e-6f0f-4d5e-9a4e-3a1f6c3b2d10", "record": 1, "label": list(PARTS)}
    LabelAction.model_validate(given)


def _names_of_an_adapters_classes() -> None:
    tiny_adapter(tiny_base(Path("base")), Path("adapters"), labels=(*PARTS, SEVERAL))


def _adapter_of_another_problem() -> None:
    directory = tiny_adapter(tiny_base(Path("base")), Path("adapters"))
    (directory / "config.json").write_text(json.dumps({"problem_type": "multi_label_classification"}))
    read_files(directory)


@pytest.mark.parametrize(
    "enter",
    [
        _message,
        _name_on_the_topic,
        _settings,
        _init,
        _added_label,
        _csv_with_a_written_list,
        _json_with_a_list,
        _training_csv,
        _training_csv_with_a_written_list,
        _choices_of_label_studio,
        _request_to_the_api,
        _names_of_an_adapters_classes,
        _adapter_of_another_problem,
    ],
)
def test_several_labels_are_refused_with_what_to_do_instead(enter: Callable[[], None]) -> None:
    with pytest.raises((ReviewLoopError, ValidationError)) as refused:
        enter()
    assert WHAT_TO_DO in str(refused.value)


def test_a_name_with_a_comma_or_in_brackets_is_a_label_where_its_parts_are_none() -> None:
    names = ("good, all in all", "bad", "[unclear]", "[]x")
    labels = tuple(LabelSettings(name=name, description=name) for name in names)
    assert [label.name for label in TaskSettings(name="t", labels=labels).labels] == list(names)
    assert resolve_label("[unclear]", Vocabulary(names)) == "[unclear]"
    with pytest.raises(WrongUse, match="several labels in one"):
        LabelSet(("a", "b")).changed(LabelChange("rename", ("b",), ("a, a",)))
