"""What a run took: time, memory, bytes on disk."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from classifier.devices import choose_device, describe_dtype
from classifier.settings import ClassifierSettings


@dataclass(frozen=True, slots=True)
class Resources:
    """What a run took.

    Attributes:
        device: Where it ran.
        seconds: From start to end, loading included.
        fit_seconds: Of these, the optimiser's steps and the validations.
        peak_memory_bytes: The most that the process held, over its whole life.
        peak_gpu_bytes: The most that PyTorch held on the GPU; None without one.
        trainable_parameters: Numbers that were fitted.
        parameters: Numbers in the model.
        saved_bytes: Size of the saved weights and their configuration.
        base_bytes: Size of the base's weights.
    """

    device: str
    seconds: float
    fit_seconds: float
    peak_memory_bytes: int
    peak_gpu_bytes: int | None
    trainable_parameters: int
    parameters: int
    saved_bytes: int
    base_bytes: int


def peak_memory_bytes() -> int:
    """The most memory that this process has held."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def peak_gpu_bytes(device: Any) -> int | None:
    """The most that PyTorch has held on that GPU since the run began; None for another device."""
    import torch

    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None


def describe_device(settings: ClassifierSettings) -> str:
    """The device that these settings choose, its number format, and a GPU's name and free memory.

    Raises:
        ModelError: If the device is not there.
    """
    import torch

    device = choose_device(settings.device)
    number_format, reason = describe_dtype(settings.precision, device)
    said = f"{device}, {number_format}, as {reason}"
    if device.type != "cuda":
        return said
    free, total = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    return f"{said}, {name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"


def weights_bytes(directory: Path) -> int:
    """Size of a base model's weights."""
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))
