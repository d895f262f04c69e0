"""Chooses device and number format by what the hardware computes fast, with the reason."""

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from classifier.settings import Precision
from reviews.errors import ModelError

if TYPE_CHECKING:
    import torch

_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))  # NVIDIA, AMD, either on WSL


@dataclass(frozen=True, slots=True)
class Execution:
    """What a classifier calculates with, and why.

    Attributes:
        engine: ``packed`` or ``general``.
        engine_reason: Why this engine.
        device: Such as ``cpu`` or ``cuda:1``.
        number_format: Of the matrices: ``fp32``, ``bf16``, ``fp16`` or ``int8``.
        format_reason: Why this format.
    """

    engine: str
    engine_reason: str
    device: str
    number_format: str
    format_reason: str


def choose_device(wanted: str = "auto") -> "torch.device":
    """The device to run on: CUDA before MPS before the CPU, unless one is named.

    Raises:
        ModelError: If the named device is unknown or not there.
    """
    import torch

    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as err:
        raise ModelError(f"There is no device {wanted!r}; use auto, cpu, mps, cuda or cuda:N.") from err
    there = {"cpu": True, "mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available()}
    if not there.get(device.type, False) or (
        device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    ):
        raise ModelError(f"The device {wanted} is not available on this machine; use auto or cpu.")
    return device


def count_cuda_devices() -> int:
    """How many GPUs PyTorch sees; without a driver the answer is 0 before PyTorch is imported."""
    if not any(driver.exists() for driver in _DRIVERS):
        return 0
    import torch

    return torch.cuda.device_count()


def choose_dtype(precision: Precision, device: "torch.device") -> "torch.dtype":
    """The number format for the matrices: bf16 where the hardware multiplies it, fp32 elsewhere.

    With int8 it is that of what is not in int8.

    Raises:
        ModelError: If fp16 is asked of a CPU, which would compute it slowly and badly, or int8 of a GPU.
    """
    import torch

    if precision == "fp32":
        return torch.float32
    if precision == "bf16":
        return torch.bfloat16
    if precision == "int8":
        if device.type != "cpu":
            raise ModelError(f"int8 is for processors, not for {device.type}; use bf16, fp32 or auto.")
        return torch.bfloat16 if multiplies_bf16(device) else torch.float32
    if precision == "fp16":
        if device.type == "cpu":
            raise ModelError("fp16 is slow and inexact on a CPU; use bf16, fp32 or auto.")
        return torch.float16
    return torch.bfloat16 if multiplies_bf16(device) else torch.float32


def describe_dtype(precision: Precision, device: "torch.device") -> tuple[str, str]:
    """The number format that :func:`choose_dtype` chooses, and why: ``("fp32", "classifier.precision …")``.

    Raises:
        ModelError: If fp16 is asked of a CPU.
    """
    name = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}[
        str(choose_dtype(precision, device)).removeprefix("torch.")
    ]
    if precision != "auto":
        return name, "classifier.precision asks for it"
    return name, why_format(device.type, is_bf16=name == "bf16")


def why_format(device_type: str, *, is_bf16: bool) -> str:
    """Why matrices are bf16, or not, where nobody asked for a format: the end of a sentence."""
    if is_bf16:
        return "this machine has matrix instructions for bf16"
    return {
        "cpu": "this processor has no matrix instructions for bf16 (AVX-512 BF16, AMX, Arm BF16)",
        "cuda": "this GPU has no matrix instructions for bf16 (NVIDIA has them from Ampere on)",
    }.get(device_type, f"bf16 is not known to be faster on {device_type}")


def multiplies_bf16(device: "torch.device") -> bool:
    """Whether the device has matrix instructions for bf16 (AVX-512 BF16 or AMX; NVIDIA from Ampere on)."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))


_FLAGS = (
    "avx2", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
    "arm_bf16", "arm_i8mm", "bf16", "i8mm",
)  # fmt: skip


def describe_processor() -> str:
    """This machine's processor, its instructions for matrices, the threads and PyTorch's version."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    flags = ", ".join(name for name in _FLAGS if capabilities.get(name, False)) or "no matrix instructions"
    kernels = torch.backends.cpu.get_cpu_capability()
    name = capabilities.get("cpu_name") or platform.processor() or platform.machine()
    threads = f"{torch.get_num_threads()} thread(s), torch {torch.__version__}"
    return f"{name} ({flags}; kernels for {kernels}), {threads}"
