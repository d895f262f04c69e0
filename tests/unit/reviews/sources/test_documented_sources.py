"""The examples of docs/sources-and-sinks.md are read as the page says."""

import json
from typing import get_args

import pytest

from reviews.fields import read_moment
from reviews.sources.rules import MappedReview
from reviews.sources.settings import Preset, SourceSettings
from reviews.withdrawal import Withdrawal
from tests.documented_sources import DocumentedSource, documented_sources
from tests.unit.reviews.sources.mapped import read

EXAMPLES = documented_sources()


def test_every_preset_has_an_example() -> None:
    assert {SourceSettings.model_validate(example.source).preset for example in EXAMPLES} == set(
        get_args(Preset)
    )


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.title)
def test_an_example_is_read_as_the_page_says(example: DocumentedSource) -> None:
    for record in example.records:
        mapped = read(example.source, record.value, record.key, record.headers)
        if record.kind == "withdrawn":
            assert mapped == Withdrawal(id=record.expected["review_id"])
            continue
        assert isinstance(mapped, MappedReview)
        found = mapped.message.model_dump()
        found["review_id"] = found.pop("id")
        found["attributes"] = None if mapped.attributes is None else json.loads(mapped.attributes)
        expected = dict(record.expected)
        if "published_at" in expected:
            expected["published_at"] = read_moment(expected["published_at"])
        assert found == found | expected
