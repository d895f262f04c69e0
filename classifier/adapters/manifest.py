"""The adapter directory: peft's own files and a manifest with their hashes. Imports no torch.

Layout of a directory::

    adapter_config.json         peft's own
    adapter_model.safetensors   peft's own
    reviewloop.json             the manifest: task, labels, base, temperature, sha256 of every other file
    README.md                   a card for people; not part of the content, so it can be corrected

The content hash is the SHA-256 of the manifest's canonical JSON, which holds the hash of every file: two
directories with one content hash say the same about every text.
"""

import hashlib
import json
import operator
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

from classifier.adapters.files import FileSource, read_directory, sha256_hex
from classifier.adapters.peft_config import check_config, refuse_foreign_code
from reviews.adapter import MANIFEST_FILE, ZERO_SHOT, AdapterVersion, Origin
from reviews.errors import AdapterError
from reviews.fields import Name
from reviews.label import ONE_LABEL_EACH, check_label_names

MANIFEST = MANIFEST_FILE
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
CARD = "README.md"

# How peft marks the tensors that a method adds; all others are saved whole, the head's among them.
_ADDED = (".lora_", ".ia3_", ".trainable_tokens_")
_MAX_TASK_CHARACTERS = 64
_MAX_HEADER_BYTES = 100_000_000  # the limit of safetensors


Pooling = Literal["first", "mean"]
"""What a head reads of a text: the token's state that its architecture reads, or the mean over all tokens."""


def _distinct_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len(labels) < 2:
        raise ValueError("a classifier needs at least two labels")
    check_label_names(labels)
    return labels


def _storable_task(task: str) -> str:
    if not task.isprintable() or task != task.strip():
        raise ValueError("the task's name holds characters that cannot be printed, or outer blanks")
    return task


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
        format: Version of this manifest's format: 2 where ``pooling`` is not ``first``, which programs that
            know only 1 would overlook.
        task: The question it answers, for example ``sentiment``.
        labels: Names of the classes, in the order of the logits.
        base_model: The base it was fitted on, as it was named then; None where the directory does not say.
        base_revision: That base's revision, for a Hugging Face id.
        base_sha256: Hash of that base's weights; another base is refused. None: unknown, not checked.
        pooling: What the head reads; ``mean``: it is one linear layer on the mean over the tokens.
        temperature: Logits are divided by it before the softmax.
        metrics: What was measured when it was made (accuracy, macro_f1 ...).
        training: How it was made: recipe, seed, data hashes.
        parent: Version of the adapter it continues, if any.
        origin: Whether labelled reviews made it, or descriptions of the labels.
        probes: Texts with their probabilities, to check an engine before it serves.
        files: SHA-256 of every file but the manifest and the card.
        content_hash: The name of all this together, 64 hex digits.
        has_manifest: False for a plain peft directory, whose labels are made up from its head's size.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1, 2] = 1
    task: Annotated[str, Field(min_length=1, max_length=_MAX_TASK_CHARACTERS), AfterValidator(_storable_task)]
    labels: Annotated[tuple[str, ...], AfterValidator(_distinct_labels)]
    base_model: Name | None = None
    base_revision: Name | None = None
    base_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    pooling: Pooling = "first"
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    metrics: dict[Name, FiniteFloat] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    parent: Name | None = None
    origin: Origin = "trained"
    probes: tuple[Probe, ...] = ()
    files: dict[str, str]
    content_hash: str = Field("", exclude=True)
    has_manifest: bool = Field(default=True, exclude=True)

    @model_validator(mode="after")
    def _is_refused_by_programs_that_would_misread_it(self) -> Self:
        if (self.pooling != "first") != (self.format == 2):
            raise ValueError(f"format {self.format} does not go with pooling {self.pooling}")
        return self

    @property
    def version(self) -> str:
        """The adapter's public name: its task and the first 12 hex digits of its content hash.

        The name of a zero-shot adapter says so, wherever it is shown.
        """
        kind = f"{ZERO_SHOT}-" if self.origin == ZERO_SHOT else ""
        return f"{self.task}-{kind}{self.content_hash[:12]}"


def describe_adapter(manifest: "AdapterManifest") -> AdapterVersion:
    """What the registry keeps of an adapter directory's manifest."""
    return AdapterVersion(
        version=manifest.version,
        task=manifest.task,
        labels=manifest.labels,
        base_model=manifest.base_model or "",
        base_revision=manifest.base_revision,
        content_hash=manifest.content_hash,
        temperature=manifest.temperature,
        metrics=manifest.metrics,
        parent=manifest.parent,
        origin=manifest.origin,
    )


def read_manifest(directory: Path, task: str = "sentiment") -> AdapterManifest:
    """The verified manifest of an adapter directory: every file is read and compared with its hash.

    A directory as plain peft writes it has no manifest; it is taken as it is, with the labels that its
    ``config.json`` names, else ``class_0``, ``class_1`` and so on.

    Args:
        directory: The adapter.
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
    return verified_files(read_directory(directory), task)


def verified_files(source: FileSource, task: str = "sentiment") -> tuple[AdapterManifest, dict[str, bytes]]:
    """The verified manifest of adapter files wherever they come from, and those of them that belong to it.

    Raises:
        AdapterError: As :func:`read_manifest`.
    """
    manifest = parse_manifest(source, task)
    names = {*manifest.files, MANIFEST, CARD} & set(source.names())
    return manifest, {name: source.read(name) for name in sorted(names)}


def read_config(directory: Path) -> dict[str, Any]:
    """The configuration of an adapter directory, as peft wrote it.

    Raises:
        AdapterError: If it cannot be read or is not a JSON object.
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
                f"{source.where} is not an adapter: {name} is missing; peft's save_pretrained writes it."
            )
    config, where = _json(source, CONFIG), f"{source.where}/{CONFIG}"
    refuse_foreign_code(config, where)
    manifest = _guarded(source) if MANIFEST in source.names() else None
    check_config(config, where)
    return manifest or _without_manifest(source, task)


def make_manifest(fields: Mapping[str, Any], where: str) -> AdapterManifest:
    """The manifest with these fields.

    Args:
        fields: As :class:`AdapterManifest` names them.
        where: What to call the adapter in an error.

    Raises:
        AdapterError: If a field is missing or wrong.
    """
    try:
        return AdapterManifest.model_validate(fields)
    except ValidationError as err:
        raise AdapterError(f"{where} cannot be used: {_first_line(err)}.") from err


def content_hash(manifest: Mapping[str, Any]) -> str:
    """The hash of a manifest's canonical JSON, its own field ``content_hash`` left out."""
    fields = {name: value for name, value in manifest.items() if name != "content_hash"}
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return sha256_hex(canonical.encode())


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
    if "config.json" in source.names():
        model = _json(source, "config.json")
        refuse_other_problems(model.get("problem_type"), f"{source.where}/config.json")
    return manifest


def _load(source: FileSource) -> AdapterManifest:
    """The manifest itself, checked against its own hash and its own form."""
    try:
        raw = json.loads(source.read(MANIFEST))
        manifest = AdapterManifest.model_validate({**raw, "has_manifest": True})
    except (ValueError, TypeError, RecursionError) as err:  # pydantic's error is a ValueError
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
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"
    return str(err).splitlines()[0]


def _json(source: FileSource, name: str) -> dict[str, Any]:
    try:
        value = json.loads(source.read(name))
    except (ValueError, RecursionError) as err:
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
    fields = {
        "task": task,
        "labels": _labels(source),
        "base_model": config.get("base_model_name_or_path"),
        "base_revision": config.get("revision"),
        "files": hashes,
        "content_hash": digest,
        "has_manifest": False,
    }
    return make_manifest(fields, source.where)


def _labels(source: FileSource) -> tuple[str, ...]:
    """The names in ``config.json``, else one made-up name for each row of the head."""
    model = _json(source, "config.json") if "config.json" in source.names() else {}
    refuse_other_problems(model.get("problem_type"), f"{source.where}/config.json")
    shapes = tensor_shapes(source.read(WEIGHTS), where=f"{source.where}/{WEIGHTS}")
    outputs = _outputs_of_head(shapes)
    if outputs is None:
        raise AdapterError(
            f"{source.where} holds no classification head; fit it with the head in modules_to_save."
        )
    if outputs == 1:
        raise AdapterError(
            f"{source.where} has a head of one output, as regressions and reward models have; this "
            "classifier chooses one label of several."
        )
    named = model.get("id2label")
    if isinstance(named, dict) and len(named) == outputs:
        ordered = [str(named.get(str(index), "")) for index in range(outputs)]
        if all(ordered) and not all(name == f"LABEL_{index}" for index, name in enumerate(ordered)):
            return tuple(ordered)
    return tuple(f"class_{index}" for index in range(outputs))


def refuse_other_problems(problem_type: object, where: str) -> None:
    """Refuse a model of transformers that does not choose one label of several.

    Args:
        problem_type: As a model's configuration names it; None where it does not.
        where: That configuration, for the error.

    Raises:
        AdapterError: If it is a regression, or gives each text any number of labels.
    """
    if problem_type in ("regression", "multi_label_classification"):
        instead = "" if problem_type == "regression" else f" {ONE_LABEL_EACH}"
        raise AdapterError(
            f"{where} says problem_type {problem_type}; this classifier chooses one label of several."
            f"{instead}"
        )


def _outputs_of_head(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """How many outputs the head has; None where no matrix was saved whole.

    Heads are called ``classifier``, ``score``, ``classification_head``, ``logits_proj`` and more. Whatever
    its name, the last matrix of a head is one whose rows no other one reads; beside it there may be
    embeddings, which have more rows. Whether the model agrees shows when the tensors are put into it.
    """
    whole = [
        shape
        for name, shape in shapes.items()
        if len(shape) == 2 and not any(mark in name for mark in _ADDED)
    ]
    read = {columns for _, columns in whole}
    return min((rows for rows, _ in whole if rows not in read), default=None) or min(
        (rows for rows, _ in whole), default=None
    )


def tensor_shapes(content: bytes, where: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a safetensors file.

    The format: eight bytes with the header's length (little endian), then the header as JSON
    (https://github.com/huggingface/safetensors#format).

    Args:
        content: The file.
        where: Its name, for the error.

    Raises:
        AdapterError: If the content is not a safetensors file.
    """
    try:
        (length,) = struct.unpack_from("<Q", content)
        # A length beyond the file or the format's limit leaves half a JSON text, which does not parse.
        header = json.loads(content[8 : 8 + min(length, _MAX_HEADER_BYTES)])
        return {
            name: tuple(map(operator.index, entry["shape"]))
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise AdapterError(f"{where} is not a safetensors file ({err}); fetch the adapter again.") from err
