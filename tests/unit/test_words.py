"""Private words that gave way to the field's terms do not come back, in code, messages or documentation."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = (
    "reviews",
    "broker",
    "storage",
    "classifier",
    "drift",
    "pages",
    "consumer",
    "trainer",
    "console",
    "reviewloop",
)
SUFFIXES = {".py", ".html", ".md", ".yml", ".toml"}

INSTEAD = {
    r"\bbring(s|ing)? into force\b": "activate",
    r"\bDesk\b": "annotation queue",
    r"_AT_LEISURE": "long-read time-out",
    r"\bretention tore\b": "offset gaps caused by retention",
    r"\b(is|are) no numbers?\b": "non-finite",
    r"\bwhom to\b": "the subject by its name",
    r"\b[Ww]hoever\b": "the subject by its name",
    r"\b[Ww]hat serve[sd]\b": "the active adapter",
    r"\badapter that serves\b": "the active adapter",
    r"\bwhat stands there\b": "the subject by its name",
    r"\b_Held\b": "partition state",
    r"\bthe night (asks|chooses|begins|decides)\b": "the nightly run or the training run",
    r"\b(service|database|broker)s? that (is|are) away\b": "unavailable",
    r"\bmend(s|ed|ing)?\b": "correct or repair",
    r"\b(told|tells people) of\b": "notified of, published or reported",
}
"""Patterns, and what to say instead."""

FILES = [
    *(
        path
        for folder in (*PRODUCT, "docs", "deploy")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in SUFFIXES and path.is_file()
    ),
    *(ROOT / page for page in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
]
TEXTS = {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in FILES}


@pytest.mark.parametrize(("pattern", "instead"), INSTEAD.items(), ids=INSTEAD.keys())
def test_a_private_word_does_not_come_back(pattern: str, instead: str) -> None:
    found = [
        f"{path}:{text[: hit.start()].count(chr(10)) + 1}: {hit[0]}"
        for path, text in TEXTS.items()
        for hit in re.finditer(pattern, text)
    ]
    assert not found, f"say {instead} instead: " + ", ".join(found)
