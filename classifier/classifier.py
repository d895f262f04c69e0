"""The classifier: tokenise, forward, post-process, in this order and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from classifier.adapter import AdapterManifest, read_manifest
from classifier.base_model import locate
from classifier.devices import choose_device, choose_dtype
from classifier.merging import check_base, load_base, merge
from classifier.postprocess import to_predictions
from classifier.tokenise import Encoded, Tokeniser, load_tokeniser

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from classifier.engine import Engine
    from classifier.settings import ClassifierSettings
    from reviews.prediction import Prediction


@dataclass(frozen=True, slots=True)
class Classifier:
    """One immutable snapshot of base, adapter and calibration.

    Attributes:
        manifest: What the adapter says about itself.
        tokeniser: Texts to token ids.
        engine: Token ids to logits.
    """

    manifest: AdapterManifest
    tokeniser: Tokeniser
    engine: "Engine"

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
        """Token ids of the texts; may run in any thread, beside a forward pass."""
        return self.tokeniser.encode(texts)

    def logits(self, encoded: Encoded) -> "npt.NDArray[np.float32]":
        """float32 (texts, labels): the model's answers before calibration, in the order of the texts."""
        return self.engine.logits([encoded.text(index) for index in range(len(encoded))])

    def score(self, encoded: Encoded) -> "list[Prediction]":
        """One prediction per text, in the order of the texts."""
        return to_predictions(
            self.logits(encoded),
            task=self.task,
            labels=self.labels,
            temperature=self.manifest.temperature,
            truncated=encoded.truncated,
            adapter_version=self.adapter_version,
        )

    def predict(self, texts: Sequence[str]) -> "list[Prediction]":
        """One prediction per text, in the order of the texts."""
        return self.score(self.encode(texts))


def load(base_model: str, adapter_directory: Path, settings: "ClassifierSettings") -> Classifier:
    """A classifier of this base and this adapter, merged, on the device and in the precision of the settings.

    Args:
        base_model: A Hugging Face id, a directory, or ``package:NAME/PATH``.
        adapter_directory: peft's files, with a manifest or without.
        settings: Device, precision, length and budget; its own ``base_model`` is not looked at.

    Raises:
        ModelError: If the base cannot be had or loaded.
        AdapterError: If the adapter is damaged or belongs to another base.
    """
    import torch

    from classifier.engine.general import GeneralEngine

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    manifest = read_manifest(adapter_directory, settings.task)
    base = locate(base_model, settings.base_revision)
    check_base(base, manifest)
    device = choose_device(settings.device)
    model = merge(load_base(base, len(manifest.labels)), adapter_directory, manifest)
    model = model.to(device=device, dtype=choose_dtype(settings.precision, device))
    engine = GeneralEngine(model, device, model.config.pad_token_id or 0, settings.batch_tokens)
    return Classifier(manifest, load_tokeniser(base, settings.max_length_tokens), engine)
