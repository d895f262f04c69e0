"""Output directories of a run and its adapter, written atomically."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classifier.adapters.manifest import CONFIG
from classifier.base_model import BaseModel, quiet_transformers
from reviews.durable import replace_directory, write_file
from reviews.errors import WrongUse
from trainer.errors import TrainingStopped

RECORD = "run.json"


@dataclass(frozen=True, slots=True)
class Places:
    """Where a run writes.

    Attributes:
        output: Its directory: checkpoint, record, reports.
        adapter: Where the adapter itself ends up; a full model, where all weights were fitted.
    """

    output: Path
    adapter: Path

    @property
    def checkpoint(self) -> Path:
        """The state of the unfinished run."""
        return self.output / "checkpoint.safetensors"

    @property
    def record(self) -> Path:
        """What the finished run says about itself; written last."""
        return self.output / RECORD

    def check(self) -> None:
        """Refuse places that are files.

        Raises:
            WrongUse: If one is.
        """
        for place in (self.output, self.adapter):
            if place.exists() and not place.is_dir():
                raise WrongUse(f"{place} is a file; name a directory.")


def prepare(places: Places, *, resume: bool, overwrite: bool) -> None:
    """Make room for a run, or refuse before anything is computed.

    Raises:
        WrongUse: If another run's state or other files are in the way.
        TrainingStopped: If the disk refuses.
    """
    if places.checkpoint.is_file() and not (resume or overwrite):
        raise WrongUse(
            f"{places.output} holds the checkpoint of an unfinished run: --resume continues it, "
            "--overwrite starts anew, another --output-dir keeps it."
        )
    if places.adapter.is_dir() and any(places.adapter.iterdir()) and not _is_ours(places.adapter):
        raise WrongUse(f"{places.adapter} holds files that are no adapter; name an empty or a new directory.")
    try:
        places.output.mkdir(parents=True, exist_ok=True)
        if not resume:
            places.checkpoint.unlink(missing_ok=True)
            places.record.unlink(missing_ok=True)
    except OSError as err:
        raise TrainingStopped(f"{places.output} cannot be written: {err.strerror or err}.") from err


def finished(places: Places) -> dict[str, Any] | None:
    """The record of the finished run in that directory; None where there is none."""
    try:
        record = json.loads(places.record.read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and places.adapter.is_dir() else None


def place(files: Mapping[str, bytes], directory: Path) -> None:
    """Make `directory` one with exactly these files, by name; whole, or as it was before.

    Raises:
        TrainingStopped: If the disk refuses.
    """
    try:
        replace_directory(directory, files)
    except OSError as err:
        raise TrainingStopped(f"{directory} cannot be written: {err.strerror or err}.") from err


def write_whole(path: Path, content: bytes) -> None:
    """A file that is whole, or as it was before.

    Raises:
        TrainingStopped: If the disk refuses.
    """
    try:
        write_file(path, content)
    except OSError as err:
        raise TrainingStopped(
            f"{path} cannot be written: {err.strerror or err}. Make room, then --resume."
        ) from err


def tokeniser_files(base: BaseModel) -> dict[str, bytes]:
    """The files of the base's tokeniser, so that an adapter's directory can be used without the base's."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as scratch, quiet_transformers():
        AutoTokenizer.from_pretrained(base.directory, local_files_only=True).save_pretrained(scratch)
        return {file.name: file.read_bytes() for file in sorted(Path(scratch).iterdir()) if file.is_file()}


def _is_ours(directory: Path) -> bool:
    names = {path.name for path in directory.iterdir()}
    return CONFIG in names or {"config.json", "model.safetensors"} <= names
