"""Several adapters that answer one question together: the mean of their calibrated probabilities."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from classifier.arguments import checked_texts, refuse_single
from classifier.calibration import from_probabilities, softmax
from classifier.classifier import Classifier
from classifier.tokenise import Encoded
from classifier.verification import PROBE_TEXTS
from reviews.errors import WrongUse
from reviews.prediction import Prediction


class Ensemble:
    """Scores like a classifier; costs as much as its members together.

    Averaging calibrated probabilities: Lakshminarayanan, Pritzel, Blundell: Simple and Scalable Predictive
    Uncertainty Estimation using Deep Ensembles (NeurIPS 2017).

    Args:
        members: Classifiers of one task with the same labels, on the same base.

    Raises:
        WrongUse: If there are none, or they do not answer the same question about the same tokens.
    """

    def __init__(self, members: Iterable[Classifier]) -> None:
        if not isinstance(members, Iterable):
            raise WrongUse(
                f"An ensemble is made of a list of classifiers, not of a {type(members).__name__}."
            )
        members = tuple(members)
        if not members:
            raise WrongUse("An ensemble needs at least one classifier.")
        for member in members:
            _check_member(member, members[0])
        self._members = members
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

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Token ids of the texts.

        Raises:
            ModelError: If a text cannot be tokenised.
            WrongUse: If this is a single text.
        """
        refuse_single(texts)
        return self._members[0].encode(texts)

    def score(self, encoded: Encoded) -> list[Prediction]:
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

    def predict(self, texts: Iterable[str]) -> list[Prediction]:
        """One prediction per text, in the order of the texts.

        Raises:
            ModelError: If a text cannot be scored.
            WrongUse: If this is a single text, or one of them is no text or blank.
        """
        return self.score(self.encode(checked_texts(texts)))


def _check_member(member: object, first: Classifier) -> None:
    if not isinstance(member, Classifier):
        raise WrongUse(
            f"A member of an ensemble is of the type {type(member).__name__}; load() gives classifiers."
        )
    if (member.task, member.labels) != (first.task, first.labels):
        raise WrongUse(
            f"{member.adapter_version} and {first.adapter_version} differ in task or labels; "
            "an ensemble averages answers to one question."
        )
    if not np.array_equal(member.encode(PROBE_TEXTS).ids, first.encode(PROBE_TEXTS).ids):
        raise WrongUse(
            f"{member.adapter_version} and {first.adapter_version} read texts as other tokens; "
            "the members of an ensemble are on one base."
        )
