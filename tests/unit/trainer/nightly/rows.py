"""Labelled reviews out of thin air."""

from datetime import UTC, datetime

from reviews.label import LabelledReview
from trainer.nightly.snapshot import Row, Snapshot, freeze, weighting
from trainer.settings import NightlySettings

T0 = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = ("no", "yes")


def review(number: int, label: str = "yes", text: str | None = None, **more) -> LabelledReview:
    """One labelled review."""
    said = LabelledReview(
        number, f"review-{number}", text or f"text {number}", "kettle", "shop", T0, label, T0, T0, T0
    )
    return said._replace(**more)


def snapshot(count: int, trained_on: frozenset[int] = frozenset()) -> Snapshot:
    """So many reviews, every other a no."""
    reviews = [review(number, NAMES[number % 2]) for number in range(count)]
    settings = NightlySettings()
    return freeze(reviews, NAMES, settings.shares, weighting(settings), trained_on)


def records(rows: tuple[Row, ...]) -> set[int]:
    """Their records."""
    return {row.review.record for row in rows}
