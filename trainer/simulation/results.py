"""Results as lines of JSON, each on the disk before the next is computed, so that a killed run continues."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reviews.errors import WrongUse

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Unit:
    """One strategy with one seed: nights follow from each other, units do not.

    Attributes:
        experiment: Its name.
        fit: ``head`` or ``lora``.
        strategy: Its name.
        seed: The seed.
        fingerprint: Of all that decides the results, see :func:`trainer.simulation.experiment.fingerprint`.
    """

    experiment: str
    fit: str
    strategy: str
    seed: int
    fingerprint: str

    def line(self, night: Line) -> dict[str, Any]:
        """A night's results with what they are results of."""
        return {**asdict(self), **night}


def unit_of(line: Line) -> Unit:
    """What a line is a result of."""
    return Unit(line["experiment"], line["fit"], line["strategy"], int(line["seed"]), line["fingerprint"])


def append(file: Path, line: Line) -> None:
    """Add a line, whole and on the disk; several processes may do so at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = (json.dumps(line, separators=(",", ":")) + "\n").encode()
    # One write to a file opened for appending is not mixed with another process's.
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Every whole line, each night of a unit once.

    Raises:
        WrongUse: If a line that is whole holds no results.
    """
    if not file.is_file():
        return []
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    lines: dict[tuple[Unit, int], dict[str, Any]] = {}
    for number, raw in enumerate(whole.splitlines(), 1):
        try:
            line = json.loads(raw)
            lines.setdefault((unit_of(line), int(line["night"])), line)
        except (ValueError, KeyError, TypeError) as err:
            raise WrongUse(
                f"{file}, line {number}, is no result of a simulation: name another file."
            ) from err
    return list(lines.values())


def repair(file: Path) -> None:
    """Cut off what a killed process left of a line, before others append to it."""
    if not file.is_file():
        return
    with file.open("r+b") as content:
        content.truncate(content.read().rfind(b"\n") + 1)


def nights_done(lines: Iterable[Line]) -> dict[Unit, set[int]]:
    """The nights of each unit that have results."""
    done: dict[Unit, set[int]] = {}
    for line in lines:
        done.setdefault(unit_of(line), set()).add(int(line["night"]))
    return done
