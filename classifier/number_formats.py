"""Which number format serves an adapter on this machine, and why: remembered in files. Imports no torch."""

import contextlib
import hashlib
from pathlib import Path
from typing import Literal, TypeVar

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from classifier.trust import FormatAgreement
from reviews import durable

log = structlog.get_logger()

NumberFormat = Literal["fp32", "bf16", "fp16", "int8"]
SAMPLE_TOKENS = 32
"""Length of the texts in which speeds are told."""
_Kept = TypeVar("_Kept", bound=BaseModel)
MARGIN = 1.1
"""How much faster than the expected format another one must be to take its place."""
_LAYERS_SUFFIX = ".int8"
_MOST_LAYERS = 8
_DIGEST_BYTES = 32
_MADE_BY = 4  # of how int8 layers are made; a change of that makes old decisions void


class Rates(BaseModel):
    """Measured speeds of the packed engine on this machine, for one shape of model.

    Attributes:
        processor: Which processor, how many threads, which PyTorch.
        texts: Texts of 32 tokens that one core scores in a second, by number format.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    processor: str
    texts: dict[NumberFormat, float]

    def ordered(self, expected: NumberFormat) -> list[NumberFormat]:
        """The formats, fastest first; the expected one goes before those that are not clearly faster."""
        ours = self.texts.get(expected, 0.0)
        faster = [name for name, rate in self.texts.items() if name != expected and rate >= ours * MARGIN]
        return [*sorted(faster, key=lambda name: -self.texts[name]), expected]


class Decision(BaseModel):
    """The number format of an adapter on a processor, and why.

    Attributes:
        number_format: Of the matrices.
        reason: Why this format.
        processor: Which processor, how many threads, which PyTorch.
        texts_per_second: Texts of 32 tokens that one core scores in a second, by number format.
        agreement: int8 compared with fp32; None where it was not compared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number_format: NumberFormat
    reason: str
    processor: str
    texts_per_second: dict[NumberFormat, float] = {}
    agreement: FormatAgreement | None = None


def decisions_of(directory: Path, content_hash: str) -> list[Decision]:
    """What was decided for an adapter on this machine, with every number of threads and PyTorch version."""
    found = []
    for file in sorted(directory.glob(f"decision-{content_hash}-*.json")):
        try:
            found.append(Decision.model_validate_json(file.read_bytes()))
        except (OSError, ValidationError):
            continue
    return found


class FormatMemory:
    """Measurements and decisions in files; what cannot be read is measured again.

    Args:
        directory: Where they are kept; made if need be. None: nowhere.
        processor: What they hold for, as :func:`classifier.devices.describe_processor` names it.
    """

    def __init__(self, directory: Path | None, processor: str) -> None:
        self._directory = directory
        self.processor = processor

    def rates(self, shape: str) -> Rates | None:
        """What was measured for a shape of model."""
        return self._read(f"rates-{shape}", Rates)

    def decision(self, content_hash: str) -> Decision | None:
        """What was decided for an adapter."""
        return self._read(f"decision-{content_hash}", Decision)

    def keep_rates(self, shape: str, rates: Rates) -> None:
        """Remember what was measured."""
        self._write(f"rates-{shape}", rates)

    def keep_decision(self, content_hash: str, decision: Decision) -> None:
        """Remember what was decided."""
        self._write(f"decision-{content_hash}", decision)

    def layers(self, content_hash: str) -> bytes | None:
        """What was kept of an adapter's layers in int8; None where nothing is, or where it is damaged."""
        name = f"layers-{content_hash}"
        content = self._content(name, _LAYERS_SUFFIX)
        if content is None:
            return None
        digest, layers = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(layers).digest() != digest:
            log.warning("number_format_forgotten", kept=name, error="the checksum is wrong")
            return None
        return layers

    def keep_layers(self, content_hash: str, layers: bytes) -> None:
        """Keep an adapter's layers in int8, which take seconds to make; the oldest of many are removed."""
        content = hashlib.sha256(layers).digest() + layers
        self._keep(f"layers-{content_hash}", content, _LAYERS_SUFFIX)
        if self._directory is not None:
            _remove_oldest(self._directory)

    def _read(self, name: str, kind: type[_Kept]) -> _Kept | None:
        content = self._content(name)
        try:
            return None if content is None else kind.model_validate_json(content)
        except ValidationError as err:
            log.warning("number_format_forgotten", kept=name, error=type(err).__name__)
            return None

    def _write(self, name: str, kept: BaseModel) -> None:
        self._keep(name, (kept.model_dump_json(indent=2) + "\n").encode())

    def _content(self, name: str, suffix: str = ".json") -> bytes | None:
        if self._directory is None:
            return None
        try:
            return self._file(self._directory, name, suffix).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as err:
            log.warning("number_format_forgotten", kept=name, error=type(err).__name__)
            return None

    def _keep(self, name: str, content: bytes, suffix: str = ".json") -> None:
        if self._directory is None:
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            durable.write_file(self._file(self._directory, name, suffix), content)
        except OSError as err:
            log.warning("number_format_not_kept", kept=name, error=str(err))

    def _file(self, directory: Path, name: str, suffix: str) -> Path:
        digest = hashlib.sha256(f"{_MADE_BY}\n{self.processor}".encode()).hexdigest()[:16]
        return directory / f"{name}-{digest}{suffix}"


def _remove_oldest(directory: Path) -> None:
    """Leave the layers of so many adapters; another process may remove them at the same time."""
    with contextlib.suppress(OSError):
        newest_first = sorted(directory.glob(f"layers-*{_LAYERS_SUFFIX}"), key=_written, reverse=True)
        for file in newest_first[_MOST_LAYERS:]:
            file.unlink(missing_ok=True)


def _written(file: Path) -> float:
    return file.stat().st_mtime
