"""Parquet files in folders by day, each row in exactly one of them.

Files are written where nobody reads. The commit is one small file per data set, its state: the new position
together with the names of the files that belong to it. After that they get those names; an export that is
killed in between is completed by the next one before anything else. So a file is seen with all its rows or
not at all, and what was written without a commit is removed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from reviewloop.export.places import FilePlace
from reviews.errors import ReviewLoopError
from reviews.export import DataSetName, ExportPosition

STATE_FOLDER = "_reviewloop"
"""Beside the data sets; readers of tables pass over folders with an underscore."""


class FolderState(BaseModel):
    """What is committed.

    Attributes:
        position: How far the data set is written.
        files: Those of the last commit, by their paths in the data set's folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    position: ExportPosition
    files: tuple[str, ...] = ()


class FolderTarget:
    """Parquet files in a place.

    Args:
        place: Where to.
    """

    files_a_commit = 20
    has_columns = False

    def __init__(self, place: FilePlace) -> None:
        self._place = place
        self._known: dict[DataSetName, FolderState | None] = {}

    def position(self, data_set: DataSetName) -> ExportPosition | None:
        """How far a data set is written, once the last commit is completed; None: it was never exported."""
        self._known[data_set] = state = self._state(data_set)
        self._publish(data_set, state.files if state is not None else ())
        self._place.clear(_incoming_folder(data_set))
        return state.position if state is not None else None

    @contextmanager
    def writing(self, data_set: DataSetName, path: str) -> Iterator[Any]:
        """A stream into a file that nobody reads yet."""
        with self._place.writing(_incoming(data_set, path)) as stream:
            yield stream

    def commit(self, data_set: DataSetName, files: Sequence[str], position: ExportPosition) -> None:
        """Make files a part of the data set, and move its position.

        Raises:
            ReviewLoopError: If another export moved it meanwhile, or the place cannot be written.
        """
        if self._state(data_set) != self._known[data_set]:
            raise ReviewLoopError(
                f"The {data_set} were exported by somebody else meanwhile: nothing was added to them."
            )
        state = FolderState(position=position, files=tuple(files))
        self._place.write(_state_file(data_set), state.model_dump_json().encode())
        self._known[data_set] = state
        self._publish(data_set, files)

    def _publish(self, data_set: DataSetName, files: Sequence[str]) -> None:
        for path in files:
            self._place.move(_incoming(data_set, path), f"{data_set}/{path}")

    def _state(self, data_set: DataSetName) -> FolderState | None:
        content = self._place.read(_state_file(data_set))
        if content is None:
            return None
        try:
            return FolderState.model_validate_json(content)
        except ValidationError as err:
            raise ReviewLoopError(
                f"The file {_state_file(data_set)} in the export's target is damaged, or of a later version: "
                "restore it, or export to a new target."
            ) from err


def _state_file(data_set: DataSetName) -> str:
    return f"{STATE_FOLDER}/{data_set}.json"


def _incoming_folder(data_set: DataSetName) -> str:
    return f"{STATE_FOLDER}/incoming-{data_set}"


def _incoming(data_set: DataSetName, path: str) -> str:
    return f"{_incoming_folder(data_set)}/{path.replace('/', '.')}"
