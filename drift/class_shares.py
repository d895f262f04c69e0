"""Are other classes found than before?"""

import numpy as np

from drift.divergence import homogeneity_p_value, population_stability_index
from drift.finding import Finding
from drift.pair import Pair

MEASURE = "class shares"
SHARE_OF = "share of "
"""What the unit begins with; the class that moved most follows."""

_FLOOR = 0.1


def class_shares(pair: Pair) -> Finding:
    """The population stability index of the most probable classes, in nats, and the class that moved most."""
    count = len(pair.reference.classes)
    one = pair.reference_counts(pair.reference.labels, count)
    other = np.bincount(pair.window.labels, minlength=count).astype(np.float64)
    before, after = one / one.sum(), other / other.sum()
    moved = int(np.abs(after - before).argmax())
    return Finding(
        MEASURE,
        "classes",
        population_stability_index(one, other),
        _FLOOR,
        homogeneity_p_value(one, other),
        float(before[moved]),
        float(after[moved]),
        f"{SHARE_OF}{pair.reference.classes[moved]}",
    )
