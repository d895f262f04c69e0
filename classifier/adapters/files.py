"""Reads and writes the files of an adapter, bounded and atomic. Imports no torch."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from reviews import durable
from reviews.errors import AdapterError

# Formats whose loading runs code from the file.
_PICKLED = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".msgpack", ".h5"}
MAX_FILE_BYTES = 2 * 1024**3


class FileSource:
    """The files of one adapter, in a directory or in memory.

    Args:
        where: What to call them in an error.
        files: Their contents by name; a path is read when asked for, and once.
    """

    def __init__(self, where: str, files: Mapping[str, bytes | Path]) -> None:
        self.where = where
        self._files: dict[str, bytes | Path] = dict(files)
        refuse_pickles(where, self._files)

    def names(self) -> Iterable[str]:
        """The names of the files."""
        return self._files.keys()

    def read(self, name: str) -> bytes:
        """The content of one file.

        Raises:
            AdapterError: If it cannot be read or is too large.
        """
        content = self._files[name]
        if isinstance(content, Path):
            content = _read(content)
            self._files[name] = content
        return content


def sha256_hex(content: bytes) -> str:
    """The SHA-256 of some bytes, as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def read_directory(directory: Path) -> FileSource:
    """The files of an adapter directory, without its sub-directories.

    Raises:
        AdapterError: If there is no such directory, or it holds a file that would be unpickled.
    """
    if not directory.is_dir():
        raise AdapterError(f"{directory} is not a directory; name one that holds an adapter.")
    return FileSource(str(directory), {path.name: path for path in directory.iterdir() if path.is_file()})


def write_directory(files: Mapping[str, bytes], root: Path, name: str) -> Path:
    """A directory ``root/name`` with these files: after a crash it is there and whole, or not there.

    An existing directory of that name is left as it is.

    Raises:
        AdapterError: If a name would leave the directory, or the disk refuses.
    """
    for file_name in files:
        if not file_name or file_name != Path(file_name).name or file_name.startswith("."):
            raise AdapterError(f"An adapter cannot hold a file named {file_name!r}.")
    target = root / name
    try:
        durable.create_directory(target, files)
    except OSError as err:
        raise AdapterError(f"{target} cannot be written: {err.strerror or err}.") from err
    return target


def remove_damaged(directory: Path) -> None:
    """Remove a damaged directory: its name is free at once, and readers keep the files that they have open.

    Raises:
        AdapterError: If the disk refuses.
    """
    try:
        durable.remove_directory(directory)
    except OSError as err:
        raise AdapterError(f"{directory} is damaged and cannot be removed: {err.strerror or err}.") from err


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise AdapterError(
                f"{path} is larger than {MAX_FILE_BYTES:,} bytes; an adapter holds no whole model."
            )
        return path.read_bytes()
    except OSError as err:
        raise AdapterError(f"{path} cannot be read: {err.strerror or err}.") from err


def refuse_pickles(where: str, names: Iterable[str]) -> None:
    """Refuse files of a format whose loading runs code.

    Raises:
        AdapterError: Names the file.
    """
    for name in sorted(names):
        if Path(name).suffix.lower() in _PICKLED:
            raise AdapterError(
                f"{where} holds {name}, a format that can run code when it is loaded; "
                "save the adapter as safetensors and remove that file."
            )
