"""Sanitises untrusted text for display: no character moves the cursor, changes colours or hides text."""

import re
import unicodedata

KEPT = frozenset("\n\t\u200c\u200d")  # joiners: Persian, Indic scripts and many emoji need them
"""What is not printable and stays."""

_LINE_ENDS = re.compile("\r\n|[\u2028\u2029]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def sanitise(text: str) -> str:
    """The text with a visible sign in place of each control or formatting character.

    Line feeds, tabs and joiners stay. So do the letters of an escape sequence: a reader sees what the model
    was given.
    """
    if text.isprintable():  # as most are; looking at each character takes a hundred times as long
        return text
    return "".join(map(_shown, _LINE_ENDS.sub("\n", text)))


def _shown(character: str) -> str:
    if character.isprintable() or character in KEPT:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # the picture of a control character, such as ␛
    if code == 0x7F:
        return "\N{SYMBOL FOR DELETE}"
    return " " if unicodedata.category(character) == "Zs" else _REPLACEMENT
