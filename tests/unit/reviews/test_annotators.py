"""Who may answer under which name, and how long an answer may have taken."""

import json

import pytest
from pydantic import TypeAdapter, ValidationError

from reviews.account import require_account_name
from reviews.errors import InvalidMessage, WrongUse
from reviews.fields import Annotator, Seconds, is_model, looks_like_model
from reviews.label import parse_label

NAME = TypeAdapter(Annotator)
LOOKALIKES = (
    "Model:gpt",
    "MODEL:gpt",
    " model:gpt",
    "model：gpt",
    "ｍodel:gpt",
    "model:",
    "model: ",
    "model:\u2800",
)


def _message(**more: object) -> bytes:
    said = {"review_id": "1", "label": "positive", "annotator": "ann", **more}
    return json.dumps(said).encode()


def test_a_model_answers_as_model_and_its_name():
    assert parse_label(_message(annotator="model:gpt-5")).annotator == "model:gpt-5"
    assert is_model("model:gpt-5")
    assert not is_model("ann")
    for person in ("ann", "remodel:ann", "models", "supermodel:x", "model"):
        assert NAME.validate_python(person) == person
        assert not looks_like_model(person)


@pytest.mark.parametrize("name", LOOKALIKES)
def test_a_name_that_only_looks_like_a_models_is_refused_everywhere(name):
    with pytest.raises(InvalidMessage, match="model:NAME"):
        parse_label(_message(annotator=name))
    with pytest.raises(ValidationError):
        NAME.validate_python(name)
    with pytest.raises(WrongUse):
        require_account_name(name)


def test_no_account_has_the_name_of_a_model():
    with pytest.raises(WrongUse, match="model's"):
        require_account_name("model:gpt")


@pytest.mark.parametrize(
    ("given", "kept"),
    [(0, 0.0), (2.5, 2.5), ("7", 7.0), ("", None), (None, None), (600.5, 600.0), (10**9, 600.0)],
)
def test_seconds_are_numbers_of_which_ten_minutes_are_kept(given, kept):
    assert parse_label(_message(seconds=given)).seconds == kept


@pytest.mark.parametrize("given", [-1, True, "soon", [1], "-3"])
def test_what_is_no_time_is_refused(given):
    with pytest.raises(InvalidMessage, match="seconds"):
        parse_label(_message(seconds=given))
    with pytest.raises(ValidationError):
        TypeAdapter(Seconds).validate_python(float("nan"))
