"""What one record of a source says, by its settings: a review, a withdrawal, or nothing.

The settings are compiled once. After that a record costs one parse, and one lookup for each named field.
"""

from collections.abc import Callable

from pydantic import TypeAdapter, ValidationError

from reviews.errors import InvalidMessage, Undecodable, WrongUse
from reviews.message import ReviewMessage
from reviews.record_value import CutBytes, too_long
from reviews.sources.direct import direct_parser
from reviews.sources.record_parts import Decode, Headers, RawRecord, RecordParts, RecordPlace, decoded
from reviews.sources.rules import MappedReview, ShapeRules, withdrawn_id
from reviews.sources.settings import FieldRules, Format, SourceSettings, TextRule, TimeRule, ValueRule
from reviews.sources.shapes import Getter, Shape, Slots
from reviews.withdrawal import Withdrawal, WithdrawalKind, read_withdrawal

Mapped = MappedReview | Withdrawal | None
"""What a record says; None: its source leaves it out."""

OWN_NAMES = FieldRules.model_validate(
    {name: name for name in ("id", "text", "product", "source", "published_at", "stars")}
)
"""The fields under the names that the reviews topic has."""
_OF_EVENTS = OWN_NAMES.model_copy(
    update={
        "source": ValueRule(path=("source", "$headers.ce_source")),
        "published_at": TimeRule(path=("published_at", "$headers.ce_time")),
    }
)
_WHOLE_TEXT = TextRule(path=("$value",))
_EVENT_TYPE = "application/cloudevents"
_ANY_JSON = TypeAdapter[object](object)


class SourceMapping:
    """Reads the records of one source.

    Args:
        source: Its settings.
        max_bytes: Longer values are refused.
        decode_value: Decodes values, of json-schema to the bytes of the JSON; None for json and text.
        decode_key: Decodes keys; None for json and text.

    Raises:
        WrongUse: If a format needs a decoder, and there is none.
    """

    def __init__(
        self,
        source: SourceSettings,
        max_bytes: int,
        decode_value: Decode | None = None,
        decode_key: Decode | None = None,
    ) -> None:
        self._source = source
        self._max_bytes = max_bytes
        self._decode = decode_value or _own_decoder(source.value_format)
        self._decode_key = _unwrapping(decode_key or _own_decoder(source.keys_format) or _same, source)
        self._is_json = source.is_json
        self._read: Callable[[bytes, RecordParts], Mapped] = {
            "debezium": self._of_change,
            "cloudevents": self._of_event,
        }.get(source.preset, self._of_value)
        fields = fields_of(source)
        shape = _main_shape(source)
        self._direct = direct_parser(source, fields, shape.prefixes)
        self._main = ShapeRules(shape, source, fields)
        self._event = (
            ShapeRules(_event_shape(), source, fields) if source.preset == "cloudevents" else self._main
        )
        self._before, self._tombstone = Shape(_BEFORE, looks_into_key=True), Shape(looks_into_key=True)
        self._ids: dict[WithdrawalKind, Getter] = {}
        if fields.id is not None:
            self._ids = {
                "delete": withdrawn_id(self._before, fields.id),
                "tombstone": withdrawn_id(self._tombstone, fields.id),
            }

    def direct(self, record: RawRecord) -> ReviewMessage | None:
        """The review of a record, where one look at each field is enough; None: :meth:`read` says what it is.

        Raises:
            Unavailable: If a schema registry does not answer.
        """
        parser, value = self._direct, record.value
        if parser is None or value is None:
            return None
        try:
            if self._decode is None:
                return parser.parse(value, self._max_bytes)
            if isinstance(value, CutBytes) or len(value) > self._max_bytes:
                return None
            content = self._decode(value, record.headers)
            if self._is_json and isinstance(content, bytes):
                return parser.parse(content, self._max_bytes)
            return parser.from_fields(content)
        except InvalidMessage:
            return None

    def read(self, record: RawRecord, timestamp_ms: int, place: RecordPlace) -> Mapped:
        """What a record says.

        Args:
            record: As it was delivered.
            timestamp_ms: Kafka's time of it; of the first attempt, where it is a replay.
            place: Of it, or of the first attempt.

        Raises:
            Undecodable: If its bytes are not what the source declares.
            InvalidMessage: If they are, and make no review.
            Unavailable: If a schema registry does not answer.
        """
        parts = RecordParts(record, timestamp_ms, place, self._decode_key)
        value = record.value
        if value is None:
            return self._of_tombstone(parts)
        if isinstance(value, CutBytes) or len(value) > self._max_bytes:
            raise Undecodable("too_long", str(too_long(value, self._max_bytes)))
        return self._read(value, parts)

    def _of_value(self, value: bytes, parts: RecordParts) -> MappedReview | None:
        return self._main.review(self._pick(self._main.shape, self._decoded(value, parts)), parts)

    def _of_tombstone(self, parts: RecordParts) -> Withdrawal | None:
        does = self._source.tombstones or ("ignore" if self._source.preset == "debezium" else "refuse")
        if does == "withdraw":
            return self._withdrawal("tombstone", {}, parts)
        if does == "ignore":
            return None
        raise InvalidMessage(
            "tombstone",
            "The record has no value (a tombstone): the setting tombstones of its source can ignore such "
            "records, or let them withdraw reviews.",
        )

    def _of_change(self, value: bytes, parts: RecordParts) -> Mapped:
        """A change event of Debezium: https://debezium.io/documentation/reference/stable/connectors/."""
        content = self._decoded(value, parts)
        slots = self._pick(self._main.shape, content)
        operation = slots.get("op")
        if operation in ("c", "u", "r"):
            return self._main.review(slots, parts)
        if operation == "d":
            return self._withdrawal("delete", self._pick(self._before, content), parts)
        if operation is None:
            raise InvalidMessage(
                "not_a_change",
                "The value has no 'op', which every change event of Debezium has: if they are unwrapped by "
                "ExtractNewRecordState, their preset is plain.",
            )
        raise InvalidMessage(
            "unknown_operation",
            "The change is none of a row (op is not one of c, u, r and d): it says no review.",
        )

    def _of_event(self, value: bytes, parts: RecordParts) -> MappedReview | None:
        """A CloudEvent, by its Kafka protocol binding 1.0.2, in binary or in structured mode."""
        content_type = (parts.header("content-type") or "").partition(";")[0].strip().lower()
        if content_type == f"{_EVENT_TYPE}+json":
            slots = self._event.shape.pick_from_bytes(value, self._max_bytes)
            if "data_base64" in slots:
                raise Undecodable("binary_data", "The CloudEvent has data_base64; only data in JSON is read.")
            return self._event.review(slots, parts)
        if content_type.startswith(_EVENT_TYPE):
            raise Undecodable(
                "unknown_event_format",
                "The CloudEvent is structured in another format than JSON, or one of a batch; only "
                "application/cloudevents+json is read.",
            )
        if parts.header("ce_specversion") is None:
            raise Undecodable(
                "not_an_event",
                "The record is no CloudEvent: it has neither a header ce_specversion nor a content-type of "
                "application/cloudevents+json.",
            )
        return self._of_value(value, parts)

    def _withdrawal(self, kind: WithdrawalKind, slots: Slots, parts: RecordParts) -> Withdrawal:
        try:
            found = self._ids[kind](slots, parts)
        except ValueError as err:
            raise InvalidMessage("bad_id", f"The id in the {kind} is not valid: {err}.") from None
        return read_withdrawal(found, kind)

    def _decoded(self, value: bytes, parts: RecordParts) -> object:
        return value if self._decode is None else decoded(self._decode, value, parts.record.headers)

    def _pick(self, shape: Shape, content: object) -> Slots:
        if self._is_json and isinstance(content, bytes):
            return shape.pick_from_bytes(content, self._max_bytes)
        return shape.pick(content)


_AFTER = (("payload", "after"), ("after",))
_BEFORE = (("payload", "before"), ("before",))


def fields_of(source: SourceSettings) -> FieldRules:
    """Where the fields of a source are, also those that its settings leave to its preset."""
    if source.fields is None:
        if source.preset == "text":
            return FieldRules(text=_WHOLE_TEXT)
        return _OF_EVENTS if source.preset == "cloudevents" else OWN_NAMES
    if source.fields.text is None:
        return source.fields.model_copy(update={"text": _WHOLE_TEXT})
    return source.fields


def _main_shape(source: SourceSettings) -> Shape:
    if source.preset == "debezium":
        shape = Shape(_AFTER)
        shape.ask("op", (("payload", "op"), ("op",)))
        return shape
    return Shape([("payload",)] if source.preset == "connect-json" else [()])


def _event_shape() -> Shape:
    """Of an event in structured mode, with the attributes that one in binary mode has as headers."""
    shape = Shape([("data",)], event=("ce_", ()))
    shape.ask("data_base64", [("data_base64",)])
    return shape


def _own_decoder(written: Format) -> Decode | None:
    """What decodes text; None for JSON, which is picked from its bytes.

    Raises:
        WrongUse: If it is a format of another kind.
    """
    if written == "text":
        return _decode_text
    if written == "json":
        return None
    raise WrongUse(f"The format {written} needs a decoder, which the extra 'formats' has.")


def _decode_text(raw: bytes, _headers: Headers) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as err:
        raise Undecodable("not_utf8", f"It is not UTF-8: {err.reason} at byte {err.start}.") from None


def _same(raw: bytes, _headers: Headers) -> bytes:
    return raw


def _unwrapping(decode: Decode, source: SourceSettings) -> Decode:
    """Keys as objects; those of Kafka Connect's JsonConverter without their schema."""
    is_json = source.keys_format in {"json", "json-schema"}
    may_be_wrapped = source.preset in {"debezium", "connect-json"}

    def unwrapped(raw: bytes, headers: Headers) -> object:
        key = decode(raw, headers)
        if is_json and isinstance(key, bytes):
            try:
                key = _ANY_JSON.validate_json(key)
            except ValidationError:
                raise Undecodable("bad_key", "The key is not JSON (key_format of its source).") from None
        if may_be_wrapped and isinstance(key, dict) and key.keys() == {"schema", "payload"}:
            return key["payload"]
        return key

    return unwrapped
