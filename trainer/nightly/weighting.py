"""What a row counts in training: more where it is new, more where the model was unsure of it. Pure."""

from collections.abc import Callable

from reviews.label import LabelledReview
from trainer.nightly.settings import NightlySettings


def weighting(settings: NightlySettings) -> Callable[[LabelledReview, bool], float]:
    """The weight of a training row, from its record and whether the active adapter never saw it."""

    def weight_of(review: LabelledReview, is_new: bool) -> float:
        weight = settings.new_weight if is_new else 1.0
        is_uncertain = review.margin is not None and review.margin < settings.uncertain_margin
        return weight * (settings.uncertain_weight if is_uncertain else 1.0)

    return weight_of
