"""Where files are written: a folder of this machine, or one of an object store.

A file under a target's name is whole. It is written under another name first, which nobody reads: on a disk
it is then renamed, in an object store copied by the store itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import fsspec
import pyarrow as pa
from pyarrow import fs

from reviews.durable import move_file, replacing, write_file
from reviews.errors import ReviewLoopError, WrongUse

_HAVE_NO_FOLDERS = frozenset({"s3", "gcs", "abfs"})


class FilePlace(Protocol):
    """A folder; paths in it are relative, with slashes."""

    def writing(self, path: str) -> Any:
        """A context whose stream becomes a file; after an error there is none, or part of one."""

    def move(self, source: str, target: str) -> None:
        """Give a file another name, in the place of any that has it; nothing, where it was moved before."""

    def read(self, path: str) -> bytes | None:
        """What a file holds; None where there is none."""

    def write(self, path: str, content: bytes) -> None:
        """Replace a file as a whole."""

    def clear(self, folder: str) -> None:
        """Remove every file of a folder."""

    def remove(self, path: str) -> None:
        """Remove a file that is there."""

    def files(self, folder: str) -> list[str]:
        """The paths of all files below a folder, in order; none where there is none."""

    def reading(self, path: str) -> Any:
        """A context whose stream reads a file, from any place in it."""


def open_place(target: str) -> FilePlace:
    """The place that a setting names.

    Raises:
        WrongUse: If nothing here can write there.
    """
    scheme, separator, _ = target.partition("://")
    if not separator:
        return LocalPlace(Path(target).expanduser().absolute())
    with described(target):
        try:
            return StorePlace(target, *fs.FileSystem.from_uri(target))
        except (pa.ArrowInvalid, NotImplementedError):
            return StorePlace(target, *_by_fsspec(scheme, target))


def _by_fsspec(scheme: str, target: str) -> tuple[fs.FileSystem, str]:
    try:
        files, root = fsspec.core.url_to_fs(target)
    except (ImportError, ValueError) as err:
        raise WrongUse(
            f"Nothing here can write to {scheme}:// addresses: use a folder, s3:// or gs://, or install the "
            f"package of fsspec for it ({err})."
        ) from err
    return fs.PyFileSystem(fs.FSSpecHandler(files)), root


@contextmanager
def described(target: str) -> Iterator[None]:
    """Name the target in errors of its files.

    Raises:
        ReviewLoopError: If a file cannot be written or read.
    """
    try:
        yield
    except (OSError, pa.ArrowException) as err:
        why = getattr(err, "strerror", None) or str(err).partition("\n")[0] or type(err).__name__
        raise ReviewLoopError(
            f"The export's target {target} cannot be written or read: {why.rstrip('.')}. What was exported "
            "stays, and the next export goes on behind it."
        ) from err


class LocalPlace:
    """A folder of this machine, whose files are on the disk before they are named.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def writing(self, path: str) -> Iterator[Any]:
        """A stream into a file that appears when the block ends well."""
        with (
            described(str(self._root)),
            replacing(self._root / path) as staging,
            staging.open("wb") as stream,  # closed before it is renamed
        ):
            yield stream

    def move(self, source: str, target: str) -> None:
        """Rename a file."""
        with described(str(self._root)):
            if (self._root / source).exists():
                move_file(self._root / source, self._root / target)

    def read(self, path: str) -> bytes | None:
        """The content of a file, if it is there."""
        with described(str(self._root)):
            file = self._root / path
            return file.read_bytes() if file.exists() else None

    def write(self, path: str, content: bytes) -> None:
        """Replace a file by renaming."""
        with described(str(self._root)):
            write_file(self._root / path, content)

    def clear(self, folder: str) -> None:
        """Remove what killed exports left."""
        with described(str(self._root)):
            for file in (self._root / folder).glob("*"):
                file.unlink()

    def remove(self, path: str) -> None:
        """Remove a file."""
        with described(str(self._root)):
            (self._root / path).unlink()

    def files(self, folder: str) -> list[str]:
        """The files of a folder and those below it."""
        with described(str(self._root)):
            found = (self._root / folder).rglob("*")
            return sorted(one.relative_to(self._root).as_posix() for one in found if one.is_file())

    @contextmanager
    def reading(self, path: str) -> Iterator[Any]:
        """A stream from a file."""
        with described(str(self._root)), (self._root / path).open("rb") as stream:
            yield stream


class StorePlace:
    """A folder of an object store, where an object appears when all of it is there.

    Args:
        target: Its address, for errors.
        files: The file system.
        root: The folder's path in it.
    """

    def __init__(self, target: str, files: fs.FileSystem, root: str) -> None:
        self._target = target
        self._files = files
        self._root = PurePosixPath(root)
        self._makes_folders = files.type_name not in _HAVE_NO_FOLDERS

    @contextmanager
    def writing(self, path: str) -> Iterator[Any]:
        """A stream into an object; one that was begun may be there after an error."""
        with described(self._target), self._files.open_output_stream(self._path(path, make=True)) as stream:
            yield stream

    def move(self, source: str, target: str) -> None:
        """Copy an object within the store and remove it under its first name."""
        with described(self._target):
            if self._exists(source):
                self._files.move(self._path(source), self._path(target, make=True))

    def read(self, path: str) -> bytes | None:
        """The content of an object, if it is there."""
        with described(self._target):
            if not self._exists(path):
                return None
            with self._files.open_input_stream(self._path(path)) as stream:
                return bytes(stream.read())

    def write(self, path: str, content: bytes) -> None:
        """Put an object: readers see the one before or this one."""
        with described(self._target), self._files.open_output_stream(self._path(path, make=True)) as stream:
            stream.write(content)

    def clear(self, folder: str) -> None:
        """Remove what killed exports left."""
        selector = fs.FileSelector(self._path(folder), allow_not_found=True)
        with described(self._target):
            for found in self._files.get_file_info(selector):
                if found.type == fs.FileType.File:
                    self._files.delete_file(found.path)

    def remove(self, path: str) -> None:
        """Remove an object."""
        with described(self._target):
            self._files.delete_file(self._path(path))

    def files(self, folder: str) -> list[str]:
        """The objects of a folder and those below it."""
        selector = fs.FileSelector(self._path(folder), allow_not_found=True, recursive=True)
        with described(self._target):
            found = [one.path for one in self._files.get_file_info(selector) if one.type == fs.FileType.File]
        return sorted(str(PurePosixPath(one).relative_to(self._root)) for one in found)

    @contextmanager
    def reading(self, path: str) -> Iterator[Any]:
        """A stream from an object."""
        with described(self._target), self._files.open_input_file(self._path(path)) as stream:
            yield stream

    def _exists(self, path: str) -> bool:
        return bool(self._files.get_file_info(self._path(path)).type == fs.FileType.File)

    def _path(self, path: str, *, make: bool = False) -> str:
        full = self._root / path
        if make and self._makes_folders:
            self._files.create_dir(str(full.parent), recursive=True)
        return str(full)
