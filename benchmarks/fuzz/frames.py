"""``python -m benchmarks.fuzz.frames [--frames N] [--seed S]``: broken Avro and Protobuf records, decoded.

Each is a valid record that was broken, or one that was made to be hostile: lengths and counts beyond all
reason, nesting without an end. A process of its own decodes them one after the other, each has to end as a
value or as a refusal, and no frame may add more memory than its bound. Prints one JSON object; fails where it
does not hold. With ``--decode`` it is that process.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from benchmarks.fuzz.frame_schemas import AVRO, PROTO, avro_value, proto_value
from broker.formats.avro import parse
from broker.formats.avro import reader_of as avro_reader
from broker.formats.avro_bounds import MAX_DECODED_BYTES
from broker.formats.proto_files import compile_schemas
from broker.formats.protobuf import reader_of as protobuf_reader
from reviews.errors import InvalidMessage

MAX_FRAME_BYTES = 64 * 1024
BOUND_BYTES = 2 * MAX_DECODED_BYTES
"""What a process may grow by while it decodes: the bound of a record, and what was allocated beside it."""
_SECONDS = 3_600
_STATUS = Path("/proc/self/status")

Decode = Callable[[bytes], Any]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz.frames", description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000, help="how many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--decode", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    run = decode_all if asked.decode else fuzz
    print(json.dumps(run(asked.seed, asked.frames)))


def fuzz(seed: int, count: int) -> dict[str, Any]:
    """What became of so many frames in a process of their own.

    Raises:
        AssertionError: If the process ended before its time, or grew beyond its bound.
    """
    command = [
        sys.executable,
        "-m",
        "benchmarks.fuzz.frames",
        f"--seed={seed}",
        f"--frames={count}",
        "--decode",
    ]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, check=False, timeout=_SECONDS
    )
    assert done.returncode == 0, f"the decoding process ended with {done.returncode}"
    said: dict[str, Any] = json.loads(done.stdout)
    assert sum(said["outcomes"].values()) == count, said
    assert said["grown_bytes"] < BOUND_BYTES, said
    return said


def decode_all(seed: int, count: int) -> dict[str, Any]:
    """Decode so many frames in this process."""
    draw = random.Random(seed)
    formats = [*_avro_formats(), *_protobuf_formats()]
    for decode, raw in formats:
        decode(raw(draw))  # what is loaded once is no frame's doing
    before, outcomes, slowest = _peak_bytes(), Counter[str](), 0.0
    started = time.monotonic()
    for _ in range(count):
        decode, write = formats[draw.randrange(len(formats))]
        raw = break_frame(draw, write(draw))
        began = time.perf_counter()
        try:
            decode(raw)
        except InvalidMessage as err:
            outcomes[err.reason] += 1
        else:
            outcomes["value"] += 1
        slowest = max(slowest, time.perf_counter() - began)
    return {
        "seed": seed,
        "frames": count,
        "seconds": round(time.monotonic() - started, 1),
        "slowest_milliseconds": round(slowest * 1000, 1),
        "grown_bytes": _peak_bytes() - before,
        "outcomes": dict(outcomes.most_common()),
    }


def _peak_bytes() -> int:
    """The most memory that this process ever had."""
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def _avro_formats() -> Iterator[tuple[Decode, Callable[[random.Random], bytes]]]:
    import fastavro

    for schema in AVRO:
        types: dict[str, Any] = {}
        parsed = parse(json.dumps(schema), types)
        read = avro_reader(parsed, types)

        def write(draw: random.Random, schema: Any = schema, parsed: Any = parsed) -> bytes:
            out = BytesIO()
            fastavro.schemaless_writer(out, parsed, avro_value(draw, schema))
            return out.getvalue()

        yield (lambda raw, read=read: read(raw, 0)), write


def _protobuf_formats() -> Iterator[tuple[Decode, Callable[[random.Random], bytes]]]:
    from google.protobuf.message_factory import GetMessageClass

    file = compile_schemas(PROTO, {})
    for descriptor in file.message_types_by_name.values():
        kind, read = GetMessageClass(descriptor), protobuf_reader(descriptor)
        yield (
            lambda raw, read=read: read(raw, 0),
            lambda draw, kind=kind: proto_value(draw, kind()).SerializeToString(),
        )


def break_frame(draw: random.Random, raw: bytes) -> bytes:
    """One valid record, broken once to eight times; now and then it stays as it is."""
    for _ in range(draw.choice([0, 1, 1, 1, 2, 3, 8])):
        raw = draw.choice(_BREAKS)(draw, raw)
    return raw[:MAX_FRAME_BYTES]


def _flip(draw: random.Random, raw: bytes) -> bytes:
    if not raw:
        return raw
    at = draw.randrange(len(raw))
    return raw[:at] + bytes([raw[at] ^ 1 << draw.randrange(8)]) + raw[at + 1 :]


def _cut(draw: random.Random, raw: bytes) -> bytes:
    return raw[: draw.randrange(len(raw) + 1)]


def _drop(draw: random.Random, raw: bytes) -> bytes:
    at = draw.randrange(len(raw) + 1)
    return raw[:at] + raw[at + draw.randrange(1, 9) :]


def _insert(draw: random.Random, raw: bytes) -> bytes:
    at = draw.randrange(len(raw) + 1)
    return raw[:at] + draw.choice(_HOSTILE) + raw[at:]


def _replace(draw: random.Random, raw: bytes) -> bytes:
    at = draw.randrange(len(raw) + 1)
    piece = draw.choice(_HOSTILE)
    return raw[:at] + piece + raw[at + len(piece) :]


def _repeat(draw: random.Random, raw: bytes) -> bytes:
    at = draw.randrange(len(raw) + 1)
    piece = raw[at : at + draw.randrange(1, 12)]
    return raw[:at] + piece * draw.choice([2, 10, 5_000]) + raw[at:]


def _garbage(draw: random.Random, _: bytes) -> bytes:
    return draw.randbytes(draw.choice([0, 1, 5, 50, 2_000]))


def _one_byte(draw: random.Random, _: bytes) -> bytes:
    return bytes([draw.randrange(256)]) * draw.choice([10, 1_000, MAX_FRAME_BYTES])


def _varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


_BREAKS = (_flip, _flip, _cut, _drop, _insert, _insert, _replace, _repeat, _garbage, _one_byte)
_HOSTILE = (
    *map(_varint, (0, 1, 2, 127, 2**14, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1, 2**64 - 2)),
    b"\xff" * 12,
    b"\x80" * 40,
    b"\x00" * 64,
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\x0b\x0b\x0b",
    b"\x0c",
)  # fmt: skip


if __name__ == "__main__":
    main()
