"""Going on from an adapter instead of from fresh matrices: same base, same classes, its own shape."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.adapters.manifest import CONFIG, AdapterManifest, read_manifest
from classifier.model import check_base, put_into
from reviews.errors import WrongUse

if TYPE_CHECKING:
    from classifier.base_model import BaseModel
    from trainer.fitting.fit import Run
    from trainer.settings import TrainerSettings


def parent_of(run: "Run") -> AdapterManifest | None:
    """What the adapter that a run goes on from says about itself; None where it starts afresh.

    Raises:
        AdapterError: If it is damaged.
    """
    return None if run.start is None else read_manifest(run.start, run.classifier.task)


def in_shape(run: "Run", base: "BaseModel") -> "Run":
    """The run with the shape of the adapter that it goes on from; as it is where it starts afresh.

    Raises:
        WrongUse: If that adapter has other classes, or all weights are to be fitted.
        AdapterError: If it is damaged or was fitted on another base.
    """
    manifest = parent_of(run)
    if manifest is None or run.start is None:
        return run
    if run.settings.peft_method == "none":
        raise WrongUse("Full fine-tuning goes on from no adapter; choose another method (peft_method).")
    if manifest.labels != run.splits.train.names:
        raise WrongUse(
            f"Adapter {manifest.version} has the classes {', '.join(manifest.labels)}, the training rows "
            f"{', '.join(run.splits.train.names)}: only the same classes in the same order go on from it."
        )
    check_base(base, manifest)
    return replace(run, settings=run.settings.model_copy(update=_shape(run.start, run.settings)))


def go_on_from(directory: Path, model: Any, settings: "TrainerSettings") -> Any:
    """The model with that adapter's weights, to be fitted further; dropout is the recipe's.

    Args:
        directory: The adapter.
        model: Its base with a head of as many labels.
        settings: The recipe.

    Raises:
        AdapterError: If the adapter does not fit the model.
    """
    return put_into(
        model, directory, f"The adapter in {directory}", trainable=True, dropout=settings.lora_dropout
    )


def _shape(directory: Path, settings: "TrainerSettings") -> dict[str, Any]:
    """What the recipe has to say so that it describes the adapter it goes on from."""
    config = json.loads((directory / CONFIG).read_bytes())
    targets = config.get("target_modules") or ()
    shape: dict[str, Any] = {"target_modules": (targets,) if isinstance(targets, str) else tuple(targets)}
    if config.get("peft_type") == "IA3":
        return shape | {"peft_method": "ia3"}
    method = "dora" if config.get("use_dora") else "rslora" if config.get("use_rslora") else "lora"
    if (method, settings.peft_method) == ("lora", "lora+"):
        method = "lora+"  # the same matrices, which learn at other rates
    return shape | {
        "peft_method": method,
        "lora_r": config["r"],
        "lora_alpha": float(config["lora_alpha"]),
        "train_pooler": "pooler" in (config.get("modules_to_save") or ()),
    }
