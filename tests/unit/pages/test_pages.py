"""How a page is made: charts are drawn, a template is filled, and nothing from outside does harm in them."""

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from pages import charts
from pages.picture import BEFORE, CLASS_COLOURS, short
from pages.rendering import number, percent, render

NASTY = '<script>alert("x")</script>& $x_$ \u202eabc \x1b[31m \x00 \ud800 漢字 עברית'
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_a_chart_is_part_of_a_page_or_a_file_and_says_in_words_what_it_shows():
    picture = charts.ranking(
        ["r=8", NASTY], np.array([0.91, 0.9]), np.array([[0.9, 0.92], [np.nan] * 2]), "macro-F1"
    )
    assert picture.alternative == "macro-F1: r=8 is first with 0.9100 of 2."
    inline = picture.__html__()
    root = ET.fromstring(inline)  # noqa: S314  our own, and well-formed
    assert (root.get("role"), root.get("aria-label")) == ("img", picture.alternative)
    assert "var(--soft)" in inline, "the page says what is light and what is dark"
    assert ">r=8  0.910</text>" in inline, "texts are texts"
    assert picture.png().startswith(b"\x89PNG")
    assert picture.svg() == picture.svg()
    assert "&lt;script&gt;" in inline
    assert not re.search("[\x00\x1b\u202e\ud800]", inline)


@pytest.mark.parametrize("hours", [1, 2, 48])
def test_a_course_is_drawn_of_one_stretch_of_time_or_of_many(hours):
    axis = charts.TimeAxis([START + place * HOUR for place in range(hours)], START, START + HOUR, HOUR)
    values = [None, *range(1, hours)] if hours > 1 else [0.5]
    assert (
        "The change begins 01 Jan 2026 01:00."
        in charts.course(axis, values, 0.5, "x", percent=True).__html__()
    )


def test_there_are_charts_of_one_class_and_of_twenty_with_long_names():
    for classes in (1, 20):
        names = [f"{'a class' * 9} {place}" for place in range(classes)]
        counts = np.eye(classes, dtype=np.int64) * 7
        assert ": 100.0% of" in charts.confusion_matrix(counts, names, "test rows").__html__()
        axis = charts.TimeAxis([START], START, None, HOUR)
        charts.shares_over_time(axis, [dict.fromkeys(names, 1 / classes)], names, "Classes").__html__()
        shares = [1 / classes] * classes
        picture = charts.before_and_after(names, shares, shares, "Classes", is_scale=False)
        assert "largest difference" in picture.__html__()
    empty = charts.learning_curves({"candidate": [], "promoted": []}, [], "", "labels", "F1")
    assert empty.svg().startswith(b"<?xml")


def test_bins_without_rows_are_no_part_of_a_reliability_diagram():
    picture = charts.reliability(np.array([[0.9, 0.1], [0.7, 0.3]]), np.array([0, 1]), "test rows")
    assert picture.alternative == "Accuracy over confidence, test rows, at most 70.0% from the diagonal."


def test_what_is_put_into_a_template_is_sanitised_bounded_and_escaped(tmp_path):
    (tmp_path / "page.html").write_text(
        '{% extends "base.html" %}{% from "parts.html" import table %}'
        "{% block title %}{{ name }}{% endblock %}"
        "{% block main %}{{ table([name], [[name, 0.5]]) }}{% endblock %}"
    )
    text = render(tmp_path / "page.html", {"name": NASTY})
    assert text.count("&lt;script&gt;") == 3
    assert '<td dir="auto">0.5000</td>' in text
    assert not re.search("[\x00\x1b\u202e\ud800]|<script", text)
    assert "default-src 'none'" in text
    assert len(render(tmp_path / "page.html", {"name": "x" * 1_000_000})) < 20_000


def test_names_and_numbers_are_short():
    assert short("a" * 30 + "b" * 30, 10) == "aaaaaa…bbb"
    assert short("line\nbreak") == "line break"
    assert (percent(0.123), percent(0.034), percent(0.0001), percent(0)) == ("12%", "3.4%", "< 0.1%", "0%")
    assert (number(0.12345), number(3e-4), number(1000), number("x")) == ("0.1235", "3.0e-04", "1,000", "x")


def test_each_colour_is_told_from_the_light_and_from_the_dark_page():
    for colour in (*CLASS_COLOURS, BEFORE):
        for ground in ("#ffffff", "#211e1c"):
            light, dark = sorted((_luminance(colour), _luminance(ground)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3, f"{colour} on {ground}"


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
