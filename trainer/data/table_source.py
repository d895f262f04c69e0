"""Opens a table: a file or standard input, decompressed, and text decoded to UTF-8."""

import codecs
import gzip
import io
import re
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from reviews.errors import WrongUse

STANDARD_INPUT = Path("-")
_CHUNK_BYTES = 256 * 1024
GZIP_MAGIC, _PARQUET, _ZIP = b"\x1f\x8b", b"PAR1", b"PK\x03\x04"
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_OTHER_PACKERS = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    GZIP_MAGIC: "gzip, twice",
}
_ESCAPED = re.compile("[\udc80-\udcff]")
_NOT_WINDOWS = frozenset("\udc81\udc8d\udc8f\udc90\udc9d")  # bytes that Windows-1252 leaves undefined


class Kind(StrEnum):
    """Formats of tables.

    JSON is lines or one array, by its first character; ``lines`` are texts, one a line, without a header.
    """

    csv = "csv"
    json = "json"
    jsonl = "jsonl"
    parquet = "parquet"
    lines = "lines"


_KINDS = {
    ".csv": Kind.csv,
    ".tsv": Kind.csv,
    ".json": Kind.json,
    ".jsonl": Kind.jsonl,
    ".ndjson": Kind.jsonl,
    ".parquet": Kind.parquet,
    ".pq": Kind.parquet,
}


@dataclass(frozen=True, slots=True)
class Form:
    """How a file is to be read; what is None is found out.

    Attributes:
        kind: Its format.
        encoding: Of its text.
        delimiter: Between two cells of a CSV, one character.
    """

    kind: Kind | None = None
    encoding: str | None = None
    delimiter: str | None = None


AS_FOUND = Form()
"""Everything is found out."""


class TableSource(NamedTuple):
    """The content of a table, ready to be parsed.

    Attributes:
        name: Of the file, for messages.
        kind: Which parser it needs.
        stream: Its bytes; text is UTF-8 without a byte order mark.
        encoding: What it was before; empty for Parquet.
        path: The file where it has the same bytes.
        may_be_broken: Whether rows have to be looked at for bytes that are not UTF-8.
    """

    name: str
    kind: Kind
    stream: BinaryIO
    encoding: str
    path: Path | None
    may_be_broken: bool = False


@contextmanager
def open_source(file: Path, form: Form) -> Iterator[TableSource]:
    """Open a file, or standard input for ``-``.

    A format that is not declared follows from the file's ending, else from its first bytes;
    an encoding by a byte order mark, else it is UTF-8, or Windows-1252 where more bytes are no UTF-8 than
    there are characters beyond ASCII that are (in the whole of a file, in the beginning of a pipe).

    Args:
        file: Which; gzip is unpacked.
        form: What is declared.

    Raises:
        WrongUse: If it cannot be opened, or the encoding is unknown.
    """
    if form.encoding is not None:
        _check_encoding(form.encoding)
    with ExitStack() as opened:
        try:
            source = _source(file, form, opened)
        except (OSError, EOFError, zlib.error) as err:
            raise unreadable(name_of(file), err) from err
        yield source


def name_of(file: Path) -> str:
    """What messages call it."""
    return "standard input" if file == STANDARD_INPUT else str(file)


def unreadable(name: str, err: Exception) -> WrongUse:
    """What to tell where the bytes do not come."""
    return WrongUse(f"{name} cannot be read: {getattr(err, 'strerror', None) or err}.")


def _source(file: Path, form: Form, opened: ExitStack) -> TableSource:
    name = name_of(file)
    if file == STANDARD_INPUT:
        raw, can_rewind = cast("BinaryIO", sys.stdin.buffer), False
    else:
        raw = cast("BinaryIO", opened.enter_context(file.open("rb")))
        can_rewind = stat.S_ISREG(file.stat().st_mode)
    head, stream = _peek(raw, can_rewind=can_rewind)
    is_packed = head.startswith(GZIP_MAGIC) or (bool(head) and file.suffix.lower() == ".gz")
    if is_packed:
        packed = opened.enter_context(gzip.GzipFile(fileobj=stream))
        head, stream = _peek(cast("BinaryIO", packed), can_rewind=can_rewind)
    for magic, packer in _OTHER_PACKERS.items():
        if head.startswith(magic):
            raise WrongUse(f"{name} is packed by {packer}: unpack it, or pack it by gzip (once).")
    kind = form.kind or kind_of_name(file) or _kind_of_content(name, head)
    if kind is Kind.parquet:
        return TableSource(name, kind, stream, "", file if can_rewind and not is_packed else None)
    if form.encoding is None:
        encoding, is_sound = _encoding(stream, head, can_rewind=can_rewind)
    else:
        encoding, is_sound = form.encoding, False
    return TableSource(
        name, kind, _as_utf8(stream, head, encoding), encoding, None, may_be_broken=not is_sound
    )


def kind_of_name(file: Path) -> Kind | None:
    """The format that the ending of a file's name tells, ``.gz`` or not, in small letters or capitals."""
    endings = [ending.lower() for ending in file.suffixes if ending.lower() != ".gz"]
    return _KINDS.get(endings[-1]) if endings else None


@contextmanager
def as_file(source: TableSource) -> Iterator[Path]:
    """The content as a file: Parquet is read from its end, and its bytes never through Python."""
    if source.path is not None:
        yield source.path
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "content"
        with path.open("wb") as copy:
            shutil.copyfileobj(source.stream, copy, _CHUNK_BYTES)
        yield path


class _Continued(io.RawIOBase):
    """A stream of which the beginning was read already; what comes is handed on as soon as it is there."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head = head
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader hands over
        part = self._head[: len(buffer)]
        if part:
            self._head = self._head[len(part) :]
        else:
            part = _some(self._stream, len(buffer))
        buffer[: len(part)] = part
        return len(part)


class _AsUtf8(io.RawIOBase):
    """Text of another encoding, as UTF-8."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder(encoding)().decode
        self._ready = b""
        self._is_new, self._is_whole = True, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # as above
        while not self._ready and not self._is_whole:
            part = _some(self._stream, _CHUNK_BYTES)
            self._is_whole = not part
            text = self._decode(part, final=self._is_whole)
            self._ready = (text.removeprefix("\ufeff") if self._is_new else text).encode()
            self._is_new = self._is_new and not text
        part = self._ready[: len(buffer)]
        self._ready = self._ready[len(part) :]
        buffer[: len(part)] = part
        return len(part)


def _some(stream: BinaryIO, most: int) -> bytes:
    """What is there, without waiting for more; nothing at the end."""
    return cast("io.BufferedReader", stream).read1(most)


def _peek(stream: BinaryIO, *, can_rewind: bool) -> tuple[bytes, BinaryIO]:
    """The beginning, and the stream with its beginning."""
    head = _some(stream, _CHUNK_BYTES)
    if can_rewind:
        stream.seek(0)
        return head, stream
    return head, cast("BinaryIO", io.BufferedReader(_Continued(head, stream)))


def _kind_of_content(name: str, head: bytes) -> Kind:
    if head.startswith(_PARQUET):
        return Kind.parquet
    if head.startswith(_ZIP):
        raise WrongUse(f"{name} is a ZIP file or a workbook: save the sheet as CSV.")
    return Kind.jsonl if _without_mark(head).lstrip()[:1] in (b"{", b"[") else Kind.csv


def _without_mark(head: bytes) -> bytes:
    """The beginning with the bytes of a mark and of UTF-16 left out."""
    return head.replace(b"\x00", b"").lstrip(b"\xef\xbb\xbf\xff\xfe")


def _check_encoding(encoding: str) -> None:
    try:
        codecs.getincrementaldecoder(encoding)().decode(b"")
        is_text = isinstance("".encode(encoding), bytes)
    except (LookupError, TypeError, ValueError):
        is_text = False
    if not is_text:
        raise WrongUse(f"There is no encoding '{encoding}': name one such as utf-8, utf-16 or windows-1252.")


def _encoding(stream: BinaryIO, head: bytes, *, can_rewind: bool) -> tuple[str, bool]:
    """The likeliest encoding, and whether all of the text is known to be in it."""
    marked = [encoding for mark, encoding in _MARKS.items() if head.startswith(mark)]
    if marked:
        return marked[0], False
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    beyond_ascii, foreign, undefined = 0, 0, False
    for part in _parts(stream) if can_rewind else (head,):
        text = decode(part)
        if not text.isascii():
            escaped = _ESCAPED.findall(text)
            foreign += len(escaped)
            undefined = undefined or not _NOT_WINDOWS.isdisjoint(escaped)
            beyond_ascii += len(text) - len(text.encode("ascii", "ignore")) - len(escaped)
    if can_rewind:
        stream.seek(0)
    is_windows = foreign > beyond_ascii and not undefined
    return ("windows-1252" if is_windows else "utf-8"), can_rewind and (is_windows or not foreign)


def _parts(stream: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: _some(stream, _CHUNK_BYTES), b"")


def _as_utf8(stream: BinaryIO, head: bytes, encoding: str) -> BinaryIO:
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
        # As it is: what is not UTF-8 is a mistake of its row alone.
        if head.startswith(codecs.BOM_UTF8):
            stream.read(len(codecs.BOM_UTF8))
        return stream
    return cast("BinaryIO", io.BufferedReader(_AsUtf8(stream, encoding)))
