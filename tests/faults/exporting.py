"""An export in a process of its own that is killed at a chosen step, with a SIGKILL of its own."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from pydantic import SecretStr

from reviewloop.export import folder, iceberg, wiring
from reviewloop.export.settings import ExportSettings, TableFormat
from reviews.export import DataSetName
from storage.database import Database
from storage.settings import DatabaseSettings

DATA_SETS: tuple[DataSetName, ...] = ("reviews", "withdrawals")
_SERVER = multiprocessing.get_context("forkserver")


class Steps:
    """Counts steps, and kills this process before one of them.

    Args:
        last: The step that is not done.
    """

    def __init__(self, last: int) -> None:
        self._left = last

    def step(self, what: str) -> None:
        self._left -= 1
        if self._left == 0:
            sys.stderr.write(f"killed before: {what}\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)


class DyingPlace:
    """A real place, with steps around everything that changes it."""

    def __init__(self, inner: Any, steps: Steps) -> None:
        self._inner = inner
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @contextmanager
    def writing(self, path: str) -> Iterator[Any]:
        self._steps.step(f"opening {path}")
        with self._inner.writing(path) as stream:
            yield stream
            self._steps.step(f"finishing {path}")
        self._steps.step(f"going on behind {path}")

    def move(self, source: str, target: str) -> None:
        self._steps.step(f"moving {target}")
        self._inner.move(source, target)
        self._steps.step(f"going on behind the move of {target}")

    def write(self, path: str, content: bytes) -> None:
        self._steps.step(f"writing {path}")
        self._inner.write(path, content)
        self._steps.step(f"going on behind {path}")


def _dying_tables(steps: Steps) -> None:
    real_writing, real_commit = iceberg.IcebergTarget.writing, iceberg._try_commit

    @contextmanager
    def writing(self: Any, data_set: Any, path: str) -> Iterator[Any]:
        steps.step(f"opening {path}")
        with real_writing(self, data_set, path) as stream:
            yield stream
            steps.step(f"finishing {path}")
        steps.step(f"going on behind {path}")

    def commit(table: Any, paths: Sequence[str], position: Any) -> bool:
        steps.step("the commit")
        done = real_commit(table, list(paths), position)
        steps.step("going on behind the commit")
        return done

    iceberg.IcebergTarget.writing = writing  # type: ignore[method-assign]
    iceberg._try_commit = commit


def _run(url: str, target: str, table_format: TableFormat, last: int) -> None:
    steps = Steps(last)
    real = folder.FolderTarget
    wiring.FolderTarget = lambda place: real(DyingPlace(place, steps))  # type: ignore[assignment, misc]
    _dying_tables(steps)
    settings = ExportSettings(target=target, table_format=table_format, data_sets=DATA_SETS)
    list(
        wiring.export_data_sets(
            settings, Database(DatabaseSettings(url=SecretStr(url))), Event(), lambda _: None
        )
    )


def is_killed(url: str, target: Path, table_format: TableFormat, last: int) -> bool:
    """Export until a step; whether there was one, rather than the export's end."""
    _SERVER.set_forkserver_preload(["tests.faults.exporting"])
    process = _SERVER.Process(target=_run, args=(url, str(target), table_format, last))
    process.start()
    process.join(60)
    assert process.exitcode in {0, -signal.SIGKILL}
    return process.exitcode != 0
