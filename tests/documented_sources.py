"""The worked examples of docs/sources-and-sinks.md: a source each, its records, and what becomes of them."""

import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "docs" / "sources-and-sinks.md"
_BLOCK = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class DocumentedRecord:
    """A record of an example.

    Attributes:
        value: Its value.
        key: Its key.
        headers: Its headers.
        kind: ``row`` or ``withdrawn``.
        expected: Columns and values of its row.
    """

    value: bytes
    key: bytes | None
    headers: list[tuple[str, bytes]]
    kind: str = ""
    expected: dict[str, Any] = field(default_factory=dict)


@dataclass
class DocumentedSource:
    """An example.

    Attributes:
        title: The heading that it is under.
        source: The settings of its source.
        records: Its records.
    """

    title: str
    source: dict[str, Any]
    records: list[DocumentedRecord]


def documented_sources() -> list[DocumentedSource]:
    """Every example with records."""
    part = PAGE.read_text(encoding="utf-8").split("\n## In\n")[1].split("\n## ")[0]
    sections = re.split(r"^### (.+)$", part, flags=re.MULTILINE)[1:]
    found = [_example(title, text) for title, text in zip(sections[::2], sections[1::2], strict=True)]
    return [example for example in found if example is not None]


def _example(title: str, text: str) -> DocumentedSource | None:
    blocks = _BLOCK.findall(text)
    if not any(kind == "record" for _, kind, _ in blocks):
        return None
    (source,) = tomllib.loads(next(content for language, _, content in blocks if language == "toml"))[
        "sources"
    ]
    records: list[DocumentedRecord] = []
    key, headers = None, []
    for _, kind, content in blocks:
        if kind == "key":
            key = content.strip().encode()
        elif kind == "headers":
            headers = [(name, value.encode()) for name, value in json.loads(content).items()]
        elif kind == "record":
            records.append(DocumentedRecord(content.strip().encode(), key, headers))
        elif kind in {"row", "withdrawn"}:
            records[-1].kind, records[-1].expected = kind, json.loads(content)
    return DocumentedSource(title, source, records)
