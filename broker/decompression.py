"""Compressed record batches, decompressed piece by piece: a few bytes can stand for very many.

Snappy alone has no pieces: its blocks are decompressed whole, but they expand 22 times at most.
"""

import struct
import zlib
from collections.abc import Iterator

import lz4.frame
import snappy
import zstandard
from kafka.codec import _detect_xerial_stream
from kafka.errors import CorruptRecordError, UnsupportedCodecError
from kafka.record.default_records import DefaultRecordBase

PIECE_BYTES = 64 * 1024

# The decompressors copy what they have not read yet at every call.
_SLICE_BYTES = 16 * 1024
_GZIP_FORMAT = 16 + zlib.MAX_WBITS
_XERIAL_HEADER_BYTES = 16
_MOST_SNAPPY_EXPANDS = 32  # a copy of 64 bytes takes at least 3


def decompress(codec: int, data: memoryview) -> Iterator[bytes]:
    """The records of a compressed batch, in pieces of at most :data:`PIECE_BYTES` (with snappy: of a block).

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
            yield decoder.decompress(rest, PIECE_BYTES)
            rest = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
    yield decoder.flush()


def _unlz4(data: memoryview) -> Iterator[bytes]:
    decoder = lz4.frame.LZ4FrameDecompressor()
    for some in _slices(data):
        yield decoder.decompress(some, PIECE_BYTES)
        while not (decoder.needs_input or decoder.eof):
            yield decoder.decompress(b"", PIECE_BYTES)
        if decoder.eof:
            return


def _unzstd(data: memoryview) -> Iterator[bytes]:
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        while piece := reader.read(PIECE_BYTES):
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
