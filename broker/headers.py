"""Lets kafka-python read records whose header names are not UTF-8.

The protocol says they are, no broker checks it, and kafka-python gives up on such a record: its partition
would stand still for ever over one message. The names are read with escapes instead, so that the record is
delivered; nobody looks for such a name.
"""

from typing import Any

from kafka.record.default_records import DefaultRecordBatch

_strict_read = DefaultRecordBatch._read_msg  # noqa: SLF001  the reader has no public hook


class _Lenient(bytes):
    """Bytes whose slices decode with escapes where they are not UTF-8."""

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return _Lenient(found) if isinstance(found, bytes) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)


def accept_any_header_name() -> None:
    """From now on, every consumer of this process reads such records."""
    DefaultRecordBatch._read_msg = _read  # noqa: SLF001  the same


def _read(batch: Any) -> Any:
    try:
        return _strict_read(batch)
    except UnicodeDecodeError:
        strict = batch._buffer  # noqa: SLF001  the same
        batch._buffer = _Lenient(strict)  # noqa: SLF001
        try:
            return _strict_read(batch)  # it moved no position when it failed
        finally:
            batch._buffer = strict  # noqa: SLF001
