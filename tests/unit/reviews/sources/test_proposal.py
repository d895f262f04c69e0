"""Proposals recognise what wraps records and what fields are called, and read the records they came from."""

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.source_trial import read_section, section_of, write_proposal
from reviews.dead_letter import RecordHeaders
from reviews.sources.mapping import SourceMapping
from reviews.sources.proposal import propose
from reviews.sources.rules import MappedReview
from reviews.sources.settings import SourceSettings
from reviews.sources.writing import write_section, write_value
from tests.documented_sources import DocumentedSource, documented_sources
from tests.unit.reviews.sources.mapped import LIMIT, PLACE, Raw

AMAZON = [
    {
        "reviewerID": f"A{number}",
        "asin": "B0001",
        "reviewText": f"It fits {number} times very well.",
        "overall": 5.0,
        "summary": "Nice",
        "unixReviewTime": 1769860800 + number,
        "verified": True,
    }
    for number in range(4)
]


def raws(values: list[Any], headers: RecordHeaders = ()) -> list[Raw]:
    return [
        Raw(json.dumps(value).encode(), f"k{number}".encode(), headers) for number, value in enumerate(values)
    ]


def test_fields_are_recognised_by_their_names_types_and_values() -> None:
    proposal = propose(raws(AMAZON))
    assert (proposal.preset, proposal.format) == ("plain", "json")
    assert proposal.fields == {
        "id": "$key",
        "text": {"join": ["summary", "reviewText"]},
        "product": "asin",
        "published_at": {"path": "unixReviewTime", "unit": "seconds"},
        "stars": "overall",
    }


def test_a_rating_beyond_five_gets_the_scale_that_has_it() -> None:
    values = [{"id": n, "text": "It fits very well.", "rating": n} for n in range(1, 9)]
    assert propose(raws(values)).fields["stars"] == {"path": "rating", "scale": [1, 10]}


def test_the_longest_text_is_taken_where_no_name_is_known() -> None:
    values = [
        {"nummer": n, "meinung": {"wortlaut": "Passt und sieht gut aus.", "kurz": "Gut"}} for n in range(3)
    ]
    assert propose(raws(values)).fields["text"] == "meinung.wortlaut"


@pytest.mark.parametrize("example", documented_sources(), ids=lambda example: example.title)
def test_the_preset_of_every_documented_example_is_recognised(example: DocumentedSource) -> None:
    source = SourceSettings.model_validate(example.source)
    proposal = propose([Raw(record.value, record.key, record.headers) for record in example.records])
    assert proposal.preset == source.preset


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"\0\0\0\0\x07\x02abc", "schema 7"),
        (b"\xff\xfe", "neither JSON nor text"),
        (None, "no record with a value"),
    ],
)
def test_what_cannot_be_told_is_said(value: bytes | None, said: str) -> None:
    proposal = propose([Raw(value)] * 3)
    assert proposal.format is None
    assert said in " ".join(proposal.remarks)


def test_a_written_proposal_reads_the_records_that_it_came_from() -> None:
    records = raws(AMAZON)
    source = read_section(write_proposal("amazon", propose(records)))
    mapping = SourceMapping(source, LIMIT)
    found = [mapping.read(record, -1, PLACE) for record in records]
    assert [mapped.message.id for mapped in found if isinstance(mapped, MappedReview)] == [
        "k0",
        "k1",
        "k2",
        "k3",
    ]


@pytest.mark.parametrize("example", documented_sources(), ids=lambda example: example.title)
def test_a_section_is_written_as_it_is_read(example: DocumentedSource) -> None:
    source = SourceSettings.model_validate({**example.source, "tasks": ["a"], "pattern": None})
    assert read_section(section_of(source)) == source


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.text(max_size=8) | st.integers(-9, 9) | st.booleans() | st.lists(st.text(max_size=3)),
        max_size=4,
    )
)
def test_written_values_are_toml(values: dict[str, Any]) -> None:
    assert tomllib.loads(f"a = {write_value(values)}") == {"a": values}
    assert tomllib.loads(write_section({"fields": values})) == {
        "sources": [{"fields": values} if values else {}]
    }


@given(
    st.lists(st.binary(max_size=40) | st.none(), max_size=5),
    st.sampled_from([(), (("ce_specversion", b"1"),)]),
)
def test_any_records_have_a_proposal_that_is_a_section(
    values: list[bytes | None], headers: RecordHeaders
) -> None:
    proposal = propose([Raw(value, b"k", headers) for value in values])
    tomllib.loads(write_proposal("t", proposal))
