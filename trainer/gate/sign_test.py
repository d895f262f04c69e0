"""The exact sign test: how often a fair coin does as well."""

from math import log

import numpy as np


def tail(at_least: int, tosses: int) -> float:
    """The chance that a fair coin shows at least so many heads in so many tosses.

    McNemar's test in its exact form: tosses are rows that one adapter has right and the other wrong.
    McNemar: Note on the sampling error of the difference between correlated proportions (Psychometrika 1947).
    """
    if at_least <= 0:
        return 1.0
    logs = np.concatenate([[0.0], np.log(np.arange(1, tosses + 1)).cumsum()])  # of factorials
    heads = np.arange(at_least, tosses + 1)
    chances = np.exp(logs[tosses] - logs[heads] - logs[tosses - heads] - tosses * log(2))
    return min(1.0, float(chances.sum()))
