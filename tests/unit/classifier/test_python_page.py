"""The page about the Python interface: its examples run as they are, in their order."""

import re
from pathlib import Path

import pytest

import classifier

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_examples_run_in_their_order(monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"<!-- test: python -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == PAGE.count("```python")
    names: dict[str, object] = {}
    exec(compile("\n".join(blocks), "python.md", "exec"), names)  # noqa: S102  the page's own code
    assert names["label"] == "positive"
    assert names["pairs"][0][0] == "negative"
    assert 0 < names["positive"] <= 1_000


@pytest.mark.parametrize("name", classifier.__all__)
def test_the_page_shows_every_public_name(name):
    assert re.search(rf"\b{name}\b", PAGE)
