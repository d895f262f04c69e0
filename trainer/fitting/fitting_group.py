"""Several processes that fit the candidates of a run together, started by torchrun.

The first process does the run: it alone holds the lease, the database and the registry. The others wait for
its fits, take part in each, and end with it. What a fit needs is sent to them, so that they may be on other
machines: rows, settings, and the files of the adapter that it continues from.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import structlog
import torch
from pydantic import BaseModel, ConfigDict

from classifier.adapters.manifest import read_files
from classifier.adapters.store import write_files
from classifier.base_model import locate
from classifier.devices import choose_device
from reviews.errors import AdapterError, ModelError, ReviewLoopError, WrongUse
from trainer.errors import TrainingStopped
from trainer.fitting.features import KeptFeatures
from trainer.fitting.fit import fit
from trainer.fitting.fit_data import FitRequest, Outcome, Report
from trainer.fitting.process_group import ProcessGroup, join_process_group

log = structlog.get_logger()

_PATIENCE = timedelta(days=2)
"""The others wait while the first process collects labels, judges and promotes."""
_MET_BY_ALL = (TrainingStopped, ModelError, WrongUse)
"""Errors that every process meets at the same step of a fit."""


class _Task(BaseModel):
    """A fit as it is sent, as JSON: nothing is unpickled."""

    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")

    request: FitRequest
    parent: dict[str, bytes] | None


class FittingGroup:
    """The processes of a run.

    Args:
        group: This process among them.
        control: A group of PyTorch on CPUs, by which they talk about fits.
    """

    def __init__(self, group: ProcessGroup, control: torch.distributed.ProcessGroup) -> None:
        self._group = group
        self._control = control
        self._is_broken = False

    @property
    def is_first(self) -> bool:
        """Whether this process does the run."""
        return self._group.is_first

    def fit(
        self, request: FitRequest, report: Report, *, features: KeptFeatures | None = None
    ) -> Outcome | None:
        """A fit by all processes: the first one calls it as it would call :func:`trainer.fitting.fit.fit`.

        Raises:
            ModelError: If a process does not have the base model.
            ReviewLoopError: As a fit does; and where an earlier fit was given up by the first process alone.
        """
        if self._is_broken:
            raise ReviewLoopError("The other processes are in a fit that was given up: start the run again.")
        parent = request.continues_from
        files = None if parent is None else read_files(parent, request.classifier.task)[1]
        self._send(_Task(request=request, parent=files))
        self._require_bases(request)
        try:
            return fit(request, report, group=self._group, features=features)
        except (*_MET_BY_ALL, AdapterError):  # the last one comes when the others are done
            raise
        except BaseException:
            self._is_broken = True
            raise

    def follow(self) -> None:
        """Take part in every fit, until the first process is done; the others call it.

        Raises:
            ReviewLoopError: If the first process ended in a fit.
        """
        while (task := self._receive()) is not None:
            with tempfile.TemporaryDirectory(prefix="reviewloop-fit-") as folder:
                request = task.request
                if task.parent is not None:
                    parent = write_files(task.parent, Path(folder), request.classifier.task)
                    request = replace(request, continues_from=parent)
                try:
                    self._require_bases(request)
                    fit(request, lambda _: None, group=self._group)
                except _MET_BY_ALL as err:
                    log.info("fit_ended", error=str(err))
                except RuntimeError as err:
                    raise ReviewLoopError("The first process of the group gave the fit up.") from err

    def end(self) -> None:
        """Let the others end; those in a fit that was given up end when this process does."""
        if self._group.is_first and not self._is_broken:
            with suppress(RuntimeError):  # they are gone already
                self._send(None)

    def _require_bases(self, request: FitRequest) -> None:
        """Refuse a fit together where one process could not begin it, and the others would wait for it."""
        failed = torch.zeros(self._group.size, dtype=torch.int64)
        try:
            locate(request.classifier.base_model, request.classifier.base_revision)
        except ReviewLoopError as err:
            failed[self._group.rank] = 1
            log.warning("base_model_missing", rank=self._group.rank, error=str(err))
        torch.distributed.all_reduce(failed, group=self._control)
        if failed.any():
            ranks = ", ".join(str(rank) for rank in failed.nonzero().flatten().tolist())
            raise ModelError(f"Processes without the base model: {ranks}. Their logs say why.")

    def _send(self, task: _Task | None) -> None:
        """Send a fit, or nothing, which ends the others."""
        content = b"" if task is None else task.model_dump_json().encode()
        torch.distributed.broadcast(torch.tensor([len(content)]), src=0, group=self._control)
        if content:
            sent = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            torch.distributed.broadcast(sent, src=0, group=self._control)

    def _receive(self) -> _Task | None:
        size = torch.zeros(1, dtype=torch.int64)
        torch.distributed.broadcast(size, src=0, group=self._control)
        if not size.item():
            return None
        content = torch.zeros(int(size.item()), dtype=torch.uint8)
        torch.distributed.broadcast(content, src=0, group=self._control)
        return _Task.model_validate_json(content.numpy().tobytes())


@contextmanager
def open_fitting_group(device: str) -> Iterator[FittingGroup]:
    """The processes that the environment names, for as long as the block runs.

    Args:
        device: The setting ``classifier.device``.

    Raises:
        WrongUse: If there is no such device.
    """
    group = join_process_group(choose_device(device).type, _PATIENCE)
    control = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
    made = FittingGroup(group, control)
    try:
        yield made
    finally:
        made.end()
        torch.distributed.destroy_process_group()
