"""Settings of sources: which topics are read, and where in their records the fields of a review are."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from reviews.sources.coercions import TimeUnit
from reviews.sources.paths import FieldPath, parse_path
from reviews.topic_name import topic_name

MAX_PATHS: Final = 64
"""How many paths one source may have."""
MAX_ATTRIBUTES: Final = 32
MAX_SOURCES: Final = 256

_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_BACK_REFERENCE = re.compile(r"\\[1-9]|\(\?P=")

Preset = Literal["plain", "debezium", "connect-json", "cloudevents", "text"]
"""How a record is wrapped, or that its value is the text."""
Format = Literal["json", "json-schema", "avro", "protobuf", "text"]
"""How the bytes of a value or a key are written."""
Tombstones = Literal["refuse", "ignore", "withdraw"]
"""What a key without a value does: becomes a dead letter, is left out, or withdraws its review."""


def _path(text: str) -> str:
    parse_path(text)
    return text


def _as_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


PathText = Annotated[str, AfterValidator(_path)]
"""A path into a record, as text."""
FirstPresent = Annotated[tuple[PathText, ...], BeforeValidator(_as_list), Field(min_length=1, max_length=8)]
"""A path, or several, of which the first that has a value counts."""


def _as_path(value: object) -> object:
    """A path alone, or a list of them, stands for the table with nothing else."""
    return {"path": value} if isinstance(value, str | list | tuple) else value


class FieldRule(BaseModel):
    """Where the value of one field comes from; exactly one way of those that a field knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: FirstPresent | None = None

    @model_validator(mode="before")
    @classmethod
    def _take_short_form(cls, value: Any) -> Any:
        return _as_path(value)

    @model_validator(mode="after")
    def _take_one_way(self) -> Self:
        ways = [name for name in ("path", "constant", "join", "hash") if name in type(self).model_fields]
        given = [name for name in ways if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(ways)}")
        return self

    def paths(self) -> Iterator[FieldPath]:
        """Every path that it names."""
        for name in ("path", "join", "hash"):
            for one in getattr(self, name, None) or ():
                yield from map(parse_path, (one,) if isinstance(one, str) else one)


class ValueRule(FieldRule):
    """A product or a source: from a path, or the same for every record."""

    constant: str | None = Field(default=None, min_length=1)


class IdRule(FieldRule):
    """The id of a review: from a path, or a hash of several fields."""

    hash: tuple[FirstPresent, ...] | None = Field(default=None, min_length=1, max_length=16)


class TextRule(FieldRule):
    """The text of a review: from a path, or several texts joined."""

    join: tuple[FirstPresent, ...] | None = Field(default=None, min_length=1, max_length=16)
    separator: str = Field(default="\n\n", max_length=100)


class TimeRule(FieldRule):
    """When a review was published."""

    unit: TimeUnit | None = None


class StarsRule(FieldRule):
    """The author's own rating."""

    scale: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _have_a_width(self) -> Self:
        if self.scale is not None and not 0 < abs(self.scale[1] - self.scale[0]) < float("inf"):
            raise ValueError("scale: must be the worst and the best rating, which differ")
        return self


class FieldRules(BaseModel):
    """Where the fields of a review are; those that are not named stay empty."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: IdRule | None = None
    text: TextRule | None = None
    product: ValueRule | None = None
    source: ValueRule | None = None
    published_at: TimeRule | None = None
    stars: StarsRule | None = None

    def rules(self) -> Iterator[tuple[str, FieldRule]]:
        """The named fields with their rules."""
        for name in type(self).model_fields:
            if (rule := getattr(self, name)) is not None:
                yield name, rule


class Condition(BaseModel):
    """What a field must be for its record to be read; exactly one of the three."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: PathText
    one_of: tuple[bool | int | float | str, ...] | None = Field(default=None, min_length=1, max_length=100)
    none_of: tuple[bool | int | float | str, ...] | None = Field(default=None, min_length=1, max_length=100)
    present: bool | None = None

    @model_validator(mode="after")
    def _ask_one_thing(self) -> Self:
        if sum(asked is not None for asked in (self.one_of, self.none_of, self.present)) != 1:
            raise ValueError("needs exactly one of one_of, none_of, present")
        return self


def _require_name(topic: str) -> None:
    try:
        topic_name(topic)
    except ValueError:
        raise ValueError("topic: must be the name of one topic; a pattern goes under pattern") from None


def _require_pattern(pattern: str) -> None:
    try:
        re.compile(f"(?:{pattern})")  # it becomes a part of a larger one, for which it can set no flags
    except re.error as err:
        raise ValueError(f"pattern: must be a regular expression: {err}") from None
    if not pattern or _BACK_REFERENCE.search(pattern):
        raise ValueError("pattern: must be a regular expression without references to its own groups")


class SourceSettings(BaseModel):
    """One entry of ``[[sources]]``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic: str | None = Field(default=None, description="The topic; or give a pattern.")
    pattern: str | None = Field(
        default=None,
        max_length=500,
        description="A regular expression (Python's) for whole names of topics; new topics join.",
    )
    preset: Preset = Field(
        default="plain",
        description="How records are wrapped: not at all, by Debezium, by Kafka Connect's JsonConverter, as "
        "CloudEvents, or not even as fields: the value is the text.",
    )
    format: Format | None = Field(
        default=None, description="How values are written; unset, json, and text with that preset."
    )
    key_format: Format | None = Field(
        default=None,
        description="How keys are written; unset, like values where a field of the key is read, else text.",
    )
    schema_file: Path | None = Field(
        default=None, description="The schema of the values in a file, where no registry has it."
    )
    reader_schema_file: Path | None = Field(
        default=None,
        description="Avro: a schema that values are resolved to, with its aliases and its defaults.",
    )
    message: str | None = Field(
        default=None, max_length=500, description="Protobuf: the name of the message in the schema file."
    )
    tasks: tuple[str, ...] = Field(
        default=(), max_length=32, description="Its reviews are scored for these; empty: consumer.tasks."
    )
    tombstones: Tombstones | None = Field(
        default=None,
        description="What a key without a value does; unset, it becomes a dead letter (refuse), and nothing "
        "with debezium (ignore), where the event before it said the same.",
    )
    fields: FieldRules | None = Field(
        default=None,
        description="Where the fields of a review are; unset, under their own names. Without id, a review is "
        "named after the place of its record.",
    )
    attributes: dict[str, FirstPresent] = Field(
        default_factory=dict, description="Further fields to keep with the review, by the names they get."
    )
    where: tuple[Condition, ...] = Field(
        default=(), max_length=16, description="Only records that fulfil all of these are read."
    )

    @model_validator(mode="after")
    def _name_topics_once(self) -> Self:
        if (self.topic is None) == (self.pattern is None):
            raise ValueError("needs exactly one of topic, pattern")
        if self.topic is not None:
            _require_name(self.topic)
        if self.pattern is not None:
            _require_pattern(self.pattern)
        return self

    @model_validator(mode="after")
    def _be_bounded(self) -> Self:
        if len(self.attributes) > MAX_ATTRIBUTES:
            raise ValueError(f"attributes: has {len(self.attributes)} entries; at most {MAX_ATTRIBUTES}")
        for name in self.attributes:
            if not _ATTRIBUTE.fullmatch(name):
                raise ValueError(
                    f"attributes: '{name[:64]}' is no name for one: a letter, then up to 63 letters, digits, "
                    "'_' and '-'"
                )
        if (paths := sum(1 for _ in self.paths())) > MAX_PATHS:
            raise ValueError(f"names {paths} paths; at most {MAX_PATHS}")
        return self

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.preset == "text") != (self.value_format == "text"):
            raise ValueError("preset text and format text go together: such a value has no fields")
        if self.value_format == "text" and any(path.part == "value" and path.steps for path in self.paths()):
            raise ValueError(
                "the value is a text, which has no fields: use $value, $key, $headers or $timestamp"
            )
        if self.preset == "connect-json" and self.value_format not in {"json", "json-schema"}:
            raise ValueError("preset connect-json is for format json: other formats need no such wrapping")
        if self.fields is not None and self.fields.text is None and self.preset != "text":
            raise ValueError("fields: text is missing: say where the text of a review is")
        if self.is_withdrawing and self.fields is not None and self.fields.id is None:
            raise ValueError(
                "fields: id is missing: a deletion has to name the review that it withdraws, which the place "
                "of its own record does not"
            )
        return self

    @property
    def value_format(self) -> Format:
        """How values are written."""
        return self.format or ("text" if self.preset == "text" else "json")

    @property
    def keys_format(self) -> Format:
        """How keys are written."""
        if self.key_format is not None:
            return self.key_format
        has_fields = self.preset == "debezium" or any(
            path.part == "key" and path.steps for path in self.paths()
        )
        if not has_fields:
            return "text"
        return "json" if self.value_format == "text" else self.value_format

    @property
    def is_json(self) -> bool:
        """Whether values are JSON, of which fields are picked while it is parsed."""
        return self.value_format in {"json", "json-schema"}

    @property
    def is_withdrawing(self) -> bool:
        """Whether some of its records withdraw reviews."""
        return self.preset == "debezium" or self.tombstones == "withdraw"

    @property
    def is_plain(self) -> bool:
        """Whether its records are what the reviews topic has, and nothing is declared beyond it."""
        is_declared = self.fields or self.attributes or self.where or self.tombstones not in {None, "refuse"}
        return self.preset == "plain" and self.value_format == "json" and not is_declared

    @property
    def name(self) -> str:
        """What people call it: its topic or its pattern."""
        return self.topic or f"/{self.pattern}/"

    def reads(self, topic: str) -> bool:
        """Whether this topic is one of its own."""
        return topic == self.topic or (
            self.pattern is not None and re.fullmatch(self.pattern, topic) is not None
        )

    def paths(self) -> Iterator[FieldPath]:
        """Every path that it names."""
        for _, rule in self.fields.rules() if self.fields else ():
            yield from rule.paths()
        for first_present in self.attributes.values():
            yield from map(parse_path, first_present)
        yield from (parse_path(condition.path) for condition in self.where)


def source_of(sources: Sequence[SourceSettings], topic: str) -> SourceSettings | None:
    """What reads a topic: the source that names it, else the first whose pattern matches its whole name."""
    named = (source for source in sources if source.topic == topic)
    return next(named, None) or next((source for source in sources if source.reads(topic)), None)


def _distinct(sources: tuple[SourceSettings, ...]) -> tuple[SourceSettings, ...]:
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} has two entries: one topic has one mapping")
    return sources


Sources = Annotated[tuple[SourceSettings, ...], Field(max_length=MAX_SOURCES), AfterValidator(_distinct)]
"""The topics that reviews are read from; empty: ``kafka.reviews_topic``, with plain reviews."""
