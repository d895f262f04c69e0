"""Base model and adapter made one: the adapter's matrices added into the base's, once, at load."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.quiet import quiet_transformers
from reviews.errors import AdapterError, ModelError

if TYPE_CHECKING:
    from classifier.adapter import AdapterManifest
    from classifier.base_model import BaseModel


def load_base(base: "BaseModel", num_labels: int) -> Any:
    """The base with a classification head of that many labels, in fp32 on the CPU.

    Raises:
        ModelError: If transformers has no sequence classifier of that architecture, or the files do not fit.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    try:
        with quiet_transformers():
            model = AutoModelForSequenceClassification.from_pretrained(
                base.directory,
                num_labels=num_labels,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # a head of another size is replaced by the adapter's
            )
    except (OSError, ValueError, RuntimeError, ImportError, KeyError) as err:
        reason = (str(err).splitlines() or [err.__class__.__name__])[0]
        raise ModelError(f"The base model {base.name} cannot be loaded: {reason}") from err
    return model.eval()


def check_base(base: "BaseModel", manifest: "AdapterManifest") -> None:
    """Refuse a base that is not the one the adapter was fitted on.

    Raises:
        AdapterError: If the weights differ.
    """
    if manifest.base_sha256 is not None and manifest.base_sha256 != base.weights_sha256:
        raise AdapterError(
            f"Adapter {manifest.version} was fitted on {manifest.base_model}, whose weights differ from "
            f"those of {base.name}; set classifier.base_model to that base."
        )


def merge(model: Any, directory: Path, manifest: "AdapterManifest") -> Any:
    """The model with the adapter's weights added into its own and the adapter's head in place.

    Raises:
        AdapterError: If the adapter does not fit the model.
    """
    adapted = attach(model, directory, manifest)
    try:
        return adapted.merge_and_unload(safe_merge=True).eval()
    except (RuntimeError, ValueError, AttributeError, TypeError) as err:
        reason = (str(err).splitlines() or [err.__class__.__name__])[0]
        raise AdapterError(f"Adapter {manifest.version} cannot be merged: {reason}") from err


def attach(model: Any, directory: Path, manifest: "AdapterManifest") -> Any:
    """The model as peft adapts it: the adapter's layers beside the base's, nothing added together.

    Raises:
        AdapterError: If the adapter does not fit the model.
    """
    from peft import PeftModel

    try:
        with quiet_transformers():
            return PeftModel.from_pretrained(model, directory, is_trainable=False).eval()
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, OSError) as err:
        reason = (str(err).splitlines() or [err.__class__.__name__])[0]
        raise AdapterError(f"Adapter {manifest.version} does not fit its base model: {reason}") from err
