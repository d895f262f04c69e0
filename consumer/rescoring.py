"""Rescoring of stored reviews: claims a range, scores it piece by piece, until no range is left."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import structlog

from consumer.embeddings import EmbeddingSettings
from consumer.scoring import Refusal, score_texts, tokenise_texts
from consumer.serving import ServingClassifier
from reviews.errors import Unavailable
from reviews.rescoring import Claim, RangeLost, Rescored, RescoreJob, StoredText
from reviews.retry import Retry
from storage.adapters.rescoring import RescoreStore

log = structlog.get_logger()

_Found = TypeVar("_Found")

_PIECE_REVIEWS = 512
_PIECE_BYTES = 250_000  # a piece must be done well within a lease, also where texts are long
_WAIT_SECONDS = 1.0
_TIME_OUTS = 5  # of one statement in a row: then it is the statement, and the job can be resumed


class Rescorer:
    """One worker of a job.

    Args:
        ranges: The job's ranges.
        job: The job.
        classifier: Of the job's adapter.
        embeddings: Which embeddings are kept.
        holder: Names this worker, as no other is named.
        stopping: Set from outside, it ends the work after the piece in hand.
        on_progress: Called after each piece.
        retry_max_seconds: The longest pause between two attempts while the database is unavailable.
    """

    def __init__(
        self,
        ranges: RescoreStore,
        job: RescoreJob,
        classifier: ServingClassifier,
        *,
        embeddings: EmbeddingSettings,
        holder: str,
        stopping: threading.Event,
        on_progress: Callable[[], None] = lambda: None,
        retry_max_seconds: float = 30,
    ) -> None:
        self._ranges = ranges
        self._job = job
        self._classifier = classifier
        self._embeddings = embeddings
        self._holder = holder
        self._stopping = stopping
        self._on_progress = on_progress
        self._retry = Retry(
            "database_unavailable", "database_back", longest_seconds=retry_max_seconds, wait=stopping.wait
        )

    def run(self) -> RescoreJob:
        """Work until the job is over or this worker is told to stop; the job as it is then.

        A range in another worker's hands is waited for: if that worker was killed, its lease runs out.

        Raises:
            ModelError: If the classifier fails on every text.
        """
        while not self._stopping.is_set():
            claim = self._patiently(lambda: self._ranges.claim(self._job, self._holder))
            if claim is not None:
                self._work(claim)
                continue
            self._job = self._patiently(lambda: self._ranges.finish(self._job))
            if self._job.state != "running":
                break
            self._stopping.wait(_WAIT_SECONDS)
        return self._job

    def _work(self, claim: Claim) -> None:
        """Take a range to its end, piece by piece."""
        try:
            while claim.done_record < claim.next_record:
                if self._stopping.is_set():
                    with suppress(Unavailable):  # the lease runs out by itself
                        self._ranges.release(claim)
                    return
                claim = self._one_piece(claim)
                self._on_progress()
        except RangeLost as err:
            log.warning("range_lost", job=self._job.id, first_record=claim.first_record, error=str(err))

    def _one_piece(self, claim: Claim) -> Claim:
        piece = self._patiently(lambda: self._ranges.read(self._job, claim, _PIECE_REVIEWS, _PIECE_BYTES))
        done = piece[-1].record + 1 if piece else claim.next_record
        rescored, refused = self._score(piece)
        return self._patiently(lambda: self._ranges.commit(self._job, claim, done, rescored, refused))

    def _score(self, piece: Sequence[StoredText]) -> tuple[list[Rescored], int]:
        """What each review gets, and how many the model failed on: those keep what they have."""
        texts = [item.text for item in piece]
        classifiers = [self._classifier]
        outcomes, kept = score_texts(
            classifiers,
            texts,
            tokenise_texts(classifiers, texts),
            lambda: [item.review_id for item in piece],
            self._embeddings,
        )
        rescored = [
            Rescored(item.record, item.adapter_id, outcome[0], next(iter(kept.get(index, ())), None))
            for index, (item, outcome) in enumerate(zip(piece, outcomes, strict=True))
            if not isinstance(outcome, Refusal)
        ]
        if len(rescored) < len(piece):
            log.warning("texts_not_rescored", job=self._job.id, texts=len(piece) - len(rescored))
        return rescored, len(piece) - len(rescored)

    def _patiently(self, ask: Callable[[], _Found]) -> _Found:
        """Ask until the database answers.

        Raises:
            Unavailable: If this worker is told to stop meanwhile.
            Exhausted: If a statement takes too long again and again.
        """
        return self._retry(ask, time_outs=_TIME_OUTS)
