"""One line of the doctor's report."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

from reviews.errors import ReviewLoopError


class Level(StrEnum):
    """How bad it is."""

    ok = "ok"
    warn = "warn"
    fail = "fail"


class Finding(NamedTuple):
    """What was found.

    Attributes:
        check: What was looked at, a word or two.
        level: How bad it is.
        found: What is there, in a sentence or less.
        remedy: How to mend it; empty where all is well, and where what was found says so already.
    """

    check: str
    level: Level
    found: str
    remedy: str = ""


Check = Callable[[], Iterator[Finding]]


def examine(name: str, check: Check) -> Iterator[Finding]:
    """The findings of one check; an error of ours is one, too, and its message says how to mend it."""
    try:
        yield from check()
    except ReviewLoopError as err:
        yield failure(name, err)


def failure(name: str, err: ReviewLoopError) -> Finding:
    """An error of ours as a finding."""
    return Finding(name, Level.fail, str(err))
