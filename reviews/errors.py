"""One tree of errors; each branch is named after what the caller does next."""

import signal


class ReviewLoopError(Exception):
    """Something went wrong that the message explains: what, where, and what to do. Commands exit with 1."""


class WrongUse(ReviewLoopError):
    """The caller asked for something that cannot be meant: correct the call. Commands exit with 2."""


class InvalidMessage(ReviewLoopError):
    """One record cannot become a review: dead-letter it and go on.

    Attributes:
        reason: A short stable name for counting (``not_json``, ``blank_text`` …).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Undecodable(InvalidMessage):
    """The bytes of one record are not what its source declares: dead-letter it as one of stage ``decode``."""


class Unavailable(ReviewLoopError):
    """A service does not answer, or not now: wait and try again; nothing is wrong with the data.

    Attributes:
        service: Which one, for monitoring: ``kafka``, ``database`` or ``registry``; None where it is none of
            them.
        retry_seconds: After how long another attempt is made at all; None: the caller decides.
    """

    def __init__(
        self, message: str, service: str | None = None, *, retry_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.service = service
        self.retry_seconds = retry_seconds


class Exhausted(Unavailable):
    """A service gave up for want of time or memory: wait and try again, and then with less at once."""


class Unstorable(ReviewLoopError):
    """A service is well and refuses what it was handed: store it in parts, dead-letter the record at fault.

    Attributes:
        reason: A short stable name for counting (``program_limit_exceeded``, ``statement_timeout`` …).
        explanation: What was wrong, in a sentence that does not quote the input.
    """

    def __init__(self, message: str, reason: str, explanation: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.explanation = explanation


class AdapterError(ReviewLoopError):
    """An adapter cannot be used (damaged, foreign, incomplete): keep the active one."""


class ModelError(ReviewLoopError):
    """The base model cannot be loaded or used as asked."""


class StreamError(ReviewLoopError):
    """The stream and the stored position contradict each other in a way that only a person can decide."""


class Unread(ReviewLoopError):
    """A run until idle ends with records left that no worker reads: say so, and fail."""


def describe_exit(code: int) -> str:
    """How a child process ended, from its exit code as Python gives it: below 0 it is a signal."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name}, which the kernel sends when memory is short" if -code == signal.SIGKILL else name
