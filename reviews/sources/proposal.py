"""Proposes the settings of a source from some of its records: what wraps them, and which field is which.

A proposal is a guess by names, types and values, made to be read and corrected by a person.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic_core import from_json

from reviews.sources.coercions import TimeUnit
from reviews.sources.paths import FieldPath, write_path
from reviews.sources.record_parts import RawRecord
from reviews.sources.settings import Format, Preset

EXAMINED_RECORDS = 200
_EXAMINED_BYTES = 256 * 1024  # of one value
_EXAMINED_FIELDS = 200
_DEEPEST = 6
_SHOWN_CHARACTERS = 60
_EVENT_TYPE = b"application/cloudevents"

_NAMES = {
    "id": ("id", "reviewid", "reviewuuid", "uuid", "guid", "ratingid", "commentid", "feedbackid"),
    "text": (
        "text",
        "reviewtext",
        "reviewbody",
        "body",
        "content",
        "comment",
        "review",
        "message",
        "description",
    ),
    "title": ("title", "headline", "subject", "summary", "reviewtitle", "reviewheadline"),
    "product": (
        "product",
        "productid",
        "asin",
        "parentasin",
        "sku",
        "item",
        "itemid",
        "article",
        "articleid",
    ),
    "source": ("source", "channel", "platform", "site", "marketplace", "origin", "shop"),
    "published_at": (
        *("publishedat", "createdat", "created", "submittedat", "submissiontime", "reviewdate", "reviewtime"),
        *("timestamp", "date", "time", "ts", "unixreviewtime", "updatedat"),
    ),
    "stars": ("stars", "rating", "starrating", "overall", "score", "rate"),
}
"""What fields are often called, in small letters and without marks; the first names are the likeliest."""
_UNITS: dict[int, TimeUnit] = {
    **dict.fromkeys((9, 10), "seconds"),
    **dict.fromkeys((12, 13), "millis"),
    **dict.fromkeys((15, 16), "micros"),
    **dict.fromkeys((18, 19), "nanos"),
}
_NAMED_AFTER_PLACE = (
    "No field looks like an id: each record is a review of its own, named after its place in the topic. Name "
    "a field, or a hash of several, if reviews are published again."
)
_MARKS = re.compile(r"[^a-z0-9]")
_SCALES = ((1, 5), (0, 5), (1, 10), (0, 10), (0, 100))


@dataclass(slots=True)
class SeenField:
    """A field of some records.

    Attributes:
        path: Where it is, as settings write it.
        name: Its own name.
        kinds: How often it was of which type, by JSON's names; null is not counted.
        values: The first of its values.
        records: How many records have it.
    """

    path: str
    name: str
    kinds: Counter[str] = field(default_factory=Counter)
    values: list[Any] = field(default_factory=list)
    records: int = 0

    @property
    def kind(self) -> str:
        """The type that it mostly has."""
        return self.kinds.most_common(1)[0][0] if self.kinds else "null"

    @property
    def example(self) -> str:
        """One of its values, short."""
        shown = str(self.values[0]) if self.values else ""
        return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[: _SHOWN_CHARACTERS - 1]}…"


class SourceProposal(NamedTuple):
    """What settings of a source seem right.

    Attributes:
        preset: What wraps the records.
        format: How values are written; None where nothing here can tell.
        fields: Where the fields of a review are: each a path, or a table as settings have it.
        seen: Every field that was found, also those that were not chosen.
        remarks: What a person should know, in sentences.
    """

    preset: Preset
    format: Format | None
    fields: Mapping[str, Any]
    seen: Sequence[SeenField]
    remarks: Sequence[str]


def propose(records: Sequence[RawRecord], decoded: Sequence[object] | None = None) -> SourceProposal:
    """A proposal from records of one topic.

    Args:
        records: As delivered, the first of them are examined.
        decoded: Their values, where they have been decoded already; None: they are read as JSON or text.
    """
    some = records[:EXAMINED_RECORDS]
    if any(_is_event(record) for record in some):
        values = [
            _event_data(record, value) for record, value in zip(some, _values(some, decoded), strict=True)
        ]
        return _of_fields("cloudevents", values, some)
    values = [value for value in _values(some, decoded) if value is not None]
    objects = [value for value in values if isinstance(value, Mapping)]
    if not objects:
        return _of_no_fields(some, values)
    payloads = [value["payload"] if _is_wrapped(value) else value for value in objects]
    if sum(map(_is_change, payloads)) * 2 > len(payloads):
        return _of_fields("debezium", [_row(value) for value in payloads if _is_change(value)], some)
    if sum(map(_is_wrapped, objects)) * 2 > len(objects):
        return _of_fields("connect-json", payloads, some)
    return _of_fields("plain", objects, some)


def _values(records: Sequence[RawRecord], decoded: Sequence[object] | None) -> list[object]:
    return (
        list(decoded[: len(records)]) if decoded is not None else [_read(record.value) for record in records]
    )


def _read(raw: bytes | None) -> object:
    """The value as JSON, else as text, else as bytes."""
    if raw is None or len(raw) > _EXAMINED_BYTES:
        return None
    try:
        return from_json(raw)
    except ValueError:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw


def _of_no_fields(records: Sequence[RawRecord], values: Sequence[object]) -> SourceProposal:
    raws = [record.value for record in records if record.value]
    if raws and sum(raw[:1] == b"\0" and len(raw) > 5 for raw in raws) * 2 > len(raws):
        schemas = sorted(
            {int.from_bytes(raw[1:5], "big") for raw in raws if raw[:1] == b"\0" and len(raw) > 5}
        )
        named = ", ".join(map(str, schemas[:5]))
        said = (
            f"Values begin with the frame of a schema registry (schema {named}): set registry.url and the "
            "format, avro, protobuf or json-schema, then try again."
        )
        return SourceProposal("plain", None, {}, (), (said,))
    if values and sum(isinstance(value, str) for value in values) * 2 > len(values):
        return SourceProposal(
            "text", "text", _id_of_keys(records), (), _named_after_place(_id_of_keys(records))
        )
    said = "Nothing here can tell what the values are: they are neither JSON nor text."
    return SourceProposal("plain", None, {}, (), (said if values else "There is no record with a value.",))


def _of_fields(preset: Preset, values: Sequence[object], records: Sequence[RawRecord]) -> SourceProposal:
    seen = _fields_of(value for value in values if isinstance(value, Mapping))
    chosen: dict[str, SeenField] = {}
    for name in ("text", "title", "id", "published_at", "stars", "product", "source"):
        taken = set(map(id, chosen.values()))
        if (found := _find(name, [one for one in seen if id(one) not in taken])) is not None:
            chosen[name] = found
    if "text" not in chosen and (longest := _longest_text(seen)) is not None:
        chosen["text"] = longest
    fields = {name: made for name in _ORDER if (made := _declared(name, chosen)) is not None}
    remarks = [] if "text" in chosen else ["No field looks like the text of a review: name it in fields."]
    if "id" not in chosen and preset != "debezium":
        fields = {**_id_of_keys(records), **fields}
        remarks += _named_after_place(fields)
    elif "id" not in chosen:
        remarks.append("No field looks like the id of a review: name it, since deletions have to say which.")
    return SourceProposal(preset, "json", fields, seen, remarks)


_ORDER = ("id", "text", "product", "source", "published_at", "stars")


def _declared(name: str, chosen: Mapping[str, SeenField]) -> Any:
    """A field's path, or the table that says more of it; None where there is none."""
    found = chosen.get(name)
    if found is None:
        return None
    if name == "text" and "title" in chosen:
        return {"join": [chosen["title"].path, found.path]}
    if name == "published_at" and (unit := _unit(found)) is not None:
        return {"path": found.path, "unit": unit}
    if name == "stars" and (scale := _scale(found)) not in {None, (1, 5)}:
        return {"path": found.path, "scale": list(scale)}
    return found.path


def _fields_of(values: Iterable[Mapping[str, Any]]) -> list[SeenField]:
    """The fields of objects that are no objects themselves, in the order in which they were first seen."""
    seen: dict[tuple[str, ...], SeenField] = {}
    for value in values:
        for steps, inner in _leaves(value, ()):
            if steps not in seen:
                if len(seen) >= _EXAMINED_FIELDS:
                    continue
                try:
                    seen[steps] = SeenField(write_path(FieldPath("value", steps)), steps[-1])
                except ValueError:  # no path can name it
                    continue
            one = seen[steps]
            one.records += 1
            if inner is not None:
                one.kinds[_kind(inner)] += 1
                one.values.append(inner)
    return list(seen.values())


def _leaves(value: Mapping[str, Any], steps: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in value.items():
        if not isinstance(name, str) or not name:
            continue
        if isinstance(inner, Mapping) and inner and len(steps) + 1 < _DEEPEST:
            yield from _leaves(inner, (*steps, name))
        else:
            yield (*steps, name), inner


def _kind(value: object) -> str:
    for kind, type_ in (("boolean", bool), ("number", int | float), ("text", str), ("list", list)):
        if isinstance(value, type_):
            return kind
    return type(value).__name__


def _find(name: str, seen: Sequence[SeenField]) -> SeenField | None:
    """The field whose name is the likeliest, the outermost first."""
    fitting = [one for one in seen if one.values and _fits(name, one)]
    for called in _NAMES[name]:
        for one in sorted(fitting, key=lambda one: one.path.count(".")):
            if _MARKS.sub("", one.name.lower()) == called:
                return one
    return None


def _fits(name: str, found: SeenField) -> bool:
    if name in {"text", "title"}:
        return found.kind == "text"
    if name == "stars":
        return found.kind == "number" and _scale(found) is not None
    if name == "published_at":
        return found.kind == "text" or _unit(found) is not None
    if name == "id":
        return found.kind in {"text", "number"} and len(set(map(str, found.values))) * 10 >= 9 * len(
            found.values
        )
    return found.kind in {"text", "number"}


def _longest_text(seen: Sequence[SeenField]) -> SeenField | None:
    """The text with the most words; None where none has several."""
    texts = [one for one in seen if one.kind == "text"]
    counted = [(sum(len(str(value).split()) for value in one.values) / len(one.values), one) for one in texts]
    words, found = max(counted, key=lambda pair: pair[0], default=(0.0, None))
    return found if words >= 3 else None


def _unit(found: SeenField) -> TimeUnit | None:
    """What numbers of a time count, by their size; None where they are none, or do not agree."""
    whole = [
        value for value in found.values if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    units = {_UNITS.get(len(str(int(abs(value))))) for value in whole}
    return units.pop() if len(whole) == len(found.values) and len(units) == 1 else None


def _scale(found: SeenField) -> tuple[int, int] | None:
    """The narrowest usual scale that has all of a field's numbers."""
    numbers = [value for value in found.values if isinstance(value, int | float)]
    if not numbers:
        return None
    return next((scale for scale in _SCALES if scale[0] <= min(numbers) and max(numbers) <= scale[1]), None)


def _id_of_keys(records: Sequence[RawRecord]) -> dict[str, Any]:
    """The key as the id, where every record has another one that is a short text."""
    keys = [record.key for record in records if record.value is not None]
    try:
        texts = {key.decode() for key in keys if key}
    except UnicodeDecodeError:
        return {}
    is_id = len(texts) == len(keys) > 1 and all(len(text) <= 256 and text.isprintable() for text in texts)
    return {"id": "$key"} if is_id and not any(text.startswith("{") for text in texts) else {}


def _named_after_place(fields: Mapping[str, Any]) -> list[str]:
    if "id" in fields:
        return ["No field looks like an id: the keys are taken, since each record has one of its own."]
    return [_NAMED_AFTER_PLACE]


def _is_wrapped(value: object) -> bool:
    return isinstance(value, Mapping) and value.keys() == {"schema", "payload"}


def _is_change(value: object) -> bool:
    return isinstance(value, Mapping) and "op" in value and ("before" in value or "after" in value)


def _row(value: Any) -> object:
    return value.get("after") or value.get("before")


def _is_event(record: RawRecord) -> bool:
    return any(
        name == "ce_specversion" or (name == "content-type" and (value or b"").startswith(_EVENT_TYPE))
        for name, value in record.headers
    )


def _event_data(record: RawRecord, value: object) -> object:
    is_structured = any(
        name == "content-type" and (content or b"").startswith(_EVENT_TYPE)
        for name, content in record.headers
    )
    return value.get("data") if is_structured and isinstance(value, Mapping) else value
