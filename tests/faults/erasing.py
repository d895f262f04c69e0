"""An erasure in a process of its own that kills itself with a SIGKILL, between transactions or inside one."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import SecretStr

from reviewloop.settings import Settings
from reviewloop.wiring import erasing
from storage.database import Database
from storage.lifecycle.erasure import ErasureStore
from storage.lifecycle.receipts import ReceiptStore
from storage.settings import DatabaseSettings

_SERVER = multiprocessing.get_context("forkserver")


class _DyingStore(ErasureStore):
    """The real store, which counts what it is done with and what is not committed yet."""

    left = 0

    def __init__(self, database: Database) -> None:
        super().__init__(database, after_step=self._count)

    @contextmanager
    def _step(self, *about: Any) -> Iterator[Any]:
        with super()._step(*about) as connection:
            yield connection
            self._count("not committed")

    def _count(self, _: str) -> None:
        _DyingStore.left -= 1
        if _DyingStore.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _run(url: str, review_id: str, ends: dict[int, int], last: int) -> None:
    _DyingStore.left = last
    erasing.ErasureStore = _DyingStore  # type: ignore[misc]
    erasing.partition_ends = lambda *_: ends
    settings, database = Settings(), Database(DatabaseSettings(url=SecretStr(url)))
    begun = ErasureStore(database).unfinished()
    if begun:
        erasing.continue_erasure(settings, database, begun[0])
    elif not ReceiptStore(database).receipts(1):  # or it was killed behind its last step
        erasing.erase(settings, database, [review_id], "ann", "She asked for it.")


def is_killed(url: str, review_id: str, ends: dict[int, int], last: int) -> bool:
    """Erase, or continue to, until so many points; whether there were as many, rather than the end."""
    _SERVER.set_forkserver_preload(["tests.faults.erasing"])
    process = _SERVER.Process(target=_run, args=(url, review_id, ends, last))
    process.start()
    process.join(120)
    assert process.exitcode in {0, -signal.SIGKILL}
    return process.exitcode != 0
