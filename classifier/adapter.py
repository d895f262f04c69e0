"""The adapter directory: peft's own files, and a manifest that names and guards them. Imports no torch.

Layout of a directory::

    adapter_config.json         peft's own
    adapter_model.safetensors   peft's own
    reviewloop.json             the manifest: task, labels, base, temperature, sha256 of every other file
    README.md                   a card for people; not part of the content, so it can be mended

The content hash is the SHA-256 of the manifest's canonical JSON, which holds the hash of every file: two
directories with one content hash say the same about every text.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from classifier.adapter_files import FileSource, read_directory, sha256_hex
from classifier.safetensors_header import tensor_shapes
from reviews.errors import AdapterError

MANIFEST = "reviewloop.json"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
CARD = "README.md"
METHODS = ("LORA", "IA3")
"""Peft's names of what is fitted here, and added into the base's weights; DoRA and rsLoRA are LORA to it."""

# With their dot: DistilBERT's inner `pre_classifier.weight` is no head.
_HEADS = (".classifier.out_proj.weight", ".classifier.weight", ".score.weight")


class Probe(BaseModel):
    """A text whose probabilities are known: a freshly built engine must reproduce them before it serves.

    Attributes:
        text: What to score.
        probabilities: Calibrated, in the order of the adapter's labels.
    """

    model_config = ConfigDict(frozen=True)

    text: str
    probabilities: tuple[float, ...]


class AdapterManifest(BaseModel):
    """What an adapter says about itself.

    Attributes:
        format: Version of this manifest's format.
        task: The question it answers, ``sentiment`` for one.
        labels: Names of the classes, in the order of the logits.
        base_model: The base it was fitted on, as it was named then; None where the directory does not say.
        base_revision: That base's revision, for a Hugging Face id.
        base_sha256: Hash of that base's weights; another base is refused. None: unknown, not checked.
        temperature: Logits are divided by it before the softmax.
        metrics: What was measured when it was made (accuracy, macro_f1 ...).
        training: How it was made: recipe, seed, data hashes.
        parent: Version of the adapter it continues, if any.
        probes: Texts with their probabilities, to prove an engine before it serves.
        files: SHA-256 of every file but the manifest and the card.
        content_hash: The name of all this together, 64 hex digits.
        has_manifest: False for a plain peft directory, whose labels are made up from its head's size.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    task: str = Field(min_length=1, max_length=64)
    labels: tuple[str, ...] = Field(min_length=2)
    base_model: str | None = None
    base_revision: str | None = None
    base_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    metrics: dict[str, float] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    parent: str | None = None
    probes: tuple[Probe, ...] = ()
    files: dict[str, str]
    content_hash: str = Field("", exclude=True)
    has_manifest: bool = Field(default=True, exclude=True)

    @property
    def version(self) -> str:
        """The adapter's public name: its task and the first 12 hex digits of its content hash."""
        return f"{self.task}-{self.content_hash[:12]}"


def content_hash(manifest: Mapping[str, Any]) -> str:
    """The hash of a manifest's canonical JSON, its own field ``content_hash`` left out."""
    fields = {name: value for name, value in manifest.items() if name != "content_hash"}
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return sha256_hex(canonical.encode())


def read_manifest(directory: Path, task: str = "sentiment") -> AdapterManifest:
    """The verified manifest of an adapter directory: every file is read and compared with its hash.

    A directory as plain peft writes it has no manifest; it is taken as it is, with the labels that its
    ``config.json`` names, else ``class_0``, ``class_1`` and so on.

    Args:
        directory: Where the adapter lies.
        task: The task of a directory that names none.

    Raises:
        AdapterError: If a file is missing, altered, unreadable, or of a kind that would be unpickled; or if
            the adapter is of a method that is not run here.
    """
    return read_files(directory, task)[0]


def read_files(directory: Path, task: str = "sentiment") -> tuple[AdapterManifest, dict[str, bytes]]:
    """The verified manifest of a directory and its files, to be carried elsewhere.

    Raises:
        AdapterError: As :func:`read_manifest`.
    """
    source = read_directory(directory)
    manifest = parse_manifest(source, task)
    names = {*manifest.files, MANIFEST, CARD} & set(source.names())
    return manifest, {name: source.read(name) for name in sorted(names)}


def read_config(directory: Path) -> dict[str, Any]:
    """The configuration of an adapter directory, as peft wrote it.

    Raises:
        AdapterError: If it cannot be read or is no JSON object.
    """
    return _json(read_directory(directory), CONFIG)


def parse_manifest(source: FileSource, task: str = "sentiment") -> AdapterManifest:
    """The verified manifest of adapter files wherever they come from.

    Raises:
        AdapterError: As :func:`read_manifest`.
    """
    for name in (CONFIG, WEIGHTS):
        if name not in source.names():
            raise AdapterError(
                f"{source.where} is no adapter: {name} is missing; peft's save_pretrained writes it."
            )
    _refuse_foreign_code(source)
    manifest = _guarded(source) if MANIFEST in source.names() else None
    _require_method(source)
    return manifest or _without_manifest(source, task)


def _guarded(source: FileSource) -> AdapterManifest:
    """The manifest, once every file that it names has the hash that it says."""
    manifest = _load(source)
    for name, expected in manifest.files.items():
        if name not in source.names():
            raise AdapterError(f"{source.where} is incomplete: {name} is missing; fetch the adapter again.")
        if sha256_hex(source.read(name)) != expected:
            raise AdapterError(
                f"{source.where} is damaged: {name} does not match its hash; fetch the adapter again."
            )
    return manifest


def _load(source: FileSource) -> AdapterManifest:
    """The manifest itself, checked against its own hash and its own form."""
    try:
        raw = json.loads(source.read(MANIFEST))
        manifest = AdapterManifest.model_validate({**raw, "has_manifest": True})
    except (ValueError, TypeError, ValidationError) as err:
        raise AdapterError(
            f"{source.where}/{MANIFEST} cannot be read ({_first_line(err)}): damaged, or too new."
        ) from err
    if content_hash(raw) != raw.get("content_hash"):
        raise AdapterError(f"{source.where}/{MANIFEST} does not match its own hash; fetch the adapter again.")
    missing = {CONFIG, WEIGHTS} - set(manifest.files)
    if missing:
        raise AdapterError(
            f"{source.where}/{MANIFEST} guards no {', '.join(sorted(missing))}; fetch the adapter again."
        )
    return manifest


def _first_line(err: Exception) -> str:
    if isinstance(err, ValidationError):
        first = err.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(err).splitlines()[0]


def _refuse_foreign_code(source: FileSource) -> None:
    """Peft imports the module that ``megatron_core`` names: a configuration must not choose what runs."""
    config = _json(source, CONFIG)
    if config.get("megatron_config"):
        raise AdapterError(
            f"{source.where}/{CONFIG} asks for Megatron's layers, which this classifier does not run."
        )


def _require_method(source: FileSource) -> None:
    """Other methods keep parts beside the base's weights, or want more of the base than a classifier has."""
    kind = _json(source, CONFIG).get("peft_type")
    if kind not in METHODS:
        raise AdapterError(
            f"{source.where}/{CONFIG} has the peft type {kind}, which this classifier does not run: fit the "
            f"adapter with one of {', '.join(METHODS)}."
        )


def _json(source: FileSource, name: str) -> dict[str, Any]:
    try:
        value = json.loads(source.read(name))
    except ValueError as err:
        raise AdapterError(f"{source.where}/{name} is not JSON ({err}); fetch the adapter again.") from err
    if not isinstance(value, dict):
        raise AdapterError(f"{source.where}/{name} must hold a JSON object; fetch the adapter again.")
    return value


def _without_manifest(source: FileSource, task: str) -> AdapterManifest:
    """A manifest for a plain peft directory, from what its files tell."""
    config = _json(source, CONFIG)
    names = [name for name in (CONFIG, WEIGHTS, "config.json") if name in source.names()]
    hashes = {name: sha256_hex(source.read(name)) for name in names}
    digest = hashlib.sha256("".join(f"{name}\0{hashes[name]}\n" for name in names).encode()).hexdigest()
    return AdapterManifest(
        task=task,
        labels=_labels(source),
        base_model=config.get("base_model_name_or_path"),
        base_revision=config.get("revision"),
        files=hashes,
        content_hash=digest,
        has_manifest=False,
    )


def _labels(source: FileSource) -> tuple[str, ...]:
    """The names in ``config.json``, else one made-up name for each row of the head."""
    shapes = tensor_shapes(source.read(WEIGHTS), where=f"{source.where}/{WEIGHTS}")
    sizes = [shape[0] for name, shape in shapes.items() if name.endswith(_HEADS) and len(shape) == 2]
    if not sizes:
        raise AdapterError(
            f"{source.where} holds no classification head; fit it with the head in modules_to_save."
        )
    named = _json(source, "config.json").get("id2label") if "config.json" in source.names() else None
    if isinstance(named, dict) and len(named) == sizes[0]:
        ordered = [str(named.get(str(index), "")) for index in range(sizes[0])]
        if all(ordered) and not all(name == f"LABEL_{index}" for index, name in enumerate(ordered)):
            return tuple(ordered)
    return tuple(f"class_{index}" for index in range(sizes[0]))
