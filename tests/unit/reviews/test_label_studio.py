"""Label Studio's configurations and results, as they are and as nobody should send them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviews.errors import InvalidMessage, WrongUse
from reviews.label_studio import (
    ChoicesTag,
    annotator_name,
    choice_under,
    read_config,
    record_of,
    tags_of_tasks,
    to_prediction,
)

TAG = ChoicesTag("sentiment", "text", "text", ("bad", "good"))
OTHER = ChoicesTag("topic", "text", "text", ("film",))


def test_a_configuration_tells_tags_labels_and_the_field_that_is_shown() -> None:
    config = """
    <View>
      <Header value="Read it"/>
      <Text name="words" value="$body"/>
      <Style>.a { color: red }</Style>
      <View><Choices name="sentiment" toName="words" choice="single">
        <Choice value="bad"/><Choice value="very good" alias="good"/>
        <Choice value="group"><Choice value="inner"/></Choice>
      </Choices></View>
      <Choices name="from data" toName="words" value="$options"/>
    </View>"""
    assert read_config(config) == [
        ChoicesTag("sentiment", "words", "body", ("bad", "good", "group", "inner")),
        ChoicesTag("from data", "words", "body", ()),
    ]


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("", "not XML"),
        ("<View>", "not XML"),
        ('<!DOCTYPE v [<!ENTITY a "b">]><View>&a;</View>', "document type"),
        ("<View>" + " " * 1_000_000 + "</View>", "characters"),
    ],
)
def test_what_is_no_configuration_is_refused(config: str, why: str) -> None:
    with pytest.raises(WrongUse, match=why):
        read_config(config)


def test_half_a_character_is_no_reason_to_fail() -> None:
    assert read_config("<View>\ud800</View>") == []


@given(st.text(max_size=200))
def test_no_text_does_more_than_be_refused(config: str) -> None:
    for one in (config, f"<View>{config}</View>", f'<View><Choices name="{config}"/></View>'):
        try:
            read_config(one)
        except WrongUse:
            continue


def test_deep_nesting_costs_nothing() -> None:
    depth = 60_000
    config = "<View>" * depth + '<Choices name="a" toName="b"/>' + "</View>" * depth
    assert [tag.name for tag in read_config(config)] == ["a"]


def test_a_tag_asks_for_the_task_of_its_name_and_a_single_one_for_the_first() -> None:
    tasks = ("sentiment", "topic")
    assert tags_of_tasks([OTHER, TAG], tasks) == {"sentiment": TAG, "topic": OTHER}
    assert tags_of_tasks([OTHER], tasks) == {"topic": OTHER}
    named_otherwise = TAG._replace(name="choice")
    assert tags_of_tasks([named_otherwise], tasks) == {"sentiment": named_otherwise}
    for nothing in ([], [named_otherwise, OTHER._replace(name="another")]):
        with pytest.raises(WrongUse, match="No Choices tag"):
            tags_of_tasks(nothing, tasks)


def test_a_prediction_is_read_back_as_the_choice_that_it_is() -> None:
    said = to_prediction([(TAG, "good"), (OTHER, "film")], 0.7, "v")
    assert (said["score"], said["model_version"]) == (0.7, "v")
    assert choice_under(said["result"], "sentiment") == "good"
    assert choice_under(said["result"], "topic") == "film"


@pytest.mark.parametrize(
    "result",
    [
        None,
        "choices",
        [],
        [{"type": "choices", "from_name": "other", "value": {"choices": ["good"]}}],
        [{"type": "choices", "from_name": "sentiment", "value": {"choices": ["good", "bad"]}}],
        [{"type": "choices", "from_name": "sentiment", "value": {"choices": [5]}}],
        [{"type": "choices", "from_name": "sentiment", "value": {"choices": "good"}}],
        [{"type": "choices", "from_name": "sentiment", "value": "good"}],
        [{"type": "textarea", "from_name": "sentiment", "value": {"text": ["good"]}}],
        [[]],
    ],
)
def test_a_result_without_exactly_one_choice_is_no_answer(result: object) -> None:
    with pytest.raises(InvalidMessage):
        choice_under(result, "sentiment")


def test_an_annotator_is_an_address_or_a_number() -> None:
    assert annotator_name({"id": 7, "email": "ann@example.org"}) == "ann@example.org"
    assert annotator_name({"id": 7}) == annotator_name(7) == "label-studio:7"
    for nobody in (None, True, "", {}, [], {"id": True}):
        assert annotator_name(nobody) is None


def test_a_record_is_a_whole_number_also_as_text() -> None:
    assert record_of({"record": "1099511627776"}) == record_of({"record": 1 << 40}) == 1 << 40
    for wrong in (None, True, -1, 1.0, "", "-1", "1.0", "١", 2**63, "9" * 30, [], {}):
        assert record_of({"record": wrong}) is None
    assert record_of({}) is None
