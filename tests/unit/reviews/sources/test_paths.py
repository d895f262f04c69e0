"""Paths are those of Kafka Connect, and every path that can be written is read back."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reviews.sources.paths import MAX_PATH_CHARACTERS, MAX_STEPS, FieldPath, parse_path, write_path

NAMES = st.text(st.sampled_from("ab.`\\$_é "), min_size=1, max_size=6)
PARTS = st.sampled_from(["value", "key"])


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("foo", ("foo",)),
        ("foo.bar.baz", ("foo", "bar", "baz")),
        ("`foo.bar`", ("foo.bar",)),
        ("foo.`bar.baz`", ("foo", "bar.baz")),
        ("`foo.bar`.baz", ("foo.bar", "baz")),
        ("foo.`bar.baz`.qux", ("foo", "bar.baz", "qux")),
        ("foo`bar`baz", ("foo`bar`baz",)),
        ("`foo`bar`", ("foo`bar",)),
        ("`foo\\`.bar`", ("foo`.bar",)),
        ("foo.`bar\\`.baz`.qux", ("foo", "bar`.baz", "qux")),
        ("foo\\.bar", ("foo\\", "bar")),
        ("`$key`", ("$key",)),
        ("a.$key", ("a", "$key")),
    ],
)
def test_a_path_has_the_steps_that_kafka_gives_it(text: str, steps: tuple[str, ...]) -> None:
    assert parse_path(text) == FieldPath("value", steps)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("$value", FieldPath("value", ())),
        ("$value.a", FieldPath("value", ("a",))),
        ("$key", FieldPath("key", ())),
        ("$key.a.b", FieldPath("key", ("a", "b"))),
        ("$headers.ce_id", FieldPath("headers", ("ce_id",))),
        ("$headers.`x.y`", FieldPath("headers", ("x.y",))),
        ("$timestamp", FieldPath("timestamp", ())),
    ],
)
def test_a_dollar_names_a_part_of_the_record(text: str, path: FieldPath) -> None:
    assert parse_path(text) == path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs a name"),
        ("a..b", "empty name"),
        (".a", "empty name"),
        ("a.", "empty name"),
        ("``", "empty name"),
        ("`a.b", "nothing closes"),
        ("`a\\`", "nothing closes"),
        ("`a`b", "nothing closes"),
        ("$topic", r"\$value, \$key, \$headers and \$timestamp"),
        ("$headers", "one header"),
        ("$headers.a.b", "one header"),
        ("$timestamp.a", "no fields"),
        ("a" * (MAX_PATH_CHARACTERS + 1), "characters"),
        (".".join("a" * (MAX_STEPS + 1)), "names"),
    ],
)
def test_what_is_no_path_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_path(text)


@given(PARTS, st.lists(NAMES, min_size=1, max_size=5))
def test_a_written_path_is_read_back(part: str, names: list[str]) -> None:
    path = FieldPath(part, tuple(names))
    try:
        text = write_path(path)
    except ValueError:
        assume(False)
    assert parse_path(text) == path


@given(st.text(st.sampled_from("ab.`\\$"), max_size=12))
def test_any_text_is_a_path_or_a_value_error(text: str) -> None:
    try:
        path = parse_path(text)
    except ValueError:
        return
    assert path.steps or text.startswith("$")
    assert parse_path(write_path(path)) == path
