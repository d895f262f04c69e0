"""The price of an answer in an annotator's time: a part for every answer, and a part for reading the text.

Labels are paid for in time, and a text of 3,000 characters takes as long as ten short ones. Reading is
counted by characters: languages without blanks have them too, and a database knows them without a copy of the
text. The default is English read silently: 240 words a minute (Brysbaert: How many words do we read per
minute?, Journal of Memory and Language 109, 2019) of 5.7 characters with their blank.
"""

from typing import NamedTuple

import numpy as np

from trainer.selection.pool import Floats, Integers
from trainer.settings import SelectionSettings

LEAST_ANSWERS = 20


def expected_seconds(characters: Integers, settings: SelectionSettings) -> Floats:
    """float64 (texts), positive: how long an annotator is expected to take for each.

    Args:
        characters: int64 (texts): the length of each.
        settings: Says how long an answer takes and how fast annotators read.
    """
    return np.asarray(settings.answer_seconds + characters / settings.characters_a_second, np.float64)


def cost_weights(characters: Integers, settings: SelectionSettings) -> Floats:
    """float64 (texts) in (0, 1]: the weight of each in a draw, by its price; 1 for an empty text.

    ``(answer_seconds / expected seconds) ** cost_exponent``: with 1, a text that takes twice as long is drawn
    half as often, so that as much time goes to long texts as to short ones; with 0, length does not matter.
    """
    return np.asarray(
        (settings.answer_seconds / expected_seconds(characters, settings)) ** settings.cost_exponent
    )


class MeasuredCost(NamedTuple):
    """What answers took, by the lengths of their texts.

    Attributes:
        answer_seconds: An answer without the reading.
        characters_a_second: How fast annotators read; infinite where longer texts took no longer.
        answers: How many answers say so.
    """

    answer_seconds: float
    characters_a_second: float
    answers: int


def measured_cost(seconds: Floats, characters: Integers) -> MeasuredCost | None:
    """The cost model that answers fit best; None where they are too few or all as long.

    By the median of the slopes between all pairs (Sen: Estimates of the Regression Coefficient Based on
    Kendall's Tau, JASA 63, 1968): an annotator who went for a coffee does not move it.

    Args:
        seconds: float64 (answers): how long each took.
        characters: int64 (answers): the length of each text.
    """
    if len(seconds) < LEAST_ANSWERS or len(np.unique(characters)) < LEAST_ANSWERS // 2:
        return None
    slope = max(0.0, _median_slope(seconds, characters))
    fixed = float(np.median(seconds - slope * characters))
    return MeasuredCost(max(0.0, fixed), 1 / slope if slope else float("inf"), len(seconds))


def _median_slope(seconds: Floats, characters: Integers) -> float:
    first, second = np.triu_indices(len(seconds), 1)
    lengths = characters[second] - characters[first]
    differ = lengths != 0
    return float(np.median((seconds[second] - seconds[first])[differ] / lengths[differ]))
