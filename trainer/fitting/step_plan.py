"""The steps of a fit, epoch by epoch, cut to what the time allows as soon as the first steps tell the pace.

A schedule that is broken off in the middle ends at a high learning rate. So the number of steps is decided as
early as the pace is known, and the rate falls to zero at the last step that there is time for. What a step
takes is in proportion to the tokens that it pads its rows to.
"""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Step = Sequence[npt.NDArray[np.int64]]
"""The batches of one optimiser step: positions of rows."""

WARM_UP_STEPS = 1
"""The first step allocates memory and tells little."""
MEASURED_STEPS = 4
_FORWARD_SHARE = 0.5  # of what a row costs in a step, where it is only looked at


class StepPlan:
    """Which steps are taken.

    Args:
        epochs: The steps of each epoch.
        lengths: integers (rows), tokens of each training row.
        checked_tokens: Tokens of the rows that are looked at after each epoch, and once more at the end.
        seconds: The time that there is for all of it, from now on; None: there is no limit.
        clock: Seconds of a monotonic clock.
    """

    def __init__(
        self,
        epochs: Sequence[Sequence[Step]],
        lengths: npt.NDArray[np.integer],
        checked_tokens: int,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._epochs = epochs
        self._lengths = lengths
        self._checked_tokens = checked_tokens
        self._clock = clock
        self._ends_at = math.inf if seconds is None else clock() + seconds
        self._measured_from = 0.0

    @property
    def epochs(self) -> int:
        """How many epochs there are; the last one may be cut."""
        return len(self._epochs)

    @property
    def steps(self) -> int:
        """How many steps there are in all."""
        return sum(map(len, self._epochs))

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return not math.isinf(self._ends_at) and self._clock() >= self._ends_at

    def end_of(self, epoch: int) -> int:
        """How many steps are done at the end of an epoch, counted from 1."""
        return sum(map(len, self._epochs[:epoch]))

    def step(self, number: int) -> Step:
        """A step by its number over all epochs, from 0."""
        epoch = next(epoch for epoch in range(1, self.epochs + 1) if number < self.end_of(epoch))
        return self._epochs[epoch - 1][number - self.end_of(epoch - 1)]

    def note_done(self, done: int) -> None:
        """So many steps are done: once enough of them were, the rest is cut to what there is time for."""
        if math.isinf(self._ends_at):
            return
        if done == WARM_UP_STEPS:
            self._measured_from = self._clock()
        elif done == WARM_UP_STEPS + MEASURED_STEPS:
            tokens = sum(self._tokens_of(self.step(number)) for number in range(WARM_UP_STEPS, done))
            self._cut(done, (self._clock() - self._measured_from) / tokens)

    def _cut(self, done: int, seconds_a_token: float) -> None:
        check = self._checked_tokens * seconds_a_token * _FORWARD_SHARE
        left = self._ends_at - self._clock() - check
        kept: list[list[Step]] = []
        number = 0
        for epoch in self._epochs:
            left -= check
            kept.append([])
            for step in epoch:
                left -= 0 if number < done else self._tokens_of(step) * seconds_a_token
                if left < 0 and number >= done:
                    self._epochs = [steps for steps in kept if steps]
                    return
                kept[-1].append(step)
                number += 1

    def _tokens_of(self, step: Step) -> int:
        """Tokens of a step's batches, each padded to its longest row."""
        return sum(len(batch) * int(self._lengths[batch].max()) for batch in step)
