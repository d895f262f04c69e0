"""The page: one file, nothing from elsewhere, everything from outside escaped."""

import dataclasses
import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from console.drift_reports.page import page
from console.drift_reports.wording import headline, unseen
from reviewloop.drift_reports.reporter import stretch_width, to_microseconds, to_rows
from reviews.drift import DriftReport, StoredReview
from reviews.slices import SliceShares
from reviews.stream_records import KeepReason
from tests.made_report import START, made_report
from tests.unit.drift.made_up import CLASSES

NASTY = '<script>alert("x")</script>&'


def test_embeddings_that_were_kept_because_of_doubt_are_no_part_of_the_stream():
    import numpy as np

    def kept(reason: KeepReason | None) -> StoredReview:
        vector = None if reason is None else np.array([len(reason)], "<f2").tobytes()
        return _example()._replace(vector=vector, kept=reason)

    reviews = [kept(reason) for reason in ("uncertain", "audit", None, "sample", "uncertain")]
    some = to_rows(reviews, CLASSES, SliceShares())
    assert some.embedded.tolist() == [1, 3]
    assert some.embeddings.tolist() == [[5], [6]]
    everything = to_rows(
        [kept("all"), *(review for review in reviews if review.kept)], CLASSES, SliceShares()
    )
    assert everything.embedded.tolist() == [0, 1, 2, 3, 4]


def test_a_report_says_what_its_reference_has_not_seen(report):
    def said(saw_week: bool, compared: int) -> str:
        seasons = {"saw_week": saw_week, "compared": compared}
        return unseen(dataclasses.replace(report, measures=report.measures | {"seasons": seasons}))

    assert said(True, 300) == ""
    assert said(False, 300) == "The reference has not seen a whole week yet."
    assert "25% of the reviews are of hours unknown to it" in said(False, 225)
    old = {name: value for name, value in report.measures.items() if name != "seasons"}
    assert unseen(dataclasses.replace(report, measures=old)) == ""
    bare = {name: report.measures[name] for name in ("adapter", "labels", "looked_at", "seasons")}
    assert "has not seen a whole week yet" in page(dataclasses.replace(report, measures=bare))


class Outline(HTMLParser):
    """Which elements a page has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href"}]


@pytest.fixture(scope="module")
def report() -> DriftReport:
    return made_report(NASTY, NASTY, NASTY)


@pytest.fixture(scope="module")
def shown(report) -> str:
    return page(report, [_example()])


def _example() -> StoredReview:
    return StoredReview(1, "r", NASTY, NASTY, NASTY, START, START, [0.2, 0.8], None, None)


def test_the_page_needs_nothing_from_elsewhere_and_runs_no_script(shown):
    text = shown
    outline = Outline(text)
    assert all(link.startswith("#") for link in outline.links), "only parts of the same chart"
    assert not {"script", "link", "iframe", "img", "object"} & set(outline.tags)
    assert text.count("url(") == text.count("url(#")
    assert text.count('role="img"') == 10  # six courses, four shapes
    assert not re.search(r"<[^>]+ style=", text), "a strict Content-Security-Policy forbids it"
    assert NASTY not in text
    assert text.count("&lt;script&gt;") >= 4
    assert not re.search(r"\bnan\b|\binf\b", text)


def test_the_page_says_what_moved_since_when_and_how_sure(shown):
    text = shown
    assert "people write other texts" in text
    assert "How sure" in text
    assert "moved too" in text
    assert "cinema" in text


@pytest.mark.parametrize("verdict", ["stable", "unknown"])
def test_there_is_a_page_without_drift_too(report, verdict):
    bare = DriftReport(report.windows, 0, verdict, {"labels": CLASSES})
    outline = Outline(page(bare))
    assert "h1" in outline.tags
    assert headline(bare) in page(bare)


def test_too_few_reviews_are_counted_beside_what_is_needed(report):
    measures = {"looked_at": {"reference": 5_000, "window": 150}, "least_reviews": 200}
    text = headline(DriftReport(report.windows, 150, "unknown", measures))
    assert "5,000 in the reference, 150 in the window, and drift.least_reviews asks for 200 in each" in text


def test_the_class_whose_share_moved_is_named_wherever_the_report_is_told(report):
    shares = {
        "measure": "class shares", "subject": "classes", "unit": f"share of {NASTY}", "reference": 0.091,
        "window": 0.304, "effect": 0.3, "floor": 0.1, "adjusted_p_value": 1e-9, "is_drift": True,
    }  # fmt: skip
    others = [found for found in report.measures["findings"] if found["subject"] != "classes"]
    measures = report.measures | {"moved": ["classes"], "findings": [shares, *others]}
    told = dataclasses.replace(report, measures=measures)
    assert f"other classes are found, above all '{NASTY}' (9.1% before, 30.4% now)" in headline(told)
    text = page(told)
    assert "above all" in text
    assert NASTY not in text


def test_a_stretch_is_as_short_as_leaves_a_picture_readable():
    for hours in (0.001, 1, 30, 24 * 30, 24 * 3650):
        whole = timedelta(hours=hours)
        assert whole / stretch_width(whole) <= 48
    assert stretch_width(timedelta(days=2)) == timedelta(hours=1)


def test_stored_reviews_become_columns():
    import numpy as np

    vector = np.array([1, 2], "<f2").tobytes()
    first = _example()._replace(truth="positive", vector=vector, kept="audit")
    strange = _example()._replace(record=2, truth="no such label")
    rows = to_rows([first, strange], CLASSES, SliceShares())
    assert rows.truth.tolist() == [1, -1]
    assert rows.embeddings.tolist() == [[1, 2]]
    assert rows.embedded.tolist() == [0]
    assert rows.probabilities.shape == (2, 2)
    assert to_rows([], CLASSES, SliceShares()).probabilities.shape == (0, 2)
    renamed = [CLASSES[0], "no such label"]
    assert to_rows([first, strange], CLASSES, SliceShares(), renamed).truth.tolist() == [-1, 1]
    merged = ["no such label"] * 2
    assert to_rows([strange], CLASSES, SliceShares(), merged).truth.tolist() == [-1], "which of both?"
    assert to_microseconds(START + timedelta(microseconds=7)) % 1_000_000 == 7
