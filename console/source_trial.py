"""Trying a source: what its settings make of live records of a topic, and which settings would suit them.

The command and the page show the same. Records are read outside every group, and nothing is stored.
"""

import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError
from pydantic_core import from_json

from broker.sampling import SampledRecord, sample_topic
from broker.settings import KafkaSettings
from reviews.errors import InvalidMessage, Undecodable, WrongUse
from reviews.message import parse_review
from reviews.sources.mapping import Mapped, SourceMapping
from reviews.sources.proposal import SourceProposal, propose
from reviews.sources.record_parts import RecordPlace, decoded
from reviews.sources.rules import MappedReview
from reviews.sources.settings import Format, SourceSettings
from reviews.sources.topics import Decoders
from reviews.sources.writing import write_section
from reviews.withdrawal import Withdrawal

LONGEST_SECTION = 32 * 1024
_FRAME_BYTES = 5
_GOOD_SHARE = 0.9
_SHOWN_FIELDS = 30

TriedOutcome = Literal["review", "withdrawal", "left out", "dead letter"]


class TriedRecord(NamedTuple):
    """What became of one record.

    Attributes:
        place: ``PARTITION:OFFSET``.
        outcome: What it would become.
        review_id: The id of the review, or of the one that it withdraws; None where there is none.
        text: The text of the review.
        product: The review's.
        source: The review's.
        published_at: The review's; None where Kafka's time stands in.
        stars: The review's.
        attributes: Further fields of the review.
        stage: Where it failed.
        reason: By a short stable name.
        message: What is wrong, in a sentence.
    """

    place: str
    outcome: TriedOutcome
    review_id: str | None = None
    text: str | None = None
    product: str | None = None
    source: str | None = None
    published_at: datetime | None = None
    stars: float | None = None
    attributes: Mapping[str, Any] | None = None
    stage: str | None = None
    reason: str | None = None
    message: str | None = None


class SourceTrial(NamedTuple):
    """What a trial showed.

    Attributes:
        section: The settings that were tried, as a section of the settings file.
        records: What became of each record.
        proposed: Other settings, as a section, where these do not suit the records; None where they do, or
            where nothing better is known.
        remarks: What a person should know about the proposal, in sentences.
    """

    section: str
    records: Sequence[TriedRecord]
    proposed: str | None
    remarks: Sequence[str]

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How many records had which outcome, the most frequent first."""
        return dict(Counter(record.outcome for record in self.records).most_common())

    @property
    def suits(self) -> bool:
        """Whether nearly all records are read."""
        bad = sum(record.outcome == "dead letter" for record in self.records)
        return bad <= (1 - _GOOD_SHARE) * len(self.records)


class SourceTrier:
    """Tries sources on live records.

    Args:
        kafka: How to reach the brokers.
        max_bytes: The longest value that workers take.
        decoders: Makes the decoders of a source.
        schema_kind: The format of a schema by its number in the registry; None where nobody knows.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        max_bytes: int,
        decoders: Decoders,
        schema_kind: Callable[[int], Format | None] = lambda _: None,
    ) -> None:
        self._kafka = kafka
        self._max_bytes = max_bytes
        self._decoders = decoders
        self._schema_kind = schema_kind

    def run(self, topic: str, source: SourceSettings, limit: int) -> SourceTrial:
        """Try a source on the latest records of a topic.

        Args:
            topic: The topic, which the source need not name.
            source: Its settings.
            limit: At most so many records.

        Raises:
            Unavailable: If the brokers, or a schema registry that is needed, do not answer.
            WrongUse: If there is no such topic, or a format cannot be decoded here.
        """
        records = sample_topic(self._kafka, topic, limit, self._max_bytes)
        tried = SourceTrial(section_of(source), self._try(source, records), None, ())
        if tried.suits and records:
            return tried
        proposal = self._propose(records)
        if proposal.format is None:
            return tried._replace(remarks=proposal.remarks)
        return tried._replace(proposed=write_proposal(topic, proposal), remarks=proposal.remarks)

    def _try(self, source: SourceSettings, records: Sequence[SampledRecord]) -> list[TriedRecord]:
        read: Callable[[SampledRecord], Mapped]
        if source.is_plain:
            read = lambda record: MappedReview(parse_review(record.value, self._max_bytes))  # noqa: E731
        else:
            mapping = SourceMapping(source, self._max_bytes, *self._decoders(source))
            read = lambda record: mapping.read(  # noqa: E731
                record, record.timestamp, RecordPlace(record.topic_id, record.partition, record.offset)
            )
        return [_tried(record, read, "parse" if source.is_plain else "map") for record in records]

    def _propose(self, records: Sequence[SampledRecord]) -> SourceProposal:
        proposal = propose(records)
        framed = next((record.value for record in records if _is_framed(record.value)), None)
        if proposal.format is not None or framed is None:
            return proposal
        kind = self._schema_kind(int.from_bytes(framed[1:_FRAME_BYTES], "big"))
        if kind is None:
            return proposal
        decode, _ = self._decoders(SourceSettings(topic="any", format=kind))
        values = [_decoded_or_none(decode, record) for record in records]
        return propose(records, values)._replace(format=kind)


def section_of(source: SourceSettings) -> str:
    """The section of a source, with what it does not leave to defaults."""
    values = source.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    short: dict[str, Any] = {
        name: _shortened(values[name]) for name in ("fields", "attributes") if name in values
    }
    return write_section({**values, **short})


def _shortened(value: Any) -> Any:
    """Paths as people write them: alone where there is one, and no table around nothing but paths."""
    if isinstance(value, list):
        return (
            value[0] if len(value) == 1 and isinstance(value[0], str) else [_shortened(one) for one in value]
        )
    if not isinstance(value, Mapping):
        return value
    inner = {name: _shortened(one) for name, one in value.items()}
    return inner["path"] if inner.keys() == {"path"} else inner


def read_section(text: str) -> SourceSettings:
    """A source from the text of its section.

    Raises:
        WrongUse: If it is none; says what is wrong with it.
    """
    if len(text) > LONGEST_SECTION:
        raise WrongUse(f"The section is longer than {LONGEST_SECTION:,} characters.")
    try:
        found = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as err:
        raise WrongUse(f"The section is not TOML: {err}.") from err
    sources = found.get("sources")
    if (
        not isinstance(sources, list)
        or len(sources) != 1
        or len(found) != 1
        or not isinstance(sources[0], dict)
    ):
        raise WrongUse("Give one section, which begins with [[sources]].")
    return make_source(sources[0])


def make_source(values: Mapping[str, Any]) -> SourceSettings:
    """A source from its settings by name.

    Raises:
        WrongUse: If they are not valid; says which and why.
    """
    try:
        return SourceSettings.model_validate(values)
    except ValidationError as err:
        problems = err.errors(include_url=False, include_input=False)
        said = [_problem([str(part) for part in one["loc"]], str(one["msg"])) for one in problems[:5]]
        raise WrongUse(f"The section is not valid: {'; '.join(said)}.") from None


def _problem(path: Sequence[str], message: str) -> str:
    return f"{'.'.join(path)}: {_plain(message)}" if path else _plain(message)


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")


def write_proposal(topic: str, proposal: SourceProposal) -> str:
    """A proposal as a section, with what else was found as comments."""
    values: dict[str, Any] = {"topic": topic}
    if proposal.preset != "plain":
        values["preset"] = proposal.preset
    if proposal.format not in {None, "json", "text"}:
        values["format"] = proposal.format
    values["fields"] = proposal.fields
    used = _paths_in(proposal.fields)
    others = [one for one in proposal.seen if one.path not in used and one.values][:_SHOWN_FIELDS]
    comments = list(proposal.remarks)
    comments += [f"further field: {one.path} ({one.kind}), such as {one.example}" for one in others]
    return write_section(values, comments)


def _paths_in(fields: Any) -> set[str]:
    if isinstance(fields, str):
        return {fields}
    inner = (
        fields.values() if isinstance(fields, Mapping) else fields if isinstance(fields, list | tuple) else ()
    )
    return {path for one in inner for path in _paths_in(one)}


def _tried(
    record: SampledRecord, read: Callable[[SampledRecord], Mapped], stage: Literal["parse", "map"]
) -> TriedRecord:
    place = f"{record.partition}:{record.offset}"
    try:
        mapped = read(record)
    except InvalidMessage as err:
        failed = "decode" if isinstance(err, Undecodable) else stage
        return TriedRecord(place, "dead letter", stage=failed, reason=err.reason, message=str(err))
    if mapped is None:
        return TriedRecord(place, "left out")
    if isinstance(mapped, Withdrawal):
        return TriedRecord(place, "withdrawal", mapped.id)
    message = mapped.message
    return TriedRecord(
        place,
        "review",
        message.id,
        message.text,
        message.product,
        message.source,
        message.published_at,
        message.stars,
        None if mapped.attributes is None else from_json(mapped.attributes),
    )


def _is_framed(value: bytes | None) -> bool:
    return value is not None and value[:1] == b"\0" and len(value) > _FRAME_BYTES


def _decoded_or_none(decode: Any, record: SampledRecord) -> object:
    if record.value is None or decode is None:
        return None
    try:
        return decoded(decode, record.value, record.headers)
    except InvalidMessage:
        return None
