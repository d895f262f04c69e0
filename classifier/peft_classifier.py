"""The shortest way from a base and an adapter to a label."""

from collections.abc import Iterable
from pathlib import Path

from classifier.arguments import checked_text
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
        WrongUse: If an argument is of another kind.
    """

    def __init__(
        self,
        base_model: str | Path,
        adapter_directory: str | Path,
        settings: ClassifierSettings | None = None,
    ) -> None:
        self.classifier = load(base_model, adapter_directory, settings)

    @property
    def labels(self) -> tuple[str, ...]:
        """The adapter's names for its classes; ``class_0`` and so on where it names none."""
        return self.classifier.labels

    def predict(self, text: str) -> tuple[str, float]:
        """The most probable label and its calibrated probability, in [0, 1].

        Raises:
            ModelError: If the text cannot be scored.
            WrongUse: If it is no text, or blank.
        """
        return self.predict_batch([checked_text(text)])[0]

    def predict_batch(self, texts: Iterable[str]) -> list[tuple[str, float]]:
        """The same for several texts, in their order.

        Raises:
            ModelError: If a text cannot be scored.
            WrongUse: If this is a single text, or one of them is no text or blank.
        """
        return [(said.label, said.confidence) for said in self.classifier.predict(texts)]
