"""Settings of a source as text: a section of the settings file, which reads back as it was written."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def write_section(values: Mapping[str, Any], comments: Iterable[str] = ()) -> str:
    """One entry of ``[[sources]]`` as TOML.

    Args:
        values: The settings by name; ``fields`` and ``attributes`` become tables, and what is empty or None
            is left out.
        comments: Lines to put above.
    """
    tables = {name: value for name, value in values.items() if isinstance(value, Mapping) and value}
    plain = {
        name: value
        for name, value in values.items()
        if not isinstance(value, Mapping) and value is not None and value != ()
    }
    lines = [f"# {_in_one_line(comment)}" for comment in comments]
    lines += ["[[sources]]", *(f"{_key(name)} = {write_value(value)}" for name, value in plain.items())]
    for name, table in tables.items():
        lines += ["", f"[sources.{name}]"]
        lines += [f"{_key(inner)} = {write_value(value)}" for inner, value in table.items()]
    return "\n".join(lines) + "\n"


def write_value(value: Any) -> str:
    """A value as TOML writes it in one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's; DEL alone is written as it is by the one and forbidden by the other.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        inner = ", ".join(
            f"{_key(name)} = {write_value(one)}" for name, one in value.items() if one is not None
        )
        return f"{{ {inner} }}"
    if isinstance(value, Sequence):
        return f"[{', '.join(map(write_value, value))}]"
    return str(value)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else write_value(name)


def _in_one_line(text: str) -> str:
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())
