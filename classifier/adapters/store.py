"""Adapters by content: assembled, stored under their hash, and cached on each machine. Imports no torch."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from classifier.adapters.files import FileSource, remove_damaged, sha256_hex, write_directory
from classifier.adapters.manifest import (
    CARD,
    CONFIG,
    MANIFEST,
    WEIGHTS,
    AdapterManifest,
    content_hash,
    make_manifest,
    parse_manifest,
    read_manifest,
)
from reviews.errors import AdapterError, WrongUse

if TYPE_CHECKING:
    import torch

log = structlog.get_logger()


class CachedAdapter(NamedTuple):
    """An adapter in this machine's cache.

    Attributes:
        directory: Where its files are.
        manifest: Its manifest; every file was compared with its hash.
    """

    directory: Path
    manifest: AdapterManifest


def cached(
    content_hash: str, cache_root: Path, fetch: Callable[[], Mapping[str, bytes]], task: str = "sentiment"
) -> CachedAdapter:
    """An adapter from the cache; its files are fetched only if they are not there and whole.

    Args:
        content_hash: The adapter's.
        cache_root: Where adapters are kept on this machine; made if need be.
        fetch: Gives the files by name.
        task: The task of a plain peft adapter, which names none.

    Raises:
        AdapterError: If the files that were fetched are not those of this hash, or the disk refuses.
    """
    found = _find_whole(cache_root / content_hash, content_hash, task)
    if found is not None:
        return found
    files = fetch()
    manifest = parse_manifest(FileSource("The adapter", files), task)
    if manifest.content_hash != content_hash:
        raise AdapterError(
            f"The files fetched are those of {manifest.version}, not of the adapter {content_hash[:12]} that "
            "was asked for; add the adapter again."
        )
    return CachedAdapter(write_directory(files, cache_root, content_hash), manifest)


def write_files(files: Mapping[str, bytes], cache_root: Path, task: str = "sentiment") -> Path:
    """The directory ``cache_root/CONTENT_HASH`` with these files; one that is there and whole is used.

    Args:
        files: As :func:`classifier.adapters.manifest.read_files` gives them.
        cache_root: Where adapters are kept on this machine; made if need be.
        task: The task of a plain peft adapter, which names none.

    Raises:
        AdapterError: If the files do not match their manifest, or the disk refuses.
    """
    manifest = parse_manifest(FileSource("The adapter", files), task)
    found = _find_whole(cache_root / manifest.content_hash, manifest.content_hash, task)
    return found.directory if found else write_directory(files, cache_root, manifest.content_hash)


def verify(directory: Path, expected_hash: str | None = None, task: str = "sentiment") -> AdapterManifest:
    """The manifest of a directory whose every file was read and compared.

    Args:
        directory: The adapter.
        expected_hash: The content hash it must have; None accepts any.
        task: The task of a plain peft adapter, which names none.

    Raises:
        AdapterError: If anything differs, down to one bit.
    """
    manifest = read_manifest(directory, task)
    if expected_hash is not None and manifest.content_hash != expected_hash:
        raise AdapterError(f"{directory} holds adapter {manifest.version}, not the one asked for.")
    return manifest


def _find_whole(directory: Path, expected_hash: str, task: str) -> CachedAdapter | None:
    """The directory, if it holds the adapter down to the last bit; a damaged one is removed."""
    if not directory.is_dir():
        return None
    try:
        return CachedAdapter(directory, verify(directory, expected_hash, task))
    except AdapterError as err:
        log.warning("adapter_cache_damaged", directory=str(directory), error=str(err))
        remove_damaged(directory)
        return None


def assemble(files: Mapping[str, bytes], fields: Mapping[str, Any], card: str = "") -> dict[str, bytes]:
    """The files of a complete adapter: these, a manifest over them, and a card.

    Args:
        files: peft's two files, and what else belongs to the content.
        fields: The manifest's fields but ``files`` and ``format`` (see :class:`AdapterManifest`).
        card: Markdown for people; ``{version}`` stands for the adapter's version.

    Raises:
        AdapterError: If the fields do not make a manifest or a file may not be in an adapter.
    """
    guarded = {name: content for name, content in files.items() if name not in (MANIFEST, CARD)}
    hashes = {name: sha256_hex(content) for name, content in sorted(guarded.items())}
    number = 1 if fields.get("pooling", "first") == "first" else 2
    manifest = make_manifest({**fields, "format": number, "files": hashes}, "The new adapter")
    raw = manifest.model_dump(mode="json")
    raw["content_hash"] = content_hash(raw)
    complete = {**guarded, MANIFEST: (json.dumps(raw, indent=2, ensure_ascii=False) + "\n").encode()}
    version = parse_manifest(FileSource("The new adapter", complete)).version
    if card:
        complete[CARD] = card.replace("{version}", version).encode()
    return complete


def name_labels(
    manifest: AdapterManifest, files: Mapping[str, bytes], labels: Sequence[str]
) -> tuple[AdapterManifest, dict[str, bytes]]:
    """A plain peft adapter with names for its classes, and its files with a manifest that says so.

    Args:
        manifest: What was read of the plain adapter.
        files: Its files.
        labels: A name for each class, in the order of the logits; blanks around them are dropped.

    Raises:
        WrongUse: If the adapter has names of its own, or as many names as classes are not given.
    """
    names = tuple(name.strip() for name in labels)
    if manifest.has_manifest:
        raise WrongUse(
            f"The adapter names its classes itself: {', '.join(manifest.labels)}; leave out --labels."
        )
    if len(names) != len(manifest.labels):
        raise WrongUse(f"The adapter has {len(manifest.labels)} classes, and {len(names)} names were given.")
    if len(set(names)) < len(names) or "" in names:
        raise WrongUse(f"Each class needs a name of its own, not {', '.join(map(repr, names))}.")
    fields = manifest.model_dump(exclude={"files"}) | {"labels": names}
    complete = assemble(files, fields)
    return parse_manifest(FileSource("The adapter", complete)), complete


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
