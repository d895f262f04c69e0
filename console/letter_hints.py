"""What is wrong with the value of a dead letter, and how it could be corrected.

Each suspicion comes with a corrected value where one can be made by rule; it is offered only if the parser
that refused the record takes it.
"""

import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from reviews.dead_letter import StoredLetter
from reviews.errors import InvalidMessage
from reviews.record_value import CutBytes

EXAMINED_BYTES = 256 * 1024
"""Longer values are shown, and not examined."""
_UNPACKED_BYTES = 1024 * 1024
_CONTEXT_CHARACTERS = 30
_SHOWN_CHARACTERS = 60
_TRIED_FIELDS = 50  # each costs a copy of the message
_ENVELOPES = ("payload", "after", "value", "data", "review", "message")
_OTHER_NAMES = {
    "id": ("review_id", "reviewid", "uuid", "_id", "key"),
    "text": ("review", "review_text", "reviewtext", "body", "content", "comment", "message"),
}
_OTHER_NAMES_IN_LABELS = {
    "review_id": ("reviewid", "review", "id"),
    "label": ("sentiment", "class", "category", "human_label"),
    "annotator": ("user", "author", "labeller", "labeler"),
}
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_TOMBSTONE = (
    "The record has no value (a tombstone). Where tombstones withdraw reviews, their topic is a source with "
    'tombstones = "withdraw"; elsewhere discard it.'
)
_TOMBSTONE_OF_SOURCE = (
    "The record has no value (a tombstone). The setting tombstones of its source may ignore such records, or "
    "let them withdraw reviews; then replay it."
)
_MAPPED = (
    "A source maps this topic: 'reviewloop sources try {topic}' shows how its records are read, and proposes "
    "other settings. When they are right, replay it as it is."
)
_ENDING_COMMA = re.compile(r",(?=\s*[}\]])")

Parse = Callable[[bytes], object]
"""Returns if a value can be read, and raises :class:`InvalidMessage` otherwise."""


class Hint(NamedTuple):
    """One thing that is wrong with a value.

    Attributes:
        text: What, in a sentence.
        corrected: A value without it that can be read; None where a person has to decide.
    """

    text: str
    corrected: bytes | None = None


def hints(letter: StoredLetter, parse: Parse, *, is_plain: bool = True) -> list[Hint]:
    """What is wrong with a dead letter, the most helpful first.

    Args:
        letter: With its bytes.
        parse: Reads values of its topic.
        is_plain: Whether they have the message format of reviews or labels; False where a source maps them.
    """
    if letter.raw is None:
        return [Hint(_TOMBSTONE if is_plain else _TOMBSTONE_OF_SOURCE)]
    if isinstance(letter.raw, CutBytes):
        return [
            Hint(
                f"Only the first {len(letter.raw):,} of {letter.raw.full_bytes:,} bytes were kept. Its "
                f"publisher has the whole value, whose SHA-256 is {letter.raw.sha256}."
            )
        ]
    if len(letter.raw) > EXAMINED_BYTES:
        return [Hint(f"The value has {len(letter.raw):,} bytes, too many to be examined here.")]
    if _can_be_read(letter.raw, parse):
        return [_of_sound_value(letter)]
    if not is_plain:
        return [Hint(_MAPPED.format(topic=letter.topic))]
    facts = [*_of_bytes(letter.raw), *_of_text(letter.raw)]
    guesses = _guesses(letter.raw, _OTHER_NAMES_IN_LABELS if letter.stage == "label" else _OTHER_NAMES)
    return [
        *(hint if _helps(hint, parse) else hint._replace(corrected=None) for hint in facts),
        *(hint for hint in guesses if _helps(hint, parse)),
    ]


def _helps(hint: Hint, parse: Parse) -> bool:
    return hint.corrected is not None and _can_be_read(hint.corrected, parse)


def _can_be_read(value: bytes, parse: Parse) -> bool:
    try:
        parse(value)
    except InvalidMessage:
        return False
    return True


def _of_sound_value(letter: StoredLetter) -> Hint:
    if letter.stage == "score":
        return Hint(
            "The value is valid, but the model failed on its text. Replay it after another adapter or "
            "another version of the worker is in use."
        )
    if letter.stage == "store":
        return Hint("The value is valid, but the database refused its row: remove the cause, then replay it.")
    return Hint(
        "The value can be read by this version. Replay it: settings or the program have changed, or its task "
        "has the label by now."
    )


def _of_bytes(raw: bytes) -> Iterator[Hint]:
    """What values that are not UTF-8 look like."""
    if raw.startswith(b"\x1f\x8b"):
        yield Hint("The value is compressed by gzip. Producers compress batches, not values.", _unzipped(raw))
    elif raw.startswith(b"\x28\xb5\x2f\xfd"):
        yield Hint("The value is compressed by Zstandard. Producers compress batches, not values.")
    elif raw.startswith(_UTF_16) or raw[1:8:2] == bytes(4):
        yield Hint("The value is written in UTF-16; publish UTF-8.", _recoded(raw, "utf-16"))
    elif raw.startswith(b"\0") and len(raw) > 5:
        yield Hint(
            f"The value begins with the five bytes of a schema registry (schema "
            f"{int.from_bytes(raw[1:5])}): publish plain JSON, without a registry's serialiser.",
            raw[5:],
        )
    elif not _is_utf_8(raw):
        yield Hint("Read as Windows-1252 the value is valid text; publish UTF-8.", _recoded(raw, "cp1252"))


def _of_text(raw: bytes) -> Iterator[Hint]:
    if not _is_utf_8(raw):
        return
    text = raw.decode().removeprefix("\ufeff")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as err:
        yield from _of_broken_json(text, err)
    except (ValueError, RecursionError):
        yield Hint("The value is nested too deeply, or has a number that is too long to be read.")
    else:
        if isinstance(value, str):
            yield Hint("The value is JSON within a JSON text: it was written twice.", _encoded(value))
        elif isinstance(value, list):
            corrected = _written(value[0]) if len(value) == 1 else None
            yield Hint(f"The value is a list of {len(value):,}: publish each entry as a record.", corrected)


def _of_broken_json(text: str, err: json.JSONDecodeError) -> Iterator[Hint]:
    if not text.strip():
        yield Hint("The value is empty.")
        return
    if text.lstrip().startswith("{'"):
        yield Hint("The value is written as Python writes it, with single quotes: publish json.dumps(…).")
    if _ENDING_COMMA.search(text):
        yield Hint("There is a comma before a closing bracket.", _ENDING_COMMA.sub("", text).encode())
    if err.msg == "Extra data" and text[: err.pos].rstrip().endswith("}"):
        yield Hint("The record holds several JSON values: publish each as a record of its own.")
    elif err.pos >= len(text.rstrip()) or err.msg.startswith("Unterminated"):
        yield Hint("The value ends too early: it may have been cut by its publisher.", _closed(text))
    elif not text.lstrip().startswith(("{", "[", '"')):
        yield Hint(
            'The value is plain text, not JSON: publish an object such as {"id": "1", "text": "Good."}.'
        )
    before = text[max(0, err.pos - _CONTEXT_CHARACTERS) : err.pos]
    behind = text[err.pos : err.pos + _CONTEXT_CHARACTERS]
    yield Hint(f"It stops being JSON at character {err.pos + 1:,}: after «{before}», at «{behind}».")


def _guesses(raw: bytes, other_names: Mapping[str, tuple[str, ...]]) -> Iterator[Hint]:
    """Changes of an object that may make it a message."""
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        return
    if not isinstance(fields, dict):
        return
    for name in _ENVELOPES:
        if isinstance(inner := fields.get(name), dict):
            yield Hint(f"The message is inside the field '{name}'.", _written(inner))
    found = {wanted: _other_name(fields, wanted, others) for wanted, others in other_names.items()}
    names = {other: wanted for wanted, other in found.items() if other is not None}
    if names:
        said = ", ".join(f"'{other}' as '{wanted}'" for other, wanted in names.items())
        renamed = {names.get(name, name): value for name, value in fields.items()}
        yield Hint(f"The fields may have other names: read {said}.", _written(renamed))
    for name, value in islice(fields.items(), _TRIED_FIELDS):
        yield from _without(fields, name, value)


def _other_name(fields: dict[str, Any], wanted: str, others: tuple[str, ...]) -> str | None:
    """Under what name a field is there that is missing; None where it is not missing, or not there at all."""
    if wanted in fields:
        return None
    return next((name for name in fields if name.lower() in (wanted, *others)), None)


def _without(fields: dict[str, Any], name: str, value: Any) -> Iterator[Hint]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        as_text = fields | {name: str(value)}
        yield Hint(f"The field '{name}' is a number; as a text it is valid.", _written(as_text))
    kept = {other: fields[other] for other in fields if other != name}
    shown = json.dumps(value, ensure_ascii=False)[:_SHOWN_CHARACTERS]
    yield Hint(
        f"Only the field '{name}' is wrong: it is {shown}. Without it the message is valid.", _written(kept)
    )


def _is_utf_8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _recoded(raw: bytes, encoding: str) -> bytes | None:
    try:
        return raw.decode(encoding).encode()
    except UnicodeError:
        return None


def _unzipped(raw: bytes) -> bytes | None:
    try:
        return zlib.decompressobj(wbits=31).decompress(raw, _UNPACKED_BYTES)
    except zlib.error:
        return None


def _closed(text: str) -> bytes:
    """The text with the quote and the bracket that may be missing."""
    opened = text.rstrip().rstrip(",")
    quotes = len(re.findall(r'(?<!\\)"', opened))
    return (opened + ('"' if quotes % 2 else "") + "}").encode()


def _written(value: Any) -> bytes:
    return _encoded(json.dumps(value, ensure_ascii=False))


def _encoded(text: str) -> bytes:
    """UTF-8; half of a surrogate pair, which UTF-8 does not have, becomes a question mark."""
    return text.encode(errors="replace")
