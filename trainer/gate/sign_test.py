"""The exact sign test: how often a fair coin does as well."""

from math import exp, lgamma, log

import numpy as np


def tail(at_least: int, tosses: int) -> float:
    """The chance that a fair coin shows at least so many heads in so many tosses.

    McNemar's test in its exact form: tosses are rows that one adapter has right and the other wrong.
    McNemar: Note on the sampling error of the difference between correlated proportions (Psychometrika 1947).
    """
    if at_least <= 0:
        return 1.0
    heads = np.arange(at_least, tosses + 1)
    logs = [lgamma(tosses + 1) - lgamma(k + 1) - lgamma(tosses - k + 1) - tosses * log(2) for k in heads]
    return min(1.0, sum(exp(value) for value in logs))
