"""An adapter in other labels: a copy that fits continue from after the labels of a task changed.

Only the last layer of the head knows labels, one row of weights each. A renamed label keeps its row. Each
part of a split one begins with the row of the whole, and they share its probability. A merged one begins with
the mean of its parts, raised as if all were as probable as their (geometric) mean. A label that the adapter
never knew begins with the mean of all rows, which says nothing for it and nothing against it.
"""

from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import Any

from classifier.adapters.manifest import CONFIG, WEIGHTS, AdapterManifest, read_config, read_files
from classifier.adapters.store import assemble, write_files
from reviews.label_set import LabelSet

_IS_COPY = "copy_of_parent"  # what a copy says in ``training``; it is kept nowhere, and its parent is


def relabelled(adapter: Path, label_set: LabelSet, root: Path) -> Path | None:
    """The directory of a copy with the labels of now; None if these have nothing to do with its own.

    Args:
        adapter: Directory of an adapter whose labels were changed since.
        label_set: The labels of now, and how they came about.
        root: Where the copy is written.

    Raises:
        AdapterError: If the adapter is damaged, or the disk refuses.
    """
    import safetensors.torch

    manifest, files = read_files(adapter)
    meaning = [label_set.now(label) for label in manifest.labels]
    sources = [[place for place, names in enumerate(meaning) if new in names] for new in label_set.labels]
    if not any(sources):
        return None
    whole = set(read_config(adapter).get("modules_to_save") or ())
    tensors = safetensors.torch.load(files[WEIGHTS])
    for name, tensor in tensors.items():
        is_head = not whole.isdisjoint(name.split(".")) and ".lora_" not in name and ".ia3_" not in name
        if is_head and tensor.shape[0] == len(manifest.labels):
            tensors[name] = _rows(tensor, sources)
            if tensor.ndim == 1:
                raised = [_raised(of, meaning) * manifest.temperature for of in sources]
                tensors[name] += tensors[name].new_tensor(raised)
    made = {CONFIG: files[CONFIG], WEIGHTS: safetensors.torch.save(tensors, metadata={"format": "pt"})}
    fields = manifest.model_dump(exclude={"files", "format", "probes", "metrics"}) | {
        "labels": label_set.labels,
        "training": {_IS_COPY: True},
        "parent": manifest.version,
    }
    return write_files(assemble(made, fields), root, manifest.task)


def named_parent(continued: AdapterManifest) -> str:
    """The version that a fit names as its parent: of the adapter itself where it continued from a copy."""
    is_copy = continued.training.get(_IS_COPY) is True
    return continued.parent if is_copy and continued.parent else continued.version


def _rows(tensor: Any, sources: Sequence[Sequence[int]]) -> Any:
    """(new labels, ...): for each the mean of its rows in a tensor (labels, ...); without any, of all."""
    import torch

    everything = range(len(tensor))
    return torch.stack([tensor[list(of or everything)].float().mean(dim=0) for of in sources])


def _raised(sources: Sequence[int], meaning: Sequence[Sequence[str]]) -> float:
    """By how much a label's logit differs from the mean of its sources: more for a sum, less for a part."""
    if not sources:
        return 0.0
    return log(len(sources)) - sum(log(len(meaning[place])) for place in sources) / len(sources)
