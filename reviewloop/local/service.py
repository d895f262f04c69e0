"""What the stack asks of each of its services."""

from collections.abc import Sequence
from pathlib import Path
from signal import Signals
from typing import Protocol

from reviewloop.local.process import Process, Record, Say


class Service(Protocol):
    """A server that the stack prepares, launches, waits for and stops.

    Attributes:
        name: For people.
        log: The file with what it prints.
        stop_signals: What ends it in an orderly way, the mildest first.
        stop_seconds: How long each of them may take.
    """

    name: str
    log: Path
    stop_signals: Sequence[Signals]
    stop_seconds: float

    def prepare(self, say: Say) -> None:
        """Make what a launch needs: files, and the data of a first start. Harmless when it is there."""

    def launch(self, ports: Sequence[int], record: Record) -> Process:
        """Start it on `ports`; nothing of it runs before `record` has returned."""

    def is_ready(self, ports: Sequence[int], process: Process) -> bool:
        """Whether `process` serves clients now."""
