"""Labelled reviews out of thin air."""

from datetime import UTC, datetime
from pathlib import Path

from reviews.label import LabelledReview
from reviews.slices import SliceShares
from trainer.nightly.snapshot import Row, Snapshot, freeze, weighting
from trainer.settings import NightlySettings, RecipeSettings, TrainerSettings

T0 = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = ("no", "yes")
ACTIVE = Path("active")
SHARES = SliceShares()
SETTINGS = TrainerSettings(batch_size=10, epochs=2, least_steps=0)
RECIPES = (
    RecipeSettings(name="head-active", kind="head", start="active"),
    RecipeSettings(name="head-base", kind="head", start="base"),
    RecipeSettings(name="warm-all-slow", start="active", learning_rate=1e-4),
    RecipeSettings(name="base-all", start="base", learning_rate=5e-4),
    RecipeSettings(name="warm-all-fast", start="active", learning_rate=5e-4),
    RecipeSettings(name="warm-new-slow", start="active", replay=False, learning_rate=1e-4),
)


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


def nightly(**values) -> TrainerSettings:
    """The settings of a night with these recipes, or others."""
    return SETTINGS.model_copy(update={"nightly": NightlySettings(**{"recipes": RECIPES, **values})})
