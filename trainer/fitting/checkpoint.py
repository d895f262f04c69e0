"""Checkpoints: the state of an unfinished run in one file, written atomically."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file

from reviews.durable import replacing
from reviews.errors import WrongUse
from trainer.errors import TrainingStopped
from trainer.fitting.fit_data import Position


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a run keeps its state.

    Attributes:
        path: The file.
        fingerprint: Names the run: recipe, data, base. Another run's checkpoint is refused.
    """

    path: Path
    fingerprint: str

    def save(self, position: Position, tensors: Mapping[str, torch.Tensor]) -> None:
        """Put the state in the place of the one before.

        Raises:
            TrainingStopped: If the disk refuses; the checkpoint before is still there.
        """
        # JSON keeps every bit of a float.
        about = {"position": json.dumps(asdict(position)), "fingerprint": self.fingerprint}
        try:
            with replacing(self.path) as staging:
                save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, staging, about)
        except (OSError, safetensors.SafetensorError) as err:
            reason = getattr(err, "strerror", None) or err
            raise TrainingStopped(
                f"The checkpoint {self.path} cannot be written: {reason}. Make room, then --resume."
            ) from err

    def load(self) -> tuple[Position, dict[str, torch.Tensor]] | None:
        """The state that was saved last; None where there is none yet.

        Raises:
            WrongUse: If it belongs to another run.
            TrainingStopped: If it cannot be read.
        """
        if not self.path.is_file():
            return None
        try:
            with safetensors.safe_open(self.path, "pt") as file:
                about: dict[str, Any] = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 — no dict
        except (OSError, safetensors.SafetensorError) as err:
            raise TrainingStopped(
                f"The checkpoint {self.path} cannot be read ({err}); remove it to start anew."
            ) from err
        if about["fingerprint"] != self.fingerprint:
            raise WrongUse(
                f"The checkpoint {self.path} belongs to a run with another recipe, other data or another "
                "base; repeat that run's options, or start anew with --overwrite."
            )
        saved = json.loads(about["position"])
        return Position(**{**saved, "losses": tuple(saved["losses"])}), tensors

    def remove(self) -> None:
        """Forget the state: the run is finished, or starts anew."""
        self.path.unlink(missing_ok=True)
