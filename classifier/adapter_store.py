"""Adapters as content: put together, written under their hash, materialised elsewhere. Imports no torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from classifier.adapter import CARD, MANIFEST, AdapterManifest, content_hash, parse_manifest, read_manifest
from classifier.adapter_files import FileSource, set_aside, sha256_hex, write_directory
from reviews.errors import AdapterError


def assemble(files: Mapping[str, bytes], fields: Mapping[str, Any], card: str = "") -> dict[str, bytes]:
    """The files of a complete adapter: these, a manifest over them, and a card.

    Args:
        files: peft's two files, and what else belongs to the content.
        fields: The manifest's fields but ``files`` (see :class:`AdapterManifest`).
        card: Markdown for people; ``{version}`` stands for the adapter's version.

    Raises:
        AdapterError: If the fields do not make a manifest or a file may not be in an adapter.
    """
    guarded = {name: content for name, content in files.items() if name not in (MANIFEST, CARD)}
    hashes = {name: sha256_hex(content) for name, content in sorted(guarded.items())}
    manifest = AdapterManifest.model_validate({**fields, "files": hashes})
    raw = manifest.model_dump(mode="json")
    raw["content_hash"] = content_hash(raw)
    complete = {**guarded, MANIFEST: (json.dumps(raw, indent=2, ensure_ascii=False) + "\n").encode()}
    version = parse_manifest(FileSource("The new adapter", complete)).version
    if card:
        complete[CARD] = card.replace("{version}", version).encode()
    return complete


def write_files(files: Mapping[str, bytes], cache_root: Path, task: str = "sentiment") -> Path:
    """The directory ``cache_root/CONTENT_HASH`` with these files; one that is there and whole is used.

    Args:
        files: As :func:`classifier.adapter.read_files` gives them.
        cache_root: Where adapters are kept on this machine; made if need be.
        task: The task of a plain peft adapter, which names none.

    Raises:
        AdapterError: If the files do not match their manifest, or the disk refuses.
    """
    manifest = parse_manifest(FileSource("The adapter", files), task)
    target = cache_root / manifest.content_hash
    if target.is_dir() and _is_whole(target, manifest.content_hash, task):
        return target
    if target.is_dir():
        set_aside(target)
    return write_directory(files, cache_root, manifest.content_hash)


def verify(directory: Path, expected_hash: str | None = None, task: str = "sentiment") -> AdapterManifest:
    """The manifest of a directory whose every file was read and compared.

    Args:
        directory: Where the adapter lies.
        expected_hash: The content hash it must have; None for whichever it says.
        task: The task of a plain peft adapter, which names none.

    Raises:
        AdapterError: If anything differs, down to one bit.
    """
    manifest = read_manifest(directory, task)
    if expected_hash is not None and manifest.content_hash != expected_hash:
        raise AdapterError(f"{directory} holds adapter {manifest.version}, not the one asked for.")
    return manifest


def _is_whole(directory: Path, expected_hash: str, task: str) -> bool:
    try:
        verify(directory, expected_hash, task)
    except AdapterError:
        return False
    return True
