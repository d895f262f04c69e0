"""The classifier: tokenise, forward, post-process, in this order and nothing else."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from classifier.adapters.manifest import AdapterManifest
from classifier.arguments import checked_one_by_one, checked_texts, positive, refuse_single
from classifier.calibration import to_predictions
from classifier.devices import Execution
from classifier.engine.answering import Answering
from classifier.tokenise import Encoded, Tokeniser, pool
from reviews.prediction import Prediction

_STREAM_TEXTS = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """One immutable snapshot of base, adapter and calibration.

    Attributes:
        manifest: What the adapter says about itself.
        tokeniser: Texts to token ids.
        answering: Token ids to logits.
        execution: What it calculates with, and why.
    """

    manifest: AdapterManifest
    tokeniser: Tokeniser
    answering: Answering
    execution: Execution

    @property
    def task(self) -> str:
        """The question that the adapter answers."""
        return self.manifest.task

    @property
    def labels(self) -> tuple[str, ...]:
        """The adapter's names for its classes, in the order of the probabilities."""
        return self.manifest.labels

    @property
    def adapter_version(self) -> str:
        """The name that every prediction carries."""
        return self.manifest.version

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Token ids of the texts; may run in any thread, beside a forward pass.

        Raises:
            ModelError: If a text cannot be tokenised.
            WrongUse: If this is a single text.
        """
        refuse_single(texts)
        return self.tokeniser.encode(texts)

    def logits(self, encoded: Encoded) -> npt.NDArray[np.float32]:
        """float32 (texts, labels): the model's answers before calibration, in the order of the texts.

        Raises:
            ModelError: If a text has no finite answer.
        """
        if len(encoded) == 0:
            return np.empty((0, len(self.labels)), np.float32)
        return self._pooled(self.answering.logits(encoded.rows()), encoded)

    def score(self, encoded: Encoded) -> list[Prediction]:
        """One prediction per text, in the order of the texts.

        Raises:
            ModelError: If a text has no finite answer.
        """
        return self._predictions(self.logits(encoded), encoded)

    def score_and_embed(self, encoded: Encoded) -> tuple[list[Prediction], npt.NDArray[np.float32]]:
        """Predictions, and float32 (texts, hidden): the last layer's state of each text, in one pass.

        It is the state at the first token, or at the last one of a decoder, whose first has seen nothing. A
        text in several windows has the mean of theirs. An embedding need not be finite.

        Raises:
            ModelError: If a text has no finite answer, or there are no texts.
        """
        logits, embeddings = self.answering.embeddings(encoded.rows())
        return self._predictions(self._pooled(logits, encoded), encoded), self._pooled(embeddings, encoded)

    def predict(self, texts: Iterable[str]) -> list[Prediction]:
        """One prediction per text, in the order of the texts.

        Raises:
            ModelError: If a text cannot be tokenised or has no finite answer.
            WrongUse: If this is a single text, or one of them is blank or not a text.
        """
        return self.score(self.encode(checked_texts(texts)))

    def predict_stream(self, texts: Iterable[str], window_texts: int = _STREAM_TEXTS) -> Iterator[Prediction]:
        """Predictions for a stream of any length, in its order; the next window is tokenised meanwhile.

        Args:
            texts: Read as far ahead as two windows.
            window_texts: Texts that are sorted and batched together; more is faster and later.

        Yields:
            One prediction per text.

        Raises:
            ModelError: If a text cannot be tokenised or has no finite answer.
            WrongUse: If this is a single text, or one of them is blank or not a text.
        """
        refuse_single(texts)
        return self._stream(checked_one_by_one(texts), positive(window_texts, "window_texts"))

    def _stream(self, source: Iterator[str], window_texts: int) -> Iterator[Prediction]:
        with ThreadPoolExecutor(1, thread_name_prefix="tokenise") as ahead:
            pending = ahead.submit(self.encode, list(islice(source, window_texts)))
            while len(encoded := pending.result()):
                pending = ahead.submit(self.encode, list(islice(source, window_texts)))
                yield from self.score(encoded)

    def _pooled(self, values: npt.NDArray[np.float32], encoded: Encoded) -> npt.NDArray[np.float32]:
        return pool(values, encoded.owners, encoded.row_lengths, len(encoded))

    def _predictions(self, logits: npt.NDArray[np.float32], encoded: Encoded) -> list[Prediction]:
        return to_predictions(
            logits,
            task=self.task,
            labels=self.labels,
            temperature=self.manifest.temperature,
            truncated=encoded.truncated,
            adapter_version=self.adapter_version,
        )
