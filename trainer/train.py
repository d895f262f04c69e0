"""CSV in, adapter out: the whole of one training run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.adapter import AdapterManifest
from classifier.base_model import BaseModel, locate
from classifier.devices import choose_device, choose_dtype
from classifier.merging import load_base
from classifier.quiet import quiet_transformers
from classifier.tokenise import Tokeniser, load_tokeniser
from reviews.errors import WrongUse
from trainer.dataset import Dataset
from trainer.finish import finish

if TYPE_CHECKING:
    from classifier.settings import ClassifierSettings
    from trainer.fit import Report, Rows
    from trainer.settings import TrainerSettings


@dataclass(frozen=True, slots=True)
class Splits:
    """Rows to learn from, to choose by, and to report on."""

    train: Dataset
    validation: Dataset
    test: Dataset | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What a run is asked to do.

    Attributes:
        splits: The rows; all splits have the same classes.
        classifier: Names the base model, the task, the device and the precision.
        settings: The recipe.
        note: A paragraph for the card: the command, where the data come from.
    """

    splits: Splits
    classifier: "ClassifierSettings"
    settings: "TrainerSettings"
    note: str = ""


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run.

    Attributes:
        directory: The adapter's directory, named by its content hash.
        manifest: What it says about itself, metrics included.
        trainable_parameters: How many numbers were fitted.
    """

    directory: Path
    manifest: AdapterManifest
    trainable_parameters: int


def train(run: Run, output_root: Path, report: "Report") -> Trained:
    """Fit an adapter and write it to ``output_root/CONTENT_HASH``.

    Args:
        run: What to do.
        output_root: Where the adapter's directory is made.
        report: Told of every step.

    Raises:
        ModelError: If the base cannot be had.
        WrongUse: If the splits disagree on the classes or the recipe names layers that are not there.
        AdapterError: If the adapter cannot be written.
    """
    from trainer.fit import Fit

    check_classes(run.splits)
    base = locate(run.classifier.base_model, run.classifier.base_revision)
    device = choose_device(run.classifier.device)
    model = _adapted(base, len(run.splits.train.names), run.settings).to(device)
    dtype = choose_dtype(run.classifier.precision, device)
    tokeniser = load_tokeniser(base, run.settings.max_length_tokens)
    fit = Fit(model, run.settings, model.config.pad_token_id or 0, None if dtype.itemsize == 4 else dtype)
    epoch = fit.run(_rows(tokeniser, run.splits.train), _rows(tokeniser, run.splits.validation), report)
    directory, manifest = finish(model, base, run, epoch, output_root)
    trainable = sum(value.numel() for value in model.parameters() if value.requires_grad)
    return Trained(directory, manifest, trainable)


def check_classes(splits: Splits) -> None:
    """Refuse splits that do not have the same classes in the same order.

    Raises:
        WrongUse: If they differ.
    """
    for name, dataset in (("validation", splits.validation), ("test", splits.test)):
        if dataset is not None and dataset.names != splits.train.names:
            raise WrongUse(
                f"The {name} rows have the classes {', '.join(dataset.names)}, the training rows "
                f"{', '.join(splits.train.names)}; name them with --labels, or mend the file."
            )


def _adapted(base: BaseModel, classes: int, settings: "TrainerSettings") -> Any:
    """The base with a fresh head and fresh LoRA matrices, drawn from the seed."""
    import torch
    from peft import get_peft_model

    from trainer.recipe import lora_config

    torch.manual_seed(settings.seed)
    model = load_base(base, classes)
    if not settings.base_dropout:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    with quiet_transformers():
        return get_peft_model(model, lora_config(model, settings))


def _rows(tokeniser: Tokeniser, dataset: Dataset) -> "Rows":
    from trainer.fit import Rows

    return Rows(tokeniser.encode(dataset.texts), np.array(dataset.labels, np.int64))
