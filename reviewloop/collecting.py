"""How often Python looks for reference cycles while reviews stream through."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Python's 700 fits scripts. Tens of thousands of reviews are in flight here, none of them in a cycle, and
# looking at each of them again and again took 40 % of the worker's time.
_YOUNG_OBJECTS = 50_000


@contextmanager
def rare_collections() -> Iterator[None]:
    """Look for cycles only after many more new objects than usual; as before at the end of the block."""
    before = gc.get_threshold()
    gc.set_threshold(_YOUNG_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
