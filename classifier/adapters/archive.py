"""Adapter directories in a zip file from outside: read with bounds, into memory, and nothing else.

A zip file says of itself how large its entries are, where they go and what they are, and all of it may be a
lie. So entries are counted before they are read, each is read no further than its bound whatever it says,
and names count as names alone: nothing is ever written to a path.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import BinaryIO

from classifier.adapters.files import FileSource, refuse_pickles
from classifier.adapters.manifest import WEIGHTS, AdapterManifest, tensor_shapes, verified_files
from reviews.errors import AdapterError

MAX_ARCHIVE_BYTES = 256 * 1024**2
"""Of the zip file. A LoRA adapter has some megabytes; one with a large embedded head some hundred."""
MAX_UNPACKED_BYTES = 512 * 1024**2
MAX_ENTRIES = 64
_PIECE_BYTES = 1024**2
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED = 0x1
# The record at the end, and the one before it in files of more than 65,535 entries or 4 GB (APPNOTE 4.3.15).
_END_MARK, _END_BYTES, _LONGEST_COMMENT_BYTES = b"PK\x05\x06", 22, 65_535
_LOCATOR_MARK, _LOCATOR_BYTES = b"PK\x06\x07", 20
_MAX_TABLE_BYTES = 64 * 1024


def read_archive(file: BinaryIO, name: str, task: str) -> tuple[AdapterManifest, dict[str, bytes]]:
    """The verified manifest and the files of an adapter directory in a zip file.

    The files are at the top of the archive or together in one folder, as packing a folder makes it.

    Args:
        file: The zip file, which can be sought in.
        name: What to call it in an error.
        task: The task of a directory that names none.

    Raises:
        AdapterError: If it is no zip file, larger than the bounds, holds a file that would be unpickled, a
            path that leads outside, a link, or is no valid adapter.
    """
    try:
        _require_short_table(file, name)
        with zipfile.ZipFile(file) as archive:
            contents = _read(archive, _entries(archive, name), name)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, UnicodeDecodeError) as err:
        raise AdapterError(f"{name} is no readable zip file ({err}): pack the adapter again.") from err
    manifest, files = verified_files(FileSource(name, contents), task)
    tensor_shapes(files[WEIGHTS], where=f"{name}/{WEIGHTS}")  # a manifest vouches for bytes of any kind
    return manifest, files


def _require_short_table(file: BinaryIO, name: str) -> None:
    """Refuse a long table of entries before it is read: each of its entries becomes an object.

    The record at the end of the file is found as Python's own reader finds it.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _END_BYTES - _LONGEST_COMMENT_BYTES - _LOCATOR_BYTES))
    tail = file.read()
    is_last = tail[-_END_BYTES:].startswith(_END_MARK) and tail.endswith(b"\0\0")
    place = len(tail) - _END_BYTES if is_last else tail.rfind(_END_MARK)
    record = tail[place : place + _END_BYTES] if place >= 0 else b""
    if len(record) < _END_BYTES:
        raise zipfile.BadZipFile("its end is missing")
    (table_bytes,) = struct.unpack_from("<L", record, 12)
    locator = tail[max(0, place - _LOCATOR_BYTES) : place]
    if table_bytes > _MAX_TABLE_BYTES or locator.startswith(_LOCATOR_MARK):
        raise AdapterError(f"{name} holds too many entries; an adapter has {MAX_ENTRIES} at most.")


def _entries(archive: zipfile.ZipFile, name: str) -> dict[str, zipfile.ZipInfo]:
    """The files by their plain name, once nothing in the archive's own table speaks against it."""
    files = [entry for entry in archive.infolist() if not entry.is_dir()]
    if (count := len(archive.infolist())) > MAX_ENTRIES:
        raise AdapterError(f"{name} holds {count:,} entries; an adapter has {MAX_ENTRIES} at most.")
    for entry in files:
        _require_harmless(entry, name)
    said = sum(entry.file_size for entry in files)
    if said > MAX_UNPACKED_BYTES:
        raise AdapterError(
            f"{name} unpacks to {said:,} bytes; an adapter has {MAX_UNPACKED_BYTES:,} at most."
        )
    folders = {PurePosixPath(entry.filename).parent for entry in files}
    if len(folders) > 1:
        raise AdapterError(
            f"{name} holds files in several folders ({', '.join(sorted(map(str, folders))[:3])}): pack the "
            "files of one adapter directory."
        )
    named = {PurePosixPath(entry.filename).name: entry for entry in files}
    if len(named) < len(files):
        raise AdapterError(f"{name} holds two files of one name: pack the adapter directory again.")
    refuse_pickles(name, named)
    return named


def _require_harmless(entry: zipfile.ZipInfo, name: str) -> None:
    path, shown = PurePosixPath(entry.filename), entry.filename[:80]
    if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or ":" in entry.filename:
        raise AdapterError(f"{name} holds {shown!r}, a path that leads outside: pack the files alone.")
    if (entry.external_attr >> 16) & 0o170000 == 0o120000:
        raise AdapterError(f"{name} holds the link {shown!r}: pack the files themselves.")
    if entry.flag_bits & _ENCRYPTED:
        raise AdapterError(f"{name} is encrypted: pack the adapter directory without a password.")
    if entry.compress_type not in _METHODS:
        raise AdapterError(f"{name} compresses {shown!r} in a rare way: pack it with deflate, as zip does.")


def _read(archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], name: str) -> dict[str, bytes]:
    """The contents, no further than the bound, whatever the archive says of their size."""
    left = MAX_UNPACKED_BYTES
    contents: dict[str, bytes] = {}
    for file_name, entry in entries.items():
        pieces = []
        with archive.open(entry) as stream:
            while piece := stream.read(_PIECE_BYTES):
                left -= len(piece)
                if left < 0:
                    raise AdapterError(f"{name} unpacks to more than {MAX_UNPACKED_BYTES:,} bytes.")
                pieces.append(piece)
        contents[file_name] = b"".join(pieces)
    return contents
