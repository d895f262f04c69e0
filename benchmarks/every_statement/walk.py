"""Walks all calls, and takes their time."""

import time
from collections.abc import Iterator

from benchmarks.every_statement.accounts import administering
from benchmarks.every_statement.adapters import deciding
from benchmarks.every_statement.call import Call
from benchmarks.every_statement.keeping import exporting, keeping
from benchmarks.every_statement.labelling import labelling
from benchmarks.every_statement.learning import learning
from benchmarks.every_statement.reading import reading
from benchmarks.every_statement.streaming import publishing, streaming
from storage.database import Database


def walk(database: Database, *, keeps: bool = True) -> Iterator[tuple[Call, float]]:
    """Do every call once; each with the seconds that it took.

    Args:
        database: Filled by :func:`benchmarks.console_data.fill_console`; it gets some more rows.
        keeps: Whether aged rows are deleted as well, and tables shrunk: jobs that take their time.
    """
    groups = (reading, streaming, labelling, learning, deciding, publishing, administering, exporting)
    for group in (*groups, *((keeping,) if keeps else ())):
        for call in group(database):
            began = time.perf_counter()
            found = call.run()
            if isinstance(found, Iterator):
                list(found)
            yield call, time.perf_counter() - began
