"""A worker of a rescoring job as a process of its own, which says after each piece that it lives.

``python -m tests.integration.storage.rescore_worker URL JOB LEASE_SECONDS``
"""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import closing

from pydantic import SecretStr

from consumer import rescoring
from consumer.embeddings import EmbeddingSettings
from consumer.rescoring import Rescorer
from reviews.prediction import Prediction
from reviews.rescoring import RescoreJob
from storage.adapters.rescoring import RescoreStore
from storage.database import Database
from storage.settings import DatabaseSettings


class Reverse:
    """Calls every text by its reverse, so that each answer can be told from every other."""

    task = "sentiment"

    def __init__(self, version: str) -> None:
        self.adapter_version = version

    def encode(self, texts):
        return list(texts)

    def score(self, encoded):
        return [
            Prediction("sentiment", text[::-1], 0.8, (0.2, 0.8), 0.6, 0.5, True, self.adapter_version)
            for text in encoded
        ]


def make_rescorer(
    database: Database,
    job: RescoreJob,
    lease_seconds: float,
    on_progress: Callable[[], None] = lambda: None,
    stopping: threading.Event | None = None,
) -> Rescorer:
    rescoring._PIECE_REVIEWS = 7
    return Rescorer(
        RescoreStore(database, lease_seconds),
        job,
        Reverse(job.version),
        embeddings=EmbeddingSettings(keep="none"),
        holder=f"{os.getpid()}:{threading.get_ident()}",
        stopping=stopping or threading.Event(),
        on_progress=on_progress,
    )


def main(url: str, job_id: int, lease_seconds: float) -> None:
    with closing(Database(DatabaseSettings(url=SecretStr(url)))) as database:
        job = RescoreStore(database).find(job_id)
        make_rescorer(database, job, lease_seconds, lambda: print("piece", flush=True)).run()  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
