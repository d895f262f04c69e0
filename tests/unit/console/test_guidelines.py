"""Guidelines as HTML: what authors need is there, and nothing that runs, loads or leads astray."""

import pytest

from console.guidelines import LONGEST_CHARACTERS, check_guidelines, to_html
from reviews.errors import WrongUse


def test_headings_lists_tables_emphasis_and_links_are_shown():
    html = to_html(
        "# Labels\n\n- **irony** is *negative*\n\n|a|b|\n|-|-|\n|1|2|\n\n[Rules](https://example.org/r)"
    )
    for part in ("<h3>Labels</h3>", "<strong>irony</strong>", "<em>negative</em>", "<td>1</td>"):
        assert part in html
    assert '<a href="https://example.org/r" rel="noopener noreferrer" target="_blank">Rules</a>' in html


@pytest.mark.parametrize(
    "markdown",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        "[a]( JaVaScRiPt:alert(1))",
        "[a](data:text/html;base64,PHNjcmlwdD4=)",
        "[a](//elsewhere.example/x)",
        "[a](/log-out)",
        "![a](https://elsewhere.example/picture.png)",
        "<javascript:alert(1)>",
        '[a](https://x.org"onmouseover="alert(1))',
        "[a][b]\n\n[b]: vbscript:x",
    ],
)
def test_nothing_runs_loads_or_leads_to_this_console(markdown):
    html = to_html(markdown)
    assert "<script" not in html
    assert "<img" not in html
    assert "onerror=alert" not in html.replace("&lt;img src=x onerror=alert", "")
    assert 'href="javascript' not in html.lower()
    assert 'href="data' not in html
    assert 'href="/' not in html
    assert 'href="vbscript' not in html
    assert '"onmouseover=' not in html


def test_control_characters_become_visible():
    assert "␛[31m" in to_html("\x1b[31mred")
    assert "\u202e" not in to_html("\u202edesrever")


@pytest.mark.parametrize("text", ["", " \n ", "x" * (LONGEST_CHARACTERS + 1)])
def test_blank_and_endless_guidelines_are_refused(text):
    with pytest.raises(WrongUse, match="1 to 20,000"):
        check_guidelines(text)


def test_line_ends_are_stored_alike():
    assert check_guidelines("a\r\nb\rc\n") == "a\nb\nc"
