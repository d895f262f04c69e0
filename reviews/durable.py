"""Durable writes: after a crash a file or directory has the new content or the old one."""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path


def write_file(path: Path, content: bytes, *, secret: bool = False) -> None:
    """Replace the file `path`; folders on the way are made.

    Args:
        path: The file.
        content: All of it.
        secret: Whether only its owner may read it.

    Raises:
        OSError: If the disk refuses; the file is as it was before.
    """
    with replacing(path) as staging:
        _write(staging, content, 0o600 if secret else 0o666)


def create_directory(path: Path, files: Mapping[str, bytes]) -> None:
    """Make the directory `path`; one that exists, or that another process makes meanwhile, is left as it is.

    Args:
        path: The directory.
        files: Contents by their path inside it.

    Raises:
        OSError: If the disk refuses; there is no directory then.
    """
    if path.is_dir():
        return
    with _staged(path) as staging:
        _fill(staging, files)
        try:
            staging.rename(path)
        except OSError:
            if not path.is_dir():
                raise


def replace_directory(path: Path, files: Mapping[str, bytes]) -> None:
    """Make `path` a directory with exactly these files.

    Args:
        path: The directory.
        files: Contents by their path inside it.

    Raises:
        OSError: If the disk refuses; the directory is as it was before.
    """
    with replacing(path) as staging:
        _fill(staging, files)


def remove_directory(path: Path) -> None:
    """Remove a directory: its name is free at once, and readers keep the files that they have open.

    Raises:
        OSError: If it cannot be renamed; it is complete then.
    """
    shutil.rmtree(path.rename(_beside(path)), ignore_errors=True)


def move_file(source: Path, target: Path) -> None:
    """Give a file another name, in the place of any file that has it; folders on the way are made.

    Raises:
        OSError: If the disk refuses; the file has its old name then.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    _sync_directory(target.parent)
    _sync_directory(source.parent)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new name beside `path`; the file or directory written there takes its place when the block ends.

    It is on the disk before it is renamed, and the rename is on the disk before this returns.

    Raises:
        OSError: If the disk refuses; what `path` names is as it was before.
    """
    with _staged(path) as staging:
        yield staging
        if staging.is_file():
            with staging.open("r+b") as file:
                os.fsync(file.fileno())
            staging.replace(path)
        else:
            _exchange(staging, path)


@contextmanager
def _staged(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = _beside(path)
    try:
        yield staging
        _sync_directory(path.parent)
    finally:
        _discard(staging)


def _exchange(staging: Path, path: Path) -> None:
    """A directory is not renamed onto another one, so the old one gets out of the way first."""
    old = _beside(path)
    try:
        if path.exists():
            path.rename(old)
        staging.rename(path)
    except OSError:
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    finally:
        _discard(old)


def _fill(directory: Path, files: Mapping[str, bytes]) -> None:
    folders = {directory}
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        folders.add((directory / name).parent)
        _write(directory / name, content, 0o666)
    directory.mkdir(exist_ok=True)
    for folder in folders:
        _sync_directory(folder)


def _write(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    if os.name == "nt":  # Windows cannot open a directory, and needs no sync of one
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def _discard(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
