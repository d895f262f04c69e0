"""Shapes of records: where, in each kind of record, paths begin; and lookups compiled for one shape.

A shape asks for nothing but the fields that its mapping names. For JSON, one validator of pydantic-core picks
them while the value is parsed, so that no Python object is made of anything else.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic_core import SchemaValidator, core_schema

from reviews.errors import InvalidMessage, Undecodable
from reviews.record_value import RecordParser
from reviews.sources.paths import FieldPath, parse_path
from reviews.sources.record_parts import RecordParts, follow

Slots = dict[str, Any]
"""The values that were picked, by the names of their slots; missing ones are left out."""
Getter = Callable[[Slots, RecordParts], Any]
"""The value of a path, or what is made of several; None where there is none."""
Names = tuple[str, ...]

_EXAMPLE = '{"review": {"id": "1", "text": "Good."}}'
_WHOLE = "$value"
_ANYTHING: RecordParser[Any] = RecordParser(Any, "this source", _EXAMPLE)


class Shape:
    """One kind of record.

    Args:
        prefixes: Where paths into the value may begin; the first place that has the field counts.
        looks_into_key: Whether a field that the value lacks is looked up in the key.
        event: Where attributes of an event are that other records have as headers, by the headers' beginning.

    Attributes:
        prefixes: As given.
    """

    def __init__(
        self,
        prefixes: Sequence[Names] = ((),),
        *,
        looks_into_key: bool = False,
        event: tuple[str, Names] | None = None,
    ) -> None:
        self.prefixes = tuple(prefixes)
        self._looks_into_key = looks_into_key
        self._event = event
        self._slots: dict[str, tuple[Names, ...]] = {}
        self._needs_whole = False
        self._parser: RecordParser[Slots] | None = None

    def ask(self, name: str, places: Sequence[Names]) -> None:
        """Pick what is at the first of these places, under this name."""
        self._slots[name] = tuple(places)
        self._parser = None

    def getter(self, path: FieldPath, name: str | None = None) -> Getter:
        """How the value of a path is found.

        Args:
            path: The path.
            name: The name of the slot, if it is in the value; None: a new one.
        """
        if path.part == "key":
            return lambda _slots, parts: follow(parts.key(), path.steps)
        if path.part == "timestamp":
            return lambda _slots, parts: parts.moment()
        if path.part == "headers":
            return self._header(path.steps[0])
        return self._value(path.steps, name)

    def first_present(self, paths: Sequence[str]) -> Getter:
        """How the first value is found that one of these paths has."""
        getters = [self.getter(parse_path(path)) for path in paths]
        if len(getters) == 1:
            return getters[0]

        def first(slots: Slots, parts: RecordParts) -> Any:
            for get in getters:
                if (value := get(slots, parts)) is not None:
                    return value
            return None

        return first

    def pick_from_bytes(self, value: bytes, max_bytes: int) -> Slots:
        """The slots of a value that is JSON.

        Raises:
            Undecodable: If it is none, or too long.
        """
        try:
            if self._needs_whole:
                return self._pick_with_whole(_ANYTHING.parse(value, max_bytes))
            return self._compiled().parse(value, max_bytes)
        except InvalidMessage as err:
            raise Undecodable(err.reason, str(err)) from None

    def pick(self, value: object) -> Slots:
        """The slots of a value that was decoded already.

        Raises:
            InvalidMessage: If it has no fields, and some are asked for.
        """
        return self._pick_with_whole(value) if self._needs_whole else self._compiled().from_fields(value)

    def _pick_with_whole(self, value: object) -> Slots:
        slots = self._compiled().from_fields(value) if isinstance(value, Mapping) else {}
        slots[_WHOLE] = value
        return slots

    def _compiled(self) -> RecordParser[Slots]:
        if self._parser is None:
            fields = {name: _slot(places) for name, places in self._slots.items()}
            validator = SchemaValidator(core_schema.typed_dict_schema(fields))
            self._parser = RecordParser(validator, "a record of this source", _EXAMPLE)
        return self._parser

    def _value(self, steps: Names, name: str | None) -> Getter:
        places = [(*prefix, *steps) for prefix in self.prefixes]
        if () in places:
            self._needs_whole = True
            slot = _WHOLE
        else:
            slot = name or f"{len(self._slots)}"
            self.ask(slot, places)
        if self._looks_into_key and steps:
            return partial(_from_slot_or_key, slot, steps)
        return lambda slots, _parts: slots.get(slot)

    def _header(self, name: str) -> Getter:
        if self._event is not None and name.startswith(self._event[0]):
            slot = f"{len(self._slots)}"
            self.ask(slot, [(*self._event[1], name.removeprefix(self._event[0]))])
            return lambda slots, _parts: slots.get(slot)
        return lambda _slots, parts: parts.header(name)


def _from_slot_or_key(slot: str, steps: Names, slots: Slots, parts: RecordParts) -> Any:
    value = slots.get(slot)
    return follow(parts.key(), steps) if value is None else value


def _slot(places: Sequence[Names]) -> core_schema.TypedDictField:
    """A slot for what is at the first of these places, as it is; nothing where it is at none of them."""
    paths: list[list[str | int]] = [[*place] for place in places]
    return core_schema.typed_dict_field(core_schema.any_schema(), required=False, validation_alias=paths)
