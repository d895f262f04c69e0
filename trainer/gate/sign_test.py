"""The exact sign test: how often a fair coin does as well."""

from math import exp, inf, log

import numpy as np


def tail(at_least: int, tosses: int) -> float:
    """The chance that a fair coin shows at least so many heads in so many tosses.

    McNemar's test in its exact form: tosses are rows that one adapter has right and the other wrong.
    McNemar: Note on the sampling error of the difference between correlated proportions (Psychometrika 1947).
    """
    return exp(log_tail(at_least, tosses))


def log_tail(at_least: int, tosses: int) -> float:
    """The natural logarithm of :func:`tail`, also where the chance itself is too small for a number."""
    if at_least <= 0:
        return 0.0
    logs = np.concatenate([[0.0], np.log(np.arange(1, tosses + 1)).cumsum()])  # of factorials
    heads = np.arange(at_least, tosses + 1)
    chances = logs[tosses] - logs[heads] - logs[tosses - heads] - tosses * log(2)
    if not len(chances):
        return -inf
    greatest = float(chances.max())
    return min(0.0, greatest + log(float(np.exp(chances - greatest).sum())))
