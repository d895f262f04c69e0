"""Reviews straight from the values of a source, by one validation a record, where each field has one place.

The validator is that of :class:`~reviews.message.ReviewMessage`, with the places of the source. It makes the
same reviews as :mod:`reviews.sources.rules`; what it refuses is read by those rules, which say what is wrong.
"""

from collections.abc import Sequence
from typing import Any, Final

from pydantic_core import CoreSchema, SchemaValidator, core_schema

from reviews.errors import InvalidMessage
from reviews.fields import (
    FEWEST_STARS,
    MAX_ID_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MOST_STARS,
    read_moment,
    read_stars,
)
from reviews.message import PLAIN_TEXT, ReviewMessage, build_review
from reviews.record_value import RecordParser
from reviews.sources.coercions import read_plain, stars_reader, time_reader
from reviews.sources.paths import parse_path
from reviews.sources.settings import FieldRule, FieldRules, SourceSettings, StarsRule, TimeRule, ValueRule

SEEN: Final = (
    "!-~\u00a1-\u00ac\u00ae-\u017f\u03b1-\u03c9\u0410-\u044f\u05d0-\u05ea\u0621-\u063a\u0905-\u0939\u0e01-\u0e30"
    "\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fa5\uac00-\ud7a3"
)
"""Characters that are visible beyond doubt, as ranges of a regular expression; nearly every text has one."""

_VISIBLE = rf"\A[^\x00{SEEN}]*[{SEEN}][^\x00]*\z"
_SIMPLE: Final[dict[str, CoreSchema]] = {
    "id": core_schema.str_schema(min_length=1, max_length=MAX_ID_CHARACTERS, pattern=_VISIBLE),
    "text": core_schema.str_schema(pattern=_VISIBLE),
    "product": core_schema.nullable_schema(
        core_schema.str_schema(min_length=1, max_length=MAX_NAME_CHARACTERS, pattern=r"\A[^\x00]*\z")
    ),
}
_SIMPLE["source"] = _SIMPLE["product"]
"""Most values of a field, read without a call of Python; the field's own schema reads the others."""
_WHOLE_STARS: Final = {float(stars): stars for stars in range(FEWEST_STARS, MOST_STARS + 1)}
_REQUIRED = frozenset({"id", "text"})


def direct_parser(
    source: SourceSettings, fields: FieldRules, prefixes: Sequence[tuple[str, ...]]
) -> RecordParser[ReviewMessage] | None:
    """A parser of the source's records; None where they need more than one look at each field.

    Args:
        source: Its attributes, its conditions and its preset decide that, too.
        fields: Where the fields of a review are.
        prefixes: Where paths into the value begin.
    """
    is_simple = source.preset in {"plain", "connect-json"} and source.value_format != "text"
    if not is_simple or source.attributes or source.where or fields.id is None:
        return None
    rules = dict(fields.rules())
    if not all(map(_is_direct, rules.values())):
        return None
    constants = {
        name: rule.constant
        for name, rule in rules.items()
        if isinstance(rule, ValueRule) and rule.constant is not None
    }
    try:
        build_review({"id": "1", "text": PLAIN_TEXT, **constants})
    except InvalidMessage:
        return None
    model: Any = ReviewMessage.__pydantic_core_schema__
    content = model["schema"]
    placed = {}
    for name, field in content["fields"].items():
        rule = rules.get(name)
        if rule is None or name in constants:
            placed[name] = core_schema.model_field(_always(constants.get(name)))
        else:
            read = _schema(name, rule, field["schema"], is_json=source.is_json)
            placed[name] = core_schema.model_field(read, validation_alias=_places(rule, prefixes))
    # Without this, pydantic-core takes the validator that the class has already, whatever the schema says.
    own: dict[str, Any] = {"_use_prebuilt": False}
    validator = SchemaValidator({**model, "schema": {**content, "fields": placed}}, None, **own)
    return RecordParser(validator, "a record of this source", "{}")


def _is_direct(rule: FieldRule) -> bool:
    if isinstance(rule, ValueRule) and rule.constant is not None:
        return True
    path = parse_path(rule.path[0]) if rule.path is not None and len(rule.path) == 1 else None
    return path is not None and path.part == "value" and bool(path.steps)


def _places(rule: FieldRule, prefixes: Sequence[tuple[str, ...]]) -> str | list[list[str | int]]:
    steps = parse_path((rule.path or ())[0]).steps
    paths: list[list[str | int]] = [[*prefix, *steps] for prefix in prefixes]
    if len(paths) == 1 and len(paths[0]) == 1 and isinstance(paths[0][0], str):
        return paths[0][0]  # looked up in half the time
    return paths


def _always(value: str | None) -> CoreSchema:
    """The same for every record, also where the record has a field of this name."""
    return core_schema.with_default_schema(
        core_schema.no_info_plain_validator_function(lambda _found: value), default=value
    )


def _schema(name: str, rule: FieldRule, own: CoreSchema, *, is_json: bool) -> CoreSchema:
    """How the value at the place of a field is read.

    Args:
        name: Of the field.
        rule: How its source declares it.
        own: The field's own schema, in a message.
        is_json: Whether values are of the kinds that JSON has.
    """
    schema = _of_value(name, rule, own, is_json=is_json)
    return schema if name in _REQUIRED else core_schema.with_default_schema(schema, default=None)


def _of_value(name: str, rule: FieldRule, own: CoreSchema, *, is_json: bool) -> CoreSchema:
    if isinstance(rule, TimeRule):
        if rule.unit is not None:
            return core_schema.no_info_plain_validator_function(time_reader(rule.unit))
        return core_schema.no_info_plain_validator_function(read_moment) if is_json else _PLAIN_MOMENT
    if isinstance(rule, StarsRule) and rule.scale is not None:
        scaled = stars_reader(rule.scale)
        return core_schema.no_info_plain_validator_function(lambda value: read_stars(scaled(value)))
    if name == "stars" and not is_json:
        return core_schema.no_info_plain_validator_function(_read_plain_stars)
    if not is_json:
        own = core_schema.no_info_before_validator_function(read_plain, own)
    if name not in _SIMPLE:
        return own
    return core_schema.union_schema([_SIMPLE[name], own], mode="left_to_right")


def _read_plain_stars(value: object) -> object:
    found = _WHOLE_STARS.get(value) if type(value) is float else None
    return read_stars(read_plain(value)) if found is None else found


def _read_plain_moment(value: object) -> object:
    return read_moment(read_plain(value))


# A time in UTC, as binary formats give it, is taken as it is, without a call of Python.
_PLAIN_MOMENT: Final = core_schema.nullable_schema(
    core_schema.union_schema(
        [
            core_schema.datetime_schema(strict=True, tz_constraint=0),
            core_schema.no_info_plain_validator_function(_read_plain_moment),
        ],
        mode="left_to_right",
    )
)
