"""A model whose every weight was fitted, as transformers saves it."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from classifier.base_model import quiet_transformers


def full_model_files(model: Any, names: Sequence[str], precision: str) -> dict[str, bytes]:
    """The files of ``save_pretrained``, the classes named in the configuration.

    Args:
        model: A sequence classifier of transformers.
        names: Names of the classes.
        precision: ``bf16`` halves the weights, ``fp32`` keeps them.
    """
    import torch

    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: index for index, name in enumerate(names)}
    # Whatever the base was for: each text has one class here, and no class is a quantity.
    model.config.problem_type = "single_label_classification"
    if precision == "bf16":
        model = model.to(torch.bfloat16)
    with tempfile.TemporaryDirectory() as scratch, quiet_transformers():
        # One file, whatever its size: the names of the parts would depend on it.
        model.save_pretrained(scratch, max_shard_size="1TB")
        return {file.name: file.read_bytes() for file in sorted(Path(scratch).iterdir())}
