"""What this machine brings: versions, disk space, and something to calculate with."""

import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from huggingface_hub.constants import HF_HUB_CACHE

from classifier.devices import choose_device, describe_dtype
from reviewloop.doctor.finding import Finding, Level
from reviewloop.local.places import cache_directory
from reviewloop.settings import Settings

_PACKAGES = ("reviewloop", "torch", "transformers", "peft", "kafka-python", "psycopg", "sqlalchemy", "crc32c")
_LEAST_BYTES = 256 * 1024 * 1024
_FEW_BYTES = 2 * 1024 * 1024 * 1024  # a base model, and some adapters
_NVIDIA = Path("/dev/nvidiactl")


def versions() -> Iterator[Finding]:
    """Python and the packages that matter."""
    missing = [name for name in _PACKAGES if _version(name) is None]
    found = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES if name not in missing)
    yield Finding("versions", Level.ok, f"Python {platform.python_version()}, {found}")
    if missing:
        yield Finding(
            "versions", Level.fail, f"not installed: {', '.join(missing)}", "run pip install reviewloop again"
        )


def caches(settings: Settings) -> Iterator[Finding]:
    """Room where adapters and base models are kept."""
    folders = {
        "adapter cache": settings.consumer.adapter_cache or cache_directory() / "adapters",
        "model cache": _hub_cache(),
    }
    for name, folder in folders.items():
        free_bytes = shutil.disk_usage(_existing(folder)).free
        found = f"{folder}: {free_bytes / 2**30:.1f} GiB free"
        level = (
            Level.fail if free_bytes < _LEAST_BYTES else Level.warn if free_bytes < _FEW_BYTES else Level.ok
        )
        yield Finding(name, level, found, "" if level is Level.ok else "make room on that disk")


def device(settings: Settings) -> Iterator[Finding]:
    """What the classifier calculates on, in which number format, and why."""
    chosen = choose_device(settings.classifier.device)
    number_format, reason = describe_dtype(settings.classifier.precision, chosen)
    calculates = f"calculates in {number_format}, as {reason}"
    if chosen.type == "cpu" and settings.classifier.device == "auto" and _NVIDIA.exists():
        yield Finding(
            "device",
            Level.warn,
            f"cpu, although there is an NVIDIA GPU; {calculates}",
            "install the CUDA build of PyTorch and a driver that is new enough for it (nvidia-smi shows it)",
        )
    else:
        yield Finding("device", Level.ok, f"{chosen}, {calculates}")


def _hub_cache() -> Path:
    return Path(HF_HUB_CACHE)


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
