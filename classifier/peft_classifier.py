"""The shortest way from a base and an adapter to a label."""

from collections.abc import Sequence
from pathlib import Path

from classifier.classifier import load
from classifier.settings import ClassifierSettings


class PEFTClassifier:
    """A classifier that answers with pairs.

    >>> PEFTClassifier("roberta-base", "./adapters").predict("Great product!")  # doctest: +SKIP
    ('positive', 0.97)

    Args:
        base_model: A Hugging Face id, a directory, or ``package:NAME/PATH``.
        adapter_directory: An adapter, as ``reviewloop train`` or peft's ``save_pretrained`` writes it.
        settings: Device, precision, length and budget; None for the defaults.

    Raises:
        ModelError: If the base cannot be had.
        AdapterError: If the adapter is damaged or does not fit the base.
    """

    def __init__(
        self, base_model: str, adapter_directory: str | Path, settings: ClassifierSettings | None = None
    ) -> None:
        self.classifier = load(base_model, Path(adapter_directory), settings or ClassifierSettings())

    @property
    def labels(self) -> tuple[str, ...]:
        """The adapter's names for its classes; ``class_0`` and so on where it names none."""
        return self.classifier.labels

    def predict(self, text: str) -> tuple[str, float]:
        """The most probable label and its calibrated probability, in [0, 1].

        Raises:
            ModelError: If the text cannot be scored.
        """
        return self.predict_batch([text])[0]

    def predict_batch(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """The same for several texts, in their order.

        Raises:
            ModelError: If a text cannot be scored.
        """
        return [(said.label, said.confidence) for said in self.classifier.predict(texts)]
