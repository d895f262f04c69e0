"""What the drift watch said in a run of nights: false alarms, and how soon a change was found. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from trainer.simulation.curves import whole_seeds


@dataclass(frozen=True, slots=True)
class Alarms:
    """Of all nights and seeds of one strategy.

    Attributes:
        watched: Reviews that were held against a reference, of all seeds.
        false: Alarms, of all seeds, between which and the beginning of their reference no other file began.
        delays: Rising, one for each change of file and seed: how many reviews of the new file had come by the
            first alarm about it; infinite where there was none before the next change, or the end.
    """

    watched: int
    false: int
    delays: tuple[float, ...]

    @property
    def delay(self) -> tuple[float, float, float] | None:
        """Median, least and greatest of the delays; None where the stream never changed its file."""
        return (median(self.delays), self.delays[0], self.delays[-1]) if self.delays else None


def alarms(lines: Sequence[Mapping[str, Any]]) -> Alarms | None:
    """The alarms of seeds whose nights are all there, in lines of one strategy.

    An alarm is about the last change of file before it; it is false where its reference began after that.

    Returns:
        What was found; None where a line is of a version that did not watch.
    """
    seeds = [[nights[night] for night in sorted(nights) if night] for nights in whole_seeds(lines)]
    if not seeds or any("drift" not in line for nights in seeds for line in nights):
        return None
    found = [_of_seed([line["drift"] for line in nights]) for nights in seeds]
    return Alarms(
        watched=sum(one.watched for one in found),
        false=sum(one.false for one in found),
        delays=tuple(sorted(delay for one in found for delay in one.delays)),
    )


def _of_seed(nights: Sequence[Mapping[str, Any]]) -> Alarms:
    delays = {change: float("inf") for night in nights for change in night["changes"]}
    false = 0
    for alarm in (alarm for night in nights for alarm in night["alarms"]):
        change = max((place for place in delays if place < alarm["after"]), default=0)
        if change <= alarm["reference_after"]:
            false += 1
        else:
            delays[change] = min(delays[change], alarm["after"] - change)
    return Alarms(sum(night["watched"] for night in nights), false, tuple(delays.values()))
