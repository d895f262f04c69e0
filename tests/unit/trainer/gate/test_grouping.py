from datetime import UTC, datetime, timedelta, timezone

import pytest

from trainer.gate.evidence import length_segment, segments_of


def test_each_row_has_a_value_in_every_group_and_none_is_empty():
    late = datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))  # still February in UTC
    segments = segments_of(
        ["short", "x" * 500], ["kettle", None], [None, "shop"], [datetime(2026, 1, 5, tzinfo=UTC), late]
    )
    assert segments == {
        "product": ["kettle", ""],
        "source": ["", "shop"],
        "length": ["short", "long"],
        "month": ["2026-01", "2026-02"],
    }


@pytest.mark.parametrize(
    ("characters", "segment"), [(0, "short"), (79, "short"), (80, "medium"), (399, "medium"), (400, "long")]
)
def test_lengths_are_told_apart_at_a_line_and_a_paragraph(characters, segment):
    assert length_segment("x" * characters) == segment
