"""Breaks valid reviews, by bytes and by structure; the same seed breaks them in the same way."""

import json
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

POISON = "\u2620"  # the fuzzed worker's model fails on texts with this character

_WORDS = [
    "good",
    "bad",
    "room",
    "battery",
    "sound",
    "dress",
    "fits",
    "late",
    "again",
    "never",
    "ever",
    "love",
    "it",
    "…",
    "naïve",
    "Ünïcödé",
    "你好",
    "отлично",
    "👍🏽",
    "é́",
    "مرحبا",
    "';",
    "DROP",
    "TABLE",
    "review;",
    "--",
    "\\N",
    "\\.",
    "%s",
    "%(x)s",
    ":y",
    "$1",
    "NaN",
    "Infinity",
]
_TIMES = (
    "2026-01-31T12:00:00Z", "2026-01-31", "2026-01-31T12:00:00+05:30",
    "0001-01-01T00:00:00", "9999-12-31T23:59:59Z",
)  # fmt: skip
_LITERALS = (
    "null", "true", "false", "0", "-0", "5", "6", "2.5", "5.0", "1e999", "-1e999", str(2**70),
    "NaN", "Infinity", "-Infinity", '""', '" "', '"\\u0000"', '"a\\u0000b"', '"\\ud800"', '"\\ud83d\\ude00"',
    '"\\u200b\\ufeff"',
    '"x"', "[]", "{}", "[[[1]]]", '{"id": "nested"}', '"2026-02-30"', '"yesterday"', '"2024"',
    '"9999-12-31T23:59:59-01:00"', '"2016-12-31T23:59:60Z"', f'"{"x" * 257}"', f'"{"y" * 513}"',
    "9" * 5_000, f"1.{'0' * 5_000}", "[" * 300 + "]" * 300, '"\\x41"', '"\t"', "'x'", "undefined",
    "01", "+1", ".5", "1.", "", f'"{POISON}"',
)  # fmt: skip
_TOKENS = (
    *(literal.encode() for literal in _LITERALS if len(literal) < 40),
    b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\xe2\x80",
    b"\x00", b"\x1f",
    b"\x7f", b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b"//", b"/* */", b"\n", b"\r\n",
    b"\\u", b"\\ud83d",
)  # fmt: skip
_NAMES = (
    "id", "text", "product", "source", "published_at", "stars", "extra", "ID", "te\\u0078t", "", "\\u00e9",
)  # fmt: skip
_REPLAYS = (
    b"",
    b"a:b:c",
    b"00000000-0000-0000-0000-000000000000:0:0",
    b"x:9:" + b"9" * 30,
    b"\xff\x00",
    b"7",
)
_STAMPS = (0, 1, 1_700_000_000_123, 253_402_300_799_999, 10**15)

Fields = list[tuple[str, str]]


class Message(NamedTuple):
    """One record to publish."""

    value: bytes | None
    key: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int | None


def messages(seed: int, count: int) -> Iterator[Message]:
    """So many messages; about a third are valid reviews."""
    draw = random.Random(seed)
    for number in range(count):
        yield Message(_value(draw, number), _key(draw), _headers(draw), _timestamp(draw))


def _value(draw: random.Random, number: int) -> bytes | None:
    fields = _valid(draw, number)
    kind = draw.random()
    if kind < 0.002:
        return draw.choice([None, b"", b"null", draw.randbytes(draw.randrange(200))])
    if kind < 0.33:
        return _encode(fields)
    if kind < 0.66:
        for _ in range(draw.randint(1, 3)):
            fields = draw.choice(_STRUCTURAL)(draw, fields)
        return _dress(draw, _encode(fields))
    raw = _encode(fields)
    for _ in range(draw.choice([1, 1, 1, 2, 3, 8])):
        raw = draw.choice(_BYTEWISE)(draw, raw)
    return raw


def _valid(draw: random.Random, number: int) -> Fields:
    length = draw.choice([3, 8, 30, 60]) if draw.random() < 0.999 else 20_000
    text = " ".join(draw.choices(_WORDS, k=length)) + (POISON if draw.random() < 0.005 else "")
    fields = {"id": f"r{draw.randrange(number + 1)}", "text": text}
    optional = {
        "product": draw.choice(_WORDS),
        "source": draw.choice(["web", "app", ""]),
        "published_at": draw.choice(_TIMES),
        "stars": draw.randint(1, 5),
        "extra": {"a": [1, 2.5, None, {"b": draw.choice(_WORDS)}]},
    }
    fields |= {name: value for name, value in optional.items() if draw.random() < 0.5}
    is_ascii = draw.random() < 0.5
    return [(name, json.dumps(value, ensure_ascii=is_ascii)) for name, value in fields.items()]


def _encode(fields: Fields) -> bytes:
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in fields) + "}").encode("utf-8")


def _replace(draw: random.Random, fields: Fields) -> Fields:
    place = draw.randrange(len(fields)) if fields else 0
    return [*fields[:place], (draw.choice(_NAMES), draw.choice(_LITERALS)), *fields[place + 1 :]]


def _set_known(draw: random.Random, fields: Fields) -> Fields:
    name = draw.choice(_NAMES[:6])
    return [field for field in fields if field[0] != name] + [(name, draw.choice(_LITERALS))]


def _drop(draw: random.Random, fields: Fields) -> Fields:
    return [field for field in fields if draw.random() < 0.7]


def _double(draw: random.Random, fields: Fields) -> Fields:
    return [*fields, *((name, draw.choice(_LITERALS)) for name, _ in fields[:2] if draw.random() < 0.5)]


def _shuffle(draw: random.Random, fields: Fields) -> Fields:
    return draw.sample(fields, len(fields))


def _add(draw: random.Random, fields: Fields) -> Fields:
    return [*fields, (draw.choice(_NAMES[6:]), draw.choice(_LITERALS))]


_STRUCTURAL: tuple[Callable[[random.Random, Fields], Fields], ...] = (
    _replace, _set_known, _set_known, _drop, _double, _shuffle, _add,
)  # fmt: skip


def _dress(draw: random.Random, raw: bytes) -> bytes:
    kind = draw.random()
    if kind < 0.05:
        return b"\xef\xbb\xbf" + raw
    if kind < 0.08:
        return b"[" + raw + b"]"
    if kind < 0.11:
        return b" \r\n\t" + raw + b"\n"
    if kind < 0.12:
        return raw.decode().encode(draw.choice(["utf-16", "utf-32", "utf-7"]))
    if kind < 0.13:
        return raw + raw
    return raw


def _place(draw: random.Random, raw: bytes) -> int:
    return draw.randrange(len(raw) + 1)


def _flip(draw: random.Random, raw: bytes) -> bytes:
    if not raw:
        return raw
    place = draw.randrange(len(raw))
    return raw[:place] + bytes([raw[place] ^ 1 << draw.randrange(8)]) + raw[place + 1 :]


def _insert(draw: random.Random, raw: bytes) -> bytes:
    place = _place(draw, raw)
    return raw[:place] + draw.randbytes(draw.randint(1, 4)) + raw[place:]


def _insert_token(draw: random.Random, raw: bytes) -> bytes:
    place = _place(draw, raw)
    return raw[:place] + draw.choice(_TOKENS) + raw[place:]


def _delete(draw: random.Random, raw: bytes) -> bytes:
    place = _place(draw, raw)
    return raw[:place] + raw[place + draw.randint(1, 8) :]


def _truncate(draw: random.Random, raw: bytes) -> bytes:
    return raw[: _place(draw, raw)]


def _repeat(draw: random.Random, raw: bytes) -> bytes:
    place = _place(draw, raw)
    part = raw[place : place + draw.randint(1, 32)]
    return raw[:place] + part * draw.randint(1, 20) + raw[place:]


def _swap(draw: random.Random, raw: bytes) -> bytes:
    first, second = sorted((_place(draw, raw), _place(draw, raw)))
    return raw[second:] + raw[first:second] + raw[:first]


_BYTEWISE: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _flip, _insert, _insert_token, _insert_token, _delete, _truncate, _repeat, _swap,
)  # fmt: skip


def _key(draw: random.Random) -> bytes | None:
    # Never none: kafka-python sends no record without both key and value.
    return draw.choice([b"", b"\x00\xff", b"key", draw.randbytes(8)])


class _AnyName(str):
    """A header's name that goes out as the bytes it stands for, UTF-8 or not."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return super().encode("latin-1")


def _headers(draw: random.Random) -> list[tuple[str, bytes]]:
    kind = draw.random()
    if kind < 0.97:
        return []
    if kind < 0.98:
        return [(_AnyName(draw.randbytes(4).decode("latin-1")), draw.randbytes(8))]
    place, stamp = draw.choice(_REPLAYS), draw.choice(_REPLAYS)
    return [("reviewloop.dead_letter", place), ("reviewloop.timestamp", stamp)]


def _timestamp(draw: random.Random) -> int | None:
    return draw.choice(_STAMPS) if draw.random() < 0.02 else None
