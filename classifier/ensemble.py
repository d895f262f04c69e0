"""An ensemble of adapters of one task: the mean of their calibrated probabilities.

In the registry an ensemble is an adapter whose one file names its members by content: so it is activated,
rolled back and put on trial like any adapter, and its version says which members answered.

Averaging calibrated probabilities: Lakshminarayanan, Pritzel, Blundell: Simple and Scalable Predictive
Uncertainty Estimation using Deep Ensembles (NeurIPS 2017).
"""

import hashlib
import json
from collections.abc import Iterable, Sequence

import numpy as np

from classifier.arguments import checked_texts, refuse_single
from classifier.calibration import from_probabilities, softmax
from classifier.classifier import Classifier
from classifier.devices import Execution
from classifier.tokenise import Encoded, Tokeniser
from classifier.verification import PROBE_TEXTS
from reviews.adapter import AdapterVersion
from reviews.errors import AdapterError, WrongUse
from reviews.prediction import Prediction

ENSEMBLE = "ensemble.json"
"""The one file of an ensemble in the registry."""


class Ensemble:
    """Scores like a classifier, without embeddings; costs as much as its members together.

    Args:
        members: Classifiers of one task with the same labels, on the same base.

    Attributes:
        adapter_version: Made of the members' content, in any order.

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
        self.adapter_version = _version(
            self.task, _content_hash(one.manifest.content_hash for one in members)
        )

    @property
    def task(self) -> str:
        """The question that all members answer."""
        return self._members[0].task

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the probabilities."""
        return self._members[0].labels

    @property
    def tokeniser(self) -> Tokeniser:
        """The tokeniser of the base; classifiers that have the same one can score the same encoding."""
        return self._members[0].tokeniser

    @property
    def execution(self) -> Execution:
        """What the first member calculates with; all of them have the same base and settings."""
        return self._members[0].execution

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
            ModelError: If the logits of a text are not finite.
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
            WrongUse: If this is a single text, or one of them is blank or not a text.
        """
        return self.score(self.encode(checked_texts(texts)))


def describe_ensemble(members: Sequence[AdapterVersion]) -> tuple[AdapterVersion, dict[str, bytes]]:
    """What the registry keeps of an ensemble of registered adapters, and its one file.

    The same members in another order are the same ensemble. It has no metrics: it was not measured.

    Raises:
        WrongUse: If there are fewer than two different ones, one is an ensemble itself, or they differ in
            task, labels or base model.
    """
    hashes = {one.content_hash for one in members}
    if len(members) < 2 or len(hashes) < len(members):
        raise WrongUse("An ensemble is made of at least two different adapters; name each of them once.")
    first, *_ = members = sorted(members, key=lambda one: one.content_hash)
    for member in members:
        if member.version == _version(member.task, member.content_hash):
            raise WrongUse(f"{member.version} is an ensemble itself; name its members instead.")
        for name in ("task", "labels", "base_model"):
            if getattr(member, name) != getattr(first, name):
                raise WrongUse(
                    f"{member.version} and {first.version} differ in {name.replace('_', ' ')}; an ensemble "
                    "averages answers to one question on one base model."
                )
    content_hash = _content_hash(hashes)
    described = AdapterVersion(
        version=_version(first.task, content_hash),
        task=first.task,
        labels=first.labels,
        base_model=first.base_model,
        base_revision=first.base_revision,
        content_hash=content_hash,
    )
    named = [{"version": one.version, "content_hash": one.content_hash} for one in members]
    return described, {ENSEMBLE: (json.dumps({"format": 1, "members": named}, indent=2) + "\n").encode()}


def member_versions(content: bytes) -> tuple[str, ...]:
    """The versions that an ensemble's file names.

    Raises:
        AdapterError: If it cannot be read.
    """
    try:
        return tuple(str(member["version"]) for member in json.loads(content)["members"])
    except (ValueError, TypeError, KeyError) as err:
        raise AdapterError(f"{ENSEMBLE} cannot be read ({err!r}); combine the adapters again.") from err


def _content_hash(hashes: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()


def _version(task: str, content_hash: str) -> str:
    return f"{task}-ensemble-{content_hash[:12]}"


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
