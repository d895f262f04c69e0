"""A process group that trains one adapter, started by torchrun or ``accelerate launch``.

Every process holds the whole model and takes its share of each batch; gradients are averaged by PyTorch's
DistributedDataParallel. Batches and their order are those of one process.
"""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import torch


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """This process among those that fit together.

    Attributes:
        rank: Which one this is, from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def share(self, batch: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Every ``size``-th row of a batch, from this process's own on; shares are disjoint and complete."""
        return batch[self.rank :: self.size]

    def wrap(self, model: Any) -> Any:
        """The model whose backward pass averages gradients over the processes."""
        if self.size == 1:
            return model
        return torch.nn.parallel.DistributedDataParallel(model)

    def of_first(self, value: float) -> float:
        """The first process's value, the same for each."""
        return float(self.total(np.array([value if self.is_first else 0.0]))[0])

    def total(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The sum of the processes' arrays, the same array for each."""
        if self.size == 1:
            return values
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        tensor = torch.from_numpy(values).to(device)
        torch.distributed.all_reduce(tensor)
        return np.asarray(tensor.cpu().numpy())


def join_process_group(device_type: str, patience: timedelta | None = None) -> ProcessGroup:
    """This process's place in the group that its environment names; alone where it names none.

    Args:
        device_type: ``cuda``, or any other.
        patience: How long a process waits for the others; None: as long as PyTorch lets it.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ProcessGroup()
    backend = "nccl" if device_type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, timeout=patience)
    return ProcessGroup(torch.distributed.get_rank(), size)


def leave_process_group(group: ProcessGroup) -> None:
    """Wait for the other processes, then leave."""
    if group.size > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process among those of its machine; any other device as it is."""
    if str(device) == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device
