"""Keys of labels and commands: each means one thing, and every label has one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.labelling import PAGE_KEYS, Command, make_choices
from reviews.errors import WrongUse


def test_labels_have_digits_and_a_first_letter_that_no_other_label_or_command_wants():
    choices = make_choices(("negative", "neutral", "positive", "spam"))
    assert choices.keys == {
        "negative": ("1",),
        "neutral": ("2",),
        "positive": ("3", "p"),
        "spam": ("4",),  # s skips
    }


def test_whole_words_and_capitals_mean_the_same():
    choices = make_choices(("negative", "Positive"))
    assert choices.meaning("p") == choices.meaning("P") == choices.meaning("positive") == "Positive"
    assert choices.meaning("undo") is choices.meaning("Z") is Command.undo
    assert choices.meaning("posit") is None
    assert choices.meaning("") is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("aSzÄß1", min_size=1, max_size=6), unique_by=str.lower, min_size=1, max_size=20))
def test_no_key_means_two_things(labels):
    choices = make_choices(labels)
    commands = [command.value for command in Command] + list(PAGE_KEYS)
    keys = [key for label in labels for key in choices.keys[label]]
    assert all(choices.keys[label] for label in labels)
    assert len(set(keys) | set(commands)) == len(keys) + len(commands)
    assert all(len(key) == 1 for key in keys)


def test_more_labels_than_keys_are_refused():
    with pytest.raises(WrongUse, match="no key left"):
        make_choices([f"{number:03}" for number in range(40)])
