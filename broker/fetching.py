"""Fetched record batches, decompressed record by record with bounded memory.

kafka-python decompresses a batch at once and whole, and hands out up to ``max_poll_records`` records however
large they are: 35 kB from a broker can be a gigabyte here. In its place, a batch is decompressed while it is
read; a key or value that is too long is delivered as :class:`~reviews.record_value.CutBytes`, its beginning
with the size and the hash of the whole; and a poll ends when its records have so many bytes together.
kafka-python has no hook for this, so parts of its fetcher are replaced, on one consumer alone.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

import lz4.frame
import snappy
import zstandard
from kafka import KafkaConsumer
from kafka.codec import _detect_xerial_stream
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError, UnsupportedCodecError
from kafka.record.default_records import DefaultRecord, DefaultRecordBase, DefaultRecordBatch
from kafka.record.legacy_records import LegacyRecordBatch
from kafka.record.memory_records import MemoryRecords
from kafka.record.util import decode_varint

from reviews.errors import StreamError
from reviews.record_value import KEPT_BYTES, CutBytes, CutHeaders

MAX_POLL_BYTES = 8 * 1024 * 1024
"""A poll ends when its records have so many bytes together."""

_SHORT_RECORD_BYTES = KEPT_BYTES
_LONGEST_VARINT = 10
_WINDOW_BYTES = _SHORT_RECORD_BYTES + _LONGEST_VARINT
_BYTES_OF_A_HEADER = 128  # what Python takes for one, were it empty
_MAX_LEGACY_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 64 * 1024
# The decompressors copy what they have not read yet at every call.
_SLICE_BYTES = 16 * 1024
_GZIP_FORMAT = 16 + zlib.MAX_WBITS
_XERIAL_HEADER_BYTES = 16
_MOST_SNAPPY_EXPANDS = 32  # with a margin: a copy of 64 bytes takes at least 3, which is 22 times at most


class Allowance:
    """How many bytes a poll may still deliver.

    Attributes:
        left: So many; what is delivered last may go beyond.
    """

    def __init__(self) -> None:
        self.left = MAX_POLL_BYTES

    def renew(self) -> None:
        """Begin another poll."""
        self.left = MAX_POLL_BYTES

    @property
    def is_spent(self) -> bool:
        """Whether the poll has to end."""
        return self.left <= 0


def bound_fetches(consumer: KafkaConsumer, max_value_bytes: int) -> Allowance:
    """Let a consumer deliver bounded records, and bounded numbers of bytes at a poll.

    Args:
        consumer: Of raw bytes.
        max_value_bytes: Longer keys and values are delivered cut.

    Returns:
        To be renewed before every poll.
    """
    allowance = Allowance()
    fetcher = consumer._fetcher  # noqa: SLF001  the parts replaced here have no public hook
    append = fetcher._append  # noqa: SLF001  the same

    def append_within(drained: Any, part: Any, max_records: int, update_offsets: bool) -> int:
        taken: int = append(drained, part, max_records, update_offsets)
        return max_records if allowance.is_spent else taken

    fetcher.PartitionRecords = partial(_PartitionRecords, allowance, max_value_bytes)
    fetcher._append = append_within  # noqa: SLF001  the same
    return allowance


class _PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]  # kafka-python is untyped
    """What one fetch brought of one partition."""

    def __init__(
        self,
        allowance: Allowance,
        max_value_bytes: int,
        fetch_offset: int,
        tp: Any,
        records: MemoryRecords,
        **options: Any,
    ) -> None:
        self._allowance = allowance
        super().__init__(fetch_offset, tp, _BoundedRecords(records, max_value_bytes), **options)

    def take(self, n: int | None = None) -> list[Any]:
        """As kafka-python's own, and no more than the allowance."""
        self._maybe_raise_next_inline_exception()
        records: list[Any] = []
        end = self.bytes_read + self._allowance.left
        try:
            for record in islice(self.record_iterator, n):
                records.append(record)
                if record.headers:
                    end -= _BYTES_OF_A_HEADER * len(record.headers)
                if self.bytes_read >= end:
                    break
        except Exception as err:
            if not records:
                raise
            self._next_inline_exception = err
        self._allowance.left = end - self.bytes_read
        return records


class _BoundedRecords:
    """The batches of a fetch."""

    def __init__(self, records: MemoryRecords, max_value_bytes: int) -> None:
        self._records = records
        self._max_value_bytes = max_value_bytes

    def next_batch(self) -> Any:
        """The next batch; None after the last."""
        batch = self._records.next_batch()
        if isinstance(batch, LegacyRecordBatch):
            _require_small(batch)
        return (
            BoundedRecordBatch(batch, self._max_value_bytes) if type(batch) is DefaultRecordBatch else batch
        )


class BoundedRecordBatch(DefaultRecordBatch):  # type: ignore[misc]  # kafka-python is untyped
    """A batch whose bytes pass through a window while its records are read.

    Args:
        batch: As kafka-python made it, unread.
        max_value_bytes: Longer keys and values are cut. Of the headers of a long record, the first ones are
            kept, as many as have :data:`~reviews.record_value.KEPT_BYTES` together.
    """

    _buffer: Any
    _pos: int
    _decompressed: bool

    def __init__(self, batch: DefaultRecordBatch, max_value_bytes: int) -> None:
        for name in DefaultRecordBatch.__slots__:
            setattr(self, name, getattr(batch, name))
        self._max_value_bytes = max_value_bytes
        self._pieces: Iterator[bytes] = iter(())
        self._has_all = False
        self._passed_bytes = 0  # those that the window has left behind

    def _maybe_uncompress(self) -> None:
        """Begin to decompress."""
        if not self._decompressed and self.compression_type != self.CODEC_NONE:
            self._assert_has_codec(self.compression_type)
            self._pieces = _decompress(self.compression_type, memoryview(self._buffer)[self._pos :])
            self._buffer = bytearray()
            self._pos = 0
        self._decompressed = True

    def __next__(self) -> Any:
        if self._next_record_index >= self._num_records:
            self._fill(1)
            return super().__next__()  # ends, or complains of what is left over
        if not self._has_all and len(self._buffer) - self._pos < _WINDOW_BYTES:
            self._fill(_WINDOW_BYTES)
        try:
            record = self._read_short() if self._is_short() else self._read_long()
        except (ValueError, IndexError) as err:
            raise CorruptRecordError(f"Found invalid record structure: {err!r}") from err
        self._next_record_index += 1
        return record

    next = __next__

    def _is_short(self) -> bool:
        """Whether the next record is in the window whole."""
        # Nearly every length takes two bytes.
        if self._buffer[self._pos] < 0x80 or self._buffer[self._pos + 1] < 0x80:
            return True
        return bool(decode_varint(self._buffer, self._pos)[0] <= _SHORT_RECORD_BYTES)

    def _read_short(self) -> Any:
        """As kafka-python reads it, and header names that are not UTF-8 with escapes.

        The protocol says they are, no broker checks it, and kafka-python gives up on such a record: its
        partition would stand still for ever over one message. Nobody looks for such a name.
        """
        try:
            return self._read_msg()
        except UnicodeDecodeError:
            strict, start = self._buffer, self._pos  # it moved no position when it failed
            # Of this record alone: a batch may be of many such records.
            self._buffer, self._pos = _Lenient(memoryview(strict)[start : start + _WINDOW_BYTES]), 0
            try:
                return self._read_msg()
            finally:
                self._buffer, self._pos = strict, start + self._pos

    def _read_long(self) -> DefaultRecord:
        length = self._take_varint()
        end = self._passed_bytes + self._pos + length
        self._take(1)  # attributes, of which there are none
        timestamp = self.first_timestamp + self._take_varint()
        if self.timestamp_type == self.LOG_APPEND_TIME:
            timestamp = self.max_timestamp
        offset = self.base_offset + self._take_varint()
        key, value = self._take_value(), self._take_value()
        headers = self._take_headers()
        self._skip_to(end)
        return DefaultRecord(length, offset, timestamp, self.timestamp_type, key, value, headers)

    def _take_headers(self) -> list[tuple[str, bytes | None]]:
        """Those that there is room for: millions of empty ones may follow, which would take hours to read."""
        headers: list[tuple[str, bytes | None]] = []
        room = KEPT_BYTES
        count = self._take_varint()
        for index in range(count):
            name, value = self._take_value() or b"", self._take_value()
            room -= len(name) + len(value or b"") + _BYTES_OF_A_HEADER
            if room < 0:
                return CutHeaders(headers, count - index)
            headers.append((name.decode("utf-8", "backslashreplace"), value))
        return headers

    def _take_value(self) -> bytes | None:
        """Bytes behind their length: whole, or their beginning with the size and hash of the whole."""
        size = self._take_varint()
        if size < 0:
            return None
        if size <= self._max_value_bytes:
            return self._take(size)
        kept = self._take(min(size, KEPT_BYTES))
        digest = hashlib.sha256(kept)
        left = size - len(kept)
        while left:
            piece = self._take(min(left, _PIECE_BYTES))
            digest.update(piece)
            left -= len(piece)
        return CutBytes(kept, size, digest.hexdigest())

    def _skip_to(self, end: int) -> None:
        """Go on at a position, counted from the first record of the batch."""
        left = end - self._passed_bytes - self._pos
        if left < 0:
            raise IndexError("a record is longer than it says")
        while left:
            left -= len(self._take(min(left, _PIECE_BYTES)))

    def _take_varint(self) -> int:
        self._fill(_LONGEST_VARINT)
        value, self._pos = decode_varint(self._buffer, self._pos)
        return int(value)

    def _take(self, size: int) -> bytes:
        self._fill(size)
        end = self._pos + size
        if end > len(self._buffer):
            raise IndexError("the batch ends within a record")
        taken = bytes(memoryview(self._buffer)[self._pos : end])
        self._pos = end
        return taken

    def _fill(self, size: int) -> None:
        """Let the window hold so many bytes from the position on, if the batch has them."""
        if len(self._buffer) - self._pos >= size:
            return
        for piece in self._pieces:
            del self._buffer[: self._pos]
            self._passed_bytes += self._pos
            self._pos = 0
            self._buffer += piece
            if len(self._buffer) >= size:
                return
        self._has_all = True


class _Lenient(bytes):
    """Bytes whose slices decode with escapes where they are not UTF-8."""

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return _Lenient(found) if isinstance(found, bytes) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)


def _require_small(batch: LegacyRecordBatch) -> None:
    """Refuse a batch of Kafka's formats before 0.11 that expands beyond all measure.

    Brokers since 4.0 have none, and those before turn what is published into the present format. kafka-python
    reads such a batch only whole.
    """
    codec = batch.compression_type
    is_readable = codec != batch.CODEC_NONE and not (codec == batch.CODEC_LZ4 and batch.magic == 0)
    if not is_readable:
        return
    _, data = batch._read_key_value(batch.KEY_OFFSET_V1 if batch.magic else batch.KEY_OFFSET_V0)  # noqa: SLF001  no public way
    size = 0
    for piece in _decompress(codec, memoryview(data or b"")):
        size += len(piece)
        if size > _MAX_LEGACY_BYTES:
            raise StreamError(
                f"The record batch at offset {batch.base_offset:,} is in a format of Kafka before 0.11 and "
                f"has more than {_MAX_LEGACY_BYTES:,} bytes when it is decompressed: such a batch can only "
                "be read whole. Go on behind it with 'reviewloop offsets set'."
            )


def _decompress(codec: int, data: memoryview) -> Iterator[bytes]:
    """The records of a compressed batch, in pieces of at most 64 KiB: a few bytes can stand for very many.

    Snappy alone has no pieces: its blocks are decompressed whole, but they expand 22 times at most.

    Args:
        codec: As Kafka numbers them.
        data: What follows the batch's header.

    Raises:
        CorruptRecordError: If it is no data of this codec.
        UnsupportedCodecError: If there is no such codec.
    """
    pieces = {
        DefaultRecordBase.CODEC_GZIP: _gunzip,
        DefaultRecordBase.CODEC_SNAPPY: _unsnappy,
        DefaultRecordBase.CODEC_LZ4: _unlz4,
        DefaultRecordBase.CODEC_ZSTD: _unzstd,
    }.get(codec)
    if pieces is None:
        raise UnsupportedCodecError(f"Unrecognized compression type: {codec}")
    try:
        yield from pieces(data)
    except (zlib.error, snappy.UncompressError, struct.error, RuntimeError, zstandard.ZstdError) as err:
        raise CorruptRecordError(f"A compressed record batch cannot be decompressed: {err}") from err


def _slices(data: memoryview) -> Iterator[bytes]:
    return (bytes(data[start : start + _SLICE_BYTES]) for start in range(0, len(data), _SLICE_BYTES))


def _gunzip(data: memoryview) -> Iterator[bytes]:
    decoder = zlib.decompressobj(_GZIP_FORMAT)
    for some in _slices(data):
        rest = some
        while rest:
            if decoder.eof:  # another member follows
                decoder = zlib.decompressobj(_GZIP_FORMAT)
            yield decoder.decompress(rest, _PIECE_BYTES)
            rest = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
    yield decoder.flush()


def _unlz4(data: memoryview) -> Iterator[bytes]:
    decoder = lz4.frame.LZ4FrameDecompressor()
    for some in _slices(data):
        yield decoder.decompress(some, _PIECE_BYTES)
        while not (decoder.needs_input or decoder.eof):
            yield decoder.decompress(b"", _PIECE_BYTES)
        if decoder.eof:
            return


def _unzstd(data: memoryview) -> Iterator[bytes]:
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        while piece := reader.read(_PIECE_BYTES):
            yield piece


def _unsnappy(data: memoryview) -> Iterator[bytes]:
    if not _detect_xerial_stream(data[: _XERIAL_HEADER_BYTES + 1]):
        yield _unsnappy_block(data)
        return
    start = _XERIAL_HEADER_BYTES
    while start < len(data):
        (size,) = struct.unpack_from("!I", data, start)
        start += 4
        yield _unsnappy_block(data[start : start + size])
        start += size


def _unsnappy_block(block: memoryview) -> bytes:
    claimed = 0
    for index, byte in enumerate(block[:5]):  # a varint
        claimed |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            break
    if claimed > _MOST_SNAPPY_EXPANDS * len(block):
        raise CorruptRecordError(f"A snappy block of {len(block):,} bytes claims to hold {claimed:,}.")
    return bytes(snappy.decompress(bytes(block)))
