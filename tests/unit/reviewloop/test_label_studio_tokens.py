"""The tokens by which Label Studio reaches the console."""

from datetime import UTC, datetime, timedelta

from reviewloop.cli.label_studio import token_name


def test_tokens_that_are_made_in_one_second_have_names_of_their_own():
    moment = datetime(2026, 11, 30, 4, 27, 51, tzinfo=UTC)
    assert token_name(2, moment) != token_name(2, moment + timedelta(milliseconds=1))
    assert token_name(2, moment).startswith("label-studio 2 2026-11-30 04:27:51")
