"""Whether something asks for a run before the night. Pure."""

from typing import Literal

from storage.learning.runs import Pending
from trainer.nightly.settings import NightlySettings

Trigger = Literal["manual", "nightly", "labels", "drift"]


def due(pending: Pending, settings: NightlySettings) -> Trigger | None:
    """What asks for a run now; None: nothing does.

    A run that waits or fails counts as one: what asked for it does not ask again before the night.
    """
    if settings.run_on_drift and pending.is_drifting:
        return "drift"
    if settings.min_new_labels and pending.new_labels >= settings.min_new_labels:
        return "labels"
    return None
