"""Work beside what serves, in a thread that ends and makes way."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Result = TypeVar("_Result")
_LOWEST_PRIORITY = 19


def build_aside(build: Callable[[], _Result], *, make_way: bool) -> _Result:
    """What ``build`` returns or raises, run in a thread of its own that the caller waits for.

    The thread ends, since OpenMP keeps a team for each thread that ever used a model, and with more threads
    than cores all teams sleep between products: it cost a scoring thread a tenth of its speed.

    Args:
        build: Makes a classifier, say.
        make_way: Whether, on Linux, the thread gets what time the others leave: batches that are scored
            meanwhile take 1.1 times as long as without a build; beside an equal they took twice as long.
    """
    with ThreadPoolExecutor(1, "build", _make_way if make_way else None) as passing:
        return passing.submit(build).result()


def _make_way() -> None:
    if sys.platform == "linux":  # elsewhere a priority belongs to the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
