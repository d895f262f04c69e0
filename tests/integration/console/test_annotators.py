"""Many annotators at once over HTTP, while the console is killed and started again."""

import threading
from pathlib import Path

from pydantic import SecretStr

from benchmarks.console_annotators import account, simulate
from storage.database import Database
from storage.settings import DatabaseSettings
from tests.console_process import console_process
from tests.integration.queued_reviews import queue_reviews


def test_no_answer_is_lost_doubled_or_somebody_elses_also_when_the_console_is_killed(
    database: str, tmp_path: Path
) -> None:
    store = Database(DatabaseSettings(url=SecretStr(database)))
    queue_reviews(store, 900)
    with console_process(database, tmp_path) as console:

        def restart() -> None:
            console.kill()
            console.start()

        killing = threading.Timer(2, restart)
        killing.start()
        crowd, holders = simulate(console, 8, 7, 0.02)
        killing.join()
    faults = account(store, crowd, holders)
    store.close()
    assert faults.pop("given") > 50
    assert not any(faults.values()), faults
