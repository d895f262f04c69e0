"""What a benchmark says: one JSON object a line, with the median of its repetitions and their range."""

import json
import os
import platform
from collections.abc import Sequence
from statistics import median


def report(figure: str, values: Sequence[float], unit: str) -> None:
    """Print the median, the least and the greatest of the repetitions."""
    numbers = {"value": median(values), "low": min(values), "high": max(values)}
    rounded = {name: float(f"{number:.4g}") for name, number in numbers.items()}
    line = {"figure": figure, "value": rounded["value"], "unit": unit}
    print(json.dumps({**line, "low": rounded["low"], "high": rounded["high"]}), flush=True)


def report_machine() -> None:
    """Print what it ran on."""
    machine = {"cores": os.cpu_count(), "processor": _processor(), "python": platform.python_version()}
    print(json.dumps({"machine": machine}), flush=True)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so much of the sorted values do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123  one line of a system file
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
