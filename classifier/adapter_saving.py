"""A fitted peft model to an adapter directory that plain peft loads as well."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.adapter import CONFIG, WEIGHTS
from classifier.adapter_store import assemble, write_files

if TYPE_CHECKING:
    import torch


def save_adapter(
    model: Any,
    root: Path,
    fields: Mapping[str, Any],
    *,
    card: str = "",
    dtype: "torch.dtype | None" = None,
) -> Path:
    """The directory ``root/CONTENT_HASH`` with the adapter of a peft model.

    The same weights and fields give the same directory, to the bit: no time and no path goes into it.

    Args:
        model: A ``peft.PeftModel`` for sequence classification, its head among the saved modules.
        root: Where the directory is made.
        fields: The manifest's fields but ``files``: task, labels, base_model, temperature and so on.
        card: Markdown for people; ``{version}`` stands for the adapter's version.
        dtype: Number format of the saved weights; None keeps the model's. peft widens them when it loads.

    Raises:
        AdapterError: If the adapter cannot be written.
    """
    return write_files(assemble(peft_files(model, fields.get("base_model"), dtype), fields, card), root)


def peft_files(model: Any, base_model: str | None, dtype: "torch.dtype | None" = None) -> dict[str, bytes]:
    """Peft's two files as bytes, the same for the same weights.

    Args:
        model: A ``peft.PeftModel``.
        base_model: The base's public name, in place of the path it was loaded from.
        dtype: Number format of the weights; None keeps the model's.
    """
    import safetensors.torch

    with tempfile.TemporaryDirectory() as scratch:
        # Embeddings are never fitted here; "auto" would ask a model hub whether the vocabulary has grown.
        model.save_pretrained(scratch, safe_serialization=True, save_embedding_layers=False)
        config = json.loads(Path(scratch, CONFIG).read_bytes())
        tensors = safetensors.torch.load_file(Path(scratch, WEIGHTS))
    config["base_model_name_or_path"] = base_model
    # peft keeps names in sets, whose order changes from process to process, and adds the head's once more.
    config = {name: sorted(set(value)) if _is_names(value) else value for name, value in config.items()}
    if dtype is not None:
        tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    return {
        CONFIG: (json.dumps(config, indent=2, sort_keys=True) + "\n").encode(),
        WEIGHTS: safetensors.torch.save(tensors, metadata={"format": "pt"}),
    }


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
