"""The rules of one source, compiled for one shape of records: from picked values to a review."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from reviews.errors import InvalidMessage
from reviews.message import ReviewMessage, build_review
from reviews.sources.coercions import (
    hash_values,
    join_texts,
    read_plain,
    stars_reader,
    time_reader,
    write_attributes,
)
from reviews.sources.paths import parse_path
from reviews.sources.record_parts import RecordParts
from reviews.sources.settings import (
    Condition,
    FieldRule,
    FieldRules,
    IdRule,
    SourceSettings,
    StarsRule,
    TextRule,
    TimeRule,
    ValueRule,
)
from reviews.sources.shapes import Getter, Shape, Slots

Fulfils = Callable[[Slots, RecordParts], bool]


class MappedReview(NamedTuple):
    """A review of a source.

    Attributes:
        message: Its fields.
        attributes: Further fields as UTF-8 JSON; None where the source names none, or the record has none.
    """

    message: ReviewMessage
    attributes: bytes | None = None


class ShapeRules:
    """From the slots of a shape to a review.

    Args:
        shape: Asked for every field that the rules name.
        source: Its attributes and its conditions.
        fields: Its fields.
    """

    def __init__(self, shape: Shape, source: SourceSettings, fields: FieldRules) -> None:
        self.shape = shape
        self._fields = fields
        self._computed = [
            (name, getter)
            for name, rule in fields.rules()
            if (getter := _field(shape, name, rule, is_json=source.is_json)) is not None
        ]
        if fields.id is None:
            self._computed.append(("id", lambda _slots, parts: str(parts.place)))
        self._attributes = [(name, shape.first_present(paths)) for name, paths in source.attributes.items()]
        self._conditions = [_condition(shape, condition) for condition in source.where]

    def review(self, slots: Slots, parts: RecordParts) -> MappedReview | None:
        """The review; None where the record does not fulfil the source's conditions.

        Raises:
            InvalidMessage: If there is none in these values.
        """
        for fulfils in self._conditions:
            if not fulfils(slots, parts):
                return None
        for name, get in self._computed:
            try:
                value = get(slots, parts)
            except ValueError as err:
                raise self._explained(
                    InvalidMessage(f"bad_{name}", f"The field '{name}' is not valid: {err}.")
                ) from None
            if value is not None:
                slots[name] = value
        try:
            message = build_review(slots)
        except InvalidMessage as err:
            raise self._explained(err) from None
        return MappedReview(message, self._attributes_of(slots, parts) if self._attributes else None)

    def _attributes_of(self, slots: Slots, parts: RecordParts) -> bytes | None:
        try:
            return write_attributes({name: get(slots, parts) for name, get in self._attributes})
        except ValueError as err:
            raise InvalidMessage(
                "bad_attributes", f"The attributes of the review are not valid: they {err}."
            ) from None

    def _explained(self, err: InvalidMessage) -> InvalidMessage:
        """The error, with the paths that the field is read from."""
        rule = getattr(self._fields, err.reason.partition("_")[2], None)
        paths = ", ".join(f"'{path}'" for path in rule.paths()) if rule is not None else ""
        return InvalidMessage(err.reason, f"{err} Its source reads it from {paths}.") if paths else err


def withdrawn_id(shape: Shape, rule: IdRule) -> Getter:
    """How the id is found in a record that withdraws a review.

    A hash needs all its fields here: what deletes a row often states no more of it than its key.
    """
    if rule.path is not None:
        return _plain(shape.first_present(rule.path))
    getters = [shape.first_present(paths) for paths in rule.hash or ()]

    def hashed(slots: Slots, parts: RecordParts) -> str | None:
        values = [get(slots, parts) for get in getters]
        return None if any(value is None for value in values) else hash_values(values)

    return hashed


def _field(  # noqa: PLR0911  one return for each way
    shape: Shape, name: str, rule: FieldRule, *, is_json: bool
) -> Getter | None:
    """How a field is computed; None where its slot is all there is to it."""
    if isinstance(rule, ValueRule) and rule.constant is not None:
        return lambda _slots, _parts: rule.constant
    if isinstance(rule, IdRule) and rule.hash is not None:
        return _combined(shape, rule.hash, hash_values)
    if isinstance(rule, TextRule) and rule.join is not None:
        return _combined(shape, rule.join, lambda values: join_texts(values, rule.separator))
    paths = rule.path or ()
    if isinstance(rule, TimeRule) and (unit := rule.unit) is not None:
        return _converted(shape.first_present(paths), time_reader(unit))
    if isinstance(rule, StarsRule) and (scale := rule.scale) is not None:
        return _converted(shape.first_present(paths), stars_reader(scale))
    if is_json and len(paths) == 1 and (path := parse_path(paths[0])).part == "value" and path.steps:
        shape.getter(path, name)
        return None
    return _plain(shape.first_present(paths))


def _plain(get: Getter) -> Getter:
    return _converted(get, read_plain)


def _converted(get: Getter, convert: Callable[[Any], Any]) -> Getter:
    return lambda slots, parts: convert(get(slots, parts))


def _combined(
    shape: Shape, all_paths: Sequence[Sequence[str]], combine: Callable[[list[Any]], Any]
) -> Getter:
    getters = [shape.first_present(paths) for paths in all_paths]
    return lambda slots, parts: combine([get(slots, parts) for get in getters])


def _condition(shape: Shape, condition: Condition) -> Fulfils:
    get = _plain(shape.getter(parse_path(condition.path)))
    if condition.present is not None:
        return lambda slots, parts: (get(slots, parts) is not None) == condition.present
    wanted = frozenset(map(_exactly, condition.one_of or condition.none_of or ()))
    is_wanted = condition.one_of is not None

    def fulfils(slots: Slots, parts: RecordParts) -> bool:
        value = get(slots, parts)
        is_simple = isinstance(value, str | bool | int | float | Decimal)
        return (is_simple and _exactly(value) in wanted) == is_wanted

    return fulfils


def _exactly(value: Any) -> tuple[bool, Any]:
    """A value that equals no value of another kind: for Python, True is 1."""
    return isinstance(value, bool), value
