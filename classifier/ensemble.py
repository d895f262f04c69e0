"""Several adapters that answer one question together: the mean of their calibrated probabilities."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from classifier.calibration import softmax
from classifier.postprocess import from_probabilities
from reviews.errors import WrongUse

if TYPE_CHECKING:
    from classifier.classifier import Classifier
    from classifier.encoded import Encoded
    from reviews.prediction import Prediction


class Ensemble:
    """Scores like a classifier; costs as much as its members together.

    Averaging calibrated probabilities: Lakshminarayanan, Pritzel, Blundell: Simple and Scalable Predictive
    Uncertainty Estimation using Deep Ensembles (NeurIPS 2017).

    Args:
        members: Classifiers of one task with the same labels, on the same base.

    Raises:
        WrongUse: If there are none, or they do not answer the same question.
    """

    def __init__(self, members: "Sequence[Classifier]") -> None:
        if not members:
            raise WrongUse("An ensemble needs at least one classifier.")
        for member in members[1:]:
            if (member.task, member.labels) != (members[0].task, members[0].labels):
                raise WrongUse(
                    f"{member.adapter_version} and {members[0].adapter_version} differ in task or labels; "
                    "an ensemble averages answers to one question."
                )
        self._members = tuple(members)
        names = "\n".join(sorted(member.manifest.content_hash for member in members))
        self.adapter_version = f"{self.task}-ensemble-{hashlib.sha256(names.encode()).hexdigest()[:12]}"

    @property
    def task(self) -> str:
        """The question that all members answer."""
        return self._members[0].task

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the probabilities."""
        return self._members[0].labels

    def encode(self, texts: Sequence[str]) -> "Encoded":
        """Token ids of the texts.

        Raises:
            ModelError: If a text cannot be tokenised.
        """
        return self._members[0].encode(texts)

    def score(self, encoded: "Encoded") -> "list[Prediction]":
        """One prediction per text, in the order of the texts.

        Raises:
            ModelError: If a text has no finite answer.
        """
        chances = [softmax(one.logits(encoded), one.manifest.temperature) for one in self._members]
        return from_probabilities(
            np.mean(chances, axis=0),
            task=self.task,
            labels=self.labels,
            truncated=encoded.truncated,
            adapter_version=self.adapter_version,
        )

    def predict(self, texts: Sequence[str]) -> "list[Prediction]":
        """One prediction per text, in the order of the texts.

        Raises:
            ModelError: If a text cannot be scored.
        """
        return self.score(self.encode(texts))
