"""What a stranger wrote cannot command a terminal."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from reviews.sanitise import sanitise

_OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(st.text())
def test_no_control_or_formatting_character_is_left(text):
    left = {character for character in sanitise(text) if unicodedata.category(character) in _OBEYED}
    assert left <= set("\n\t\u200c\u200d")


def test_an_escape_sequence_becomes_letters_to_read():
    assert sanitise("\x1b[2Jgone\x07") == "␛[2Jgone␇"
    assert sanitise("\x9b31m") == "\N{REPLACEMENT CHARACTER}31m"
    assert sanitise("over\rwritten") == "over␍written"


def test_letters_that_only_look_reversed_are_not_reversed():
    assert "\u202e" not in sanitise("good \u202edab")


def test_ordinary_texts_stay_as_they_are():
    for text in ("Très bien, 100 %!", "とても良い", "می‌خواهم", "👩‍👧 ok", "two\nlines\tand a tab"):
        assert sanitise(text) == text
    assert sanitise("a\r\nb\u00a0c") == "a\nb c"
