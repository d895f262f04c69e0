"""Paths to the parts of a record, in the syntax of Kafka Connect.

Names are joined by dots; a name with a dot is put in backticks, and a backtick in it that stands before a dot
gets a backslash (KIP-821, https://cwiki.apache.org/confluence/x/8pIoDQ). A path begins in the value of the
record; ``$key``, ``$headers`` and ``$timestamp`` name its other parts, and ``$value`` the value as a whole.
"""

from typing import Final, Literal, NamedTuple, get_args

MAX_PATH_CHARACTERS: Final = 1_000
MAX_STEPS: Final = 32

Part = Literal["value", "key", "headers", "timestamp"]
"""A part of a record: its value, its key, one of its headers, or Kafka's time of it."""

_QUOTE = "`"


class FieldPath(NamedTuple):
    """Where one field of a record is.

    Attributes:
        part: The part of the record.
        steps: The names on the way, from the outside in; none for the part as a whole.
    """

    part: Part
    steps: tuple[str, ...]

    def __str__(self) -> str:
        return write_path(self)


def parse_path(text: str) -> FieldPath:
    """The path that a text writes.

    Raises:
        ValueError: If it is none, in words for the one who wrote it.
    """
    if not text:
        raise ValueError("a path needs a name")
    if len(text) > MAX_PATH_CHARACTERS:
        raise ValueError(f"a path has at most {MAX_PATH_CHARACTERS:,} characters")
    steps = _split(text)
    if len(steps) > MAX_STEPS:
        raise ValueError(f"a path has at most {MAX_STEPS} names")
    if "" in steps:
        raise ValueError(f"the path '{text}' has an empty name between its dots")
    if not text.startswith("$"):
        return FieldPath("value", tuple(steps))
    return _of_part(text, steps[0].removeprefix("$"), tuple(steps[1:]))


def _of_part(text: str, name: str, steps: tuple[str, ...]) -> FieldPath:
    for part in get_args(Part):
        if part == name:
            break
    else:
        raise ValueError(
            f"the path '{text}' begins with '${name}': a record has $value, $key, $headers and $timestamp; "
            "put the name of a field that begins with '$' in backticks"
        )
    if part == "headers" and len(steps) != 1:
        raise ValueError(f"the path '{text}' must name one header, such as $headers.NAME")
    if part == "timestamp" and steps:
        raise ValueError(f"the path '{text}' goes into $timestamp, which has no fields")
    return FieldPath(part, steps)


def _split(text: str) -> list[str]:
    steps: list[str] = []
    start = 0
    while start <= len(text):
        if text.startswith(_QUOTE, start):
            name, start = _quoted(text, start + 1)
        else:
            end = text.find(".", start)
            name, start = (text[start:], len(text) + 1) if end < 0 else (text[start:end], end + 1)
        steps.append(name)
    return steps


def _quoted(text: str, start: int) -> tuple[str, int]:
    """The name up to the backtick that closes it, and where the next name begins.

    As in Kafka, a backtick closes only before a dot or at the end, unless a backslash is before it.
    """
    name = ""
    position = start
    while True:
        position = text.find(_QUOTE, position)
        if position < 0:
            raise ValueError(f"the path '{text}' opens a backtick that nothing closes")
        is_escaped = text[position - 1] == "\\"
        is_last = position == len(text) - 1
        if not is_last and text[position + 1] != ".":
            position += 1
        elif is_escaped and is_last:
            raise ValueError(f"the path '{text}' opens a backtick that nothing closes")
        elif is_escaped:
            name += text[start : position - 1] + _QUOTE
            start = position = position + 1
        else:
            return name + text[start:position], position + 2


def write_path(path: FieldPath) -> str:
    """The text of a path; :func:`parse_path` reads it back.

    Raises:
        ValueError: If the syntax has no text for it, since a name that needs backticks ends with a backslash.
    """
    begin = [] if path.part == "value" and path.steps else [f"${path.part}"]
    names = [_write(name, is_first=not begin and not index) for index, name in enumerate(path.steps)]
    return ".".join([*begin, *names])


def _write(name: str, *, is_first: bool) -> str:
    if "." not in name and not name.startswith(_QUOTE) and not (is_first and name.startswith("$")):
        return name
    if name.endswith("\\"):
        raise ValueError("a name that needs backticks and ends with a backslash cannot be written as a path")
    return _QUOTE + name.replace(f"{_QUOTE}.", f"\\{_QUOTE}.") + _QUOTE
