"""Parquet files in folders by day, each row in exactly one of them.

Files are written where nobody reads. The commit is one small file per data set, its state: the new position
together with the names of the files that belong to it. After that they get those names; an export that is
killed in between is completed by the next one before anything else. So a file is seen with all its rows or
not at all, and what was written without a commit is removed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from typing import Any, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from reviewloop.export.places import FilePlace
from reviews.errors import ReviewLoopError
from reviews.export import DataSetName, ExportPosition

STATE_FOLDER = "_reviewloop"
"""Beside the data sets; readers of tables pass over folders with an underscore."""
_APPLIED = f"{STATE_FOLDER}/erasures.json"

StateT = TypeVar("StateT", bound=BaseModel)


class FolderState(BaseModel):
    """What is committed.

    Attributes:
        position: How far the data set is written.
        files: Those of the last commit, by their paths in the data set's folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    position: ExportPosition
    files: tuple[str, ...] = ()


class AppliedErasures(BaseModel):
    """Which erasures the files of a target have had.

    Attributes:
        version: Of this form.
        erasures: By when they were asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    erasures: frozenset[AwareDatetime] = frozenset()


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

    def has(self, data_set: DataSetName) -> bool:
        """Whether there may be files of a data set."""
        return any(self._place.files(one) for one in (data_set, _incoming_folder(data_set)))

    def applied(self) -> frozenset[datetime]:
        """The erasures that the files have had."""
        return applied_erasures(self._place)

    def set_applied(self, erasures: frozenset[datetime]) -> None:
        """Remember them."""
        set_applied_erasures(self._place, erasures)

    def days(self, data_set: DataSetName) -> Iterator[tuple[str, list[str]]]:
        """The files of each day, by their paths in the data set's folder."""
        paths = [path.removeprefix(f"{data_set}/") for path in self._place.files(data_set)]
        files = [path for path in paths if path.endswith(".parquet")]
        for day, those in groupby(files, key=lambda path: path.partition("/")[0]):
            yield day, list(those)

    def reading(self, data_set: DataSetName, path: str) -> Any:
        """A stream from a file."""
        return self._place.reading(f"{data_set}/{path}")

    def rewriting(self, data_set: DataSetName, path: str) -> Any:
        """A stream into a file that nobody reads yet."""
        return self._place.writing(_incoming(data_set, path))

    def replace(self, data_set: DataSetName, path: str) -> None:
        """Put what was written in the place of a file: the commit of the same position once more."""
        state = self._known[data_set]
        if state is None:
            raise ReviewLoopError(f"The {data_set} in the target were written by no export: {path} was left.")
        self.commit(data_set, [path], state.position)

    def purge(self, data_set: DataSetName) -> None:
        """Nothing: a file that takes the place of another leaves nothing of it."""

    def _publish(self, data_set: DataSetName, files: Sequence[str]) -> None:
        for path in files:
            self._place.move(_incoming(data_set, path), f"{data_set}/{path}")

    def _state(self, data_set: DataSetName) -> FolderState | None:
        return _read(self._place, _state_file(data_set), FolderState)


def applied_erasures(place: FilePlace) -> frozenset[datetime]:
    """The erasures that the files of a place have had, by when they were asked for."""
    state = _read(place, _APPLIED, AppliedErasures)
    return frozenset() if state is None else state.erasures


def set_applied_erasures(place: FilePlace, erasures: frozenset[datetime]) -> None:
    """Remember them."""
    place.write(_APPLIED, AppliedErasures(erasures=erasures).model_dump_json().encode())


def _read(place: FilePlace, path: str, form: type[StateT]) -> StateT | None:
    content = place.read(path)
    if content is None:
        return None
    try:
        return form.model_validate_json(content)
    except ValidationError as err:
        raise ReviewLoopError(
            f"The file {path} in the export's target is damaged, or of a later version: "
            "restore it, or export to a new target."
        ) from err


def _state_file(data_set: DataSetName) -> str:
    return f"{STATE_FOLDER}/{data_set}.json"


def _incoming_folder(data_set: DataSetName) -> str:
    return f"{STATE_FOLDER}/incoming-{data_set}"


def _incoming(data_set: DataSetName, path: str) -> str:
    return f"{_incoming_folder(data_set)}/{path.replace('/', '.')}"
