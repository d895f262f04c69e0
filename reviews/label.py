"""Labels: the message format of the labels topic, and stored answers.

A message names its review by the publisher's id. To pin a label is to attach it to the version of the review
that it judged; a label whose review is not stored yet waits for it.
"""

import json
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict

from reviews.errors import InvalidMessage, WrongUse
from reviews.fields import MAX_ID_CHARACTERS, Annotator, Id, Moment, Seconds, ShortText, is_visible
from reviews.record_value import RecordParser

UNSURE = "unsure"
"""The answer of an annotator who cannot tell; no task may have a label of this name."""
MAX_LABELS = 1_000

ONE_LABEL_EACH = (
    "Each review has one label of a task; tasks in which each label is answered with yes or no are not "
    "supported: make each label a task of its own, with the labels yes and no."
)
_BETWEEN_LABELS = re.compile(r"[,;|]")
_NUMBER = re.compile(r"[0-9]{1,3}(\.0+)?")
_SHOWN_LABELS = 20
_CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def check_label_names(names: Sequence[str]) -> None:
    """Refuse names that cannot be the labels of one task: each is stored, indexed, shown and typed.

    Raises:
        ValueError: Saying which name is wrong, and why.
    """
    if len(names) > MAX_LABELS:
        raise ValueError(f"there are {len(names):,} labels; a task has at most {MAX_LABELS:,}")
    seen: set[str] = set()
    for number, name in enumerate(names):
        if (fault := _fault_of_name(name)) is not None:
            raise ValueError(f"label {number} {fault}")
        # Two ways to write one letter look the same to everybody who has to choose between them.
        written = unicodedata.normalize("NFC", name)
        if written in seen:
            raise ValueError(f"the label {name!r} is there twice; labels must be distinct")
        seen.add(written)
    for name in names:
        if _is_several(name, names):
            raise ValueError(f"the label {name!r} is several labels in one. {ONE_LABEL_EACH[:-1]}")


def require_one_each(names: Collection[str]) -> None:
    """Refuse names of which one is several others, with commas, semicolons or bars between.

    Raises:
        WrongUse: Naming one of them.
    """
    for name in names:
        if _is_several(name, names):
            raise WrongUse(f"The label {name!r} is several labels in one. {ONE_LABEL_EACH}")


def refuse_list(value: object) -> object:
    """The value, unless it is a list of labels, be it one that is written as text.

    Raises:
        ValueError: If it is a list.
    """
    if isinstance(value, list | tuple | set) or (isinstance(value, str) and _is_written_list(value)):
        raise ValueError(f"must be one label, not a list. {ONE_LABEL_EACH[:-1]}")
    return value


def _is_written_list(text: str) -> bool:
    if not (text.startswith("[") and text.endswith("]")):
        return False
    try:
        return isinstance(json.loads(text), list)
    except (ValueError, RecursionError):
        return False


def _is_several(name: str, names: Collection[str]) -> bool:
    """Whether a name is several of these names in one.

    Each of them would become a class of its own, and the model choose between "price" and "price;delivery".
    """
    parts = [part.strip() for part in _BETWEEN_LABELS.split(name)]
    return len(parts) > 1 and all(part in names for part in parts)


def _is_control(character: str) -> bool:
    """NUL, escapes, line ends, half surrogate pairs, and what turns the direction of the text around it.

    Joiners are none: Persian and Hindi words need them.
    """
    return unicodedata.category(character) in _CONTROLS or character in _TURNING


def _fault_of_name(name: str) -> str | None:
    """What keeps a name from being a label; None where nothing does."""
    if len(name) > MAX_ID_CHARACTERS:
        return f"has {len(name):,} characters; at most {MAX_ID_CHARACTERS} are allowed"
    if any(map(_is_control, name)):
        return f"is {name!r}, which holds characters that cannot be printed or stored"
    if not any(map(is_visible, name)):
        return "has no visible character"
    if name != name.strip():
        return f"is {name!r}, which begins or ends with blanks"
    if name == UNSURE:
        return f"is {UNSURE!r}, the answer of people who cannot tell; give the class another name"
    return None


def _judgement(value: object) -> object:
    """A name, a number or null; the union alone would speak of strings and integers."""
    value = refuse_list(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if value is None or isinstance(value, str) or is_number:
        if is_number and not 0 <= value < MAX_LABELS:  # type: ignore[operator]  # it is a number
            raise ValueError(f"must be a number from 0 to {MAX_LABELS - 1}, or a name")
        return value
    raise ValueError(f'must be a label\'s name or number, "{UNSURE}" or null')


Judgement = Annotated[ShortText | int | None, BeforeValidator(_judgement)]
"""A label's name, its number, or None."""


class LabelMessage(BaseModel):
    """An answer as a publisher sends it; unknown fields are ignored.

    Attributes:
        id: The publisher's own name for the answer; not used.
        task: What was decided about the review.
        review_id: The review that was judged.
        label: The label's name, or its number in the order of the task's adapter, which may be text; None or
            "unsure": the annotator cannot tell.
        annotator: Who says so; of several answers of one annotator the latest counts. ``model:NAME``: a
            model.
        labelled_at: When (UTC); the version of the review that was current then is the one that was judged.
            Where missing, Kafka's time of the record stands in.
        seconds: How long it took; at most ten minutes are kept.
    """

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    id: Id | None = None
    task: Id = "sentiment"
    review_id: Id
    label: Judgement
    annotator: Annotator
    labelled_at: Moment = None
    seconds: Seconds = None


_PARSER = RecordParser(
    LabelMessage,
    "a label",
    '{"review_id": "1", "label": "positive", "annotator": "ann"}',
)


def parse_label(raw: bytes | None, max_bytes: int | None = None) -> LabelMessage:
    """A label from the raw value of one Kafka record.

    Args:
        raw: UTF-8 JSON, with or without a byte order mark; None is a tombstone.
        max_bytes: Longer values are refused; None takes any length.

    Raises:
        InvalidMessage: With a reason to count by and a sentence that never quotes the input.
    """
    return _PARSER.parse(raw, max_bytes)


def labelled_in_future() -> InvalidMessage:
    """The refusal of a label from the future, which would beat every correction until then."""
    return InvalidMessage(
        "labelled_in_future",
        "The field 'labelled_at' is in the future, by more than clocks may differ "
        "(consumer.clock_tolerance_seconds): give the time at which it was said, with its zone, or none.",
    )


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The labels of one task.

    Attributes:
        ordered: Those of the active adapter (of the newest one, if there is none), in its order.
        retired: Those that only other adapters of the task have.
        became: The label of now for each name that was renamed or merged.
        split: For each name that was split, how, in a sentence.
        numbered: The name that each number stands for, by its number; empty: as ``ordered``. A number keeps
            its meaning when the labels change.
    """

    ordered: tuple[str, ...]
    retired: frozenset[str] = frozenset()
    became: Mapping[str, str] = field(default_factory=dict)
    split: Mapping[str, str] = field(default_factory=dict)
    numbered: tuple[str, ...] = ()


def resolve_label(label: str | int | None, vocabulary: Vocabulary | None) -> str | None:
    """The label's name; None for "unsure".

    Args:
        label: As the message has it: a name, a number or None; a number in text, such as files of text have
            it, is that number unless the task has a label of that name.
        vocabulary: The labels of the task; None where it has no adapter yet, and any name is taken.

    Raises:
        InvalidMessage: If the task has no such label; says which it has.
    """
    if label is None or label == UNSURE:
        return None
    if vocabulary is None:
        if isinstance(label, int):
            raise InvalidMessage(
                "unknown_label",
                "The label is a number, but its task has no adapter yet that gives numbers a meaning: "
                "give the label's name.",
            )
        if (fault := _fault_of_name(label)) is not None:
            raise InvalidMessage("bad_label", f"The label {fault}.")
        return label
    known = (vocabulary.ordered, vocabulary.retired, vocabulary.became, vocabulary.split)
    if isinstance(label, str) and any(label in names for names in known):
        return _of_now(label, vocabulary)
    number = label if isinstance(label, int) else _number(label)
    numbered = vocabulary.numbered or vocabulary.ordered
    if number is not None and number < len(numbered):
        return _of_now(numbered[number], vocabulary)
    if isinstance(label, str) and _is_several(label, {name for names in known for name in names}):
        raise InvalidMessage("bad_label", f"The label is several of its task's in one. {ONE_LABEL_EACH}")
    raise InvalidMessage("unknown_label", f"The label is none of its task's: {_shown(vocabulary)}.")


def _of_now(name: str, vocabulary: Vocabulary) -> str:
    """The label that a name of any time is now."""
    if name in vocabulary.split:
        raise InvalidMessage(
            "label_split", f"The label is none of its task's any more: {vocabulary.split[name]}. Say which."
        )
    return vocabulary.became.get(name, name)


def _number(label: str) -> int | None:
    return int(float(label)) if _NUMBER.fullmatch(label) else None


def _shown(vocabulary: Vocabulary) -> str:
    """The valid answers, as far as they fit into a sentence."""
    number_of = {name: number for number, name in enumerate(vocabulary.numbered or vocabulary.ordered)}
    named = [f"{name} ({number_of[name]})" for name in vocabulary.ordered]
    shown = [*named, *sorted(vocabulary.retired)][:_SHOWN_LABELS]
    more = len(named) + len(vocabulary.retired) - len(shown)
    rest = f" and {more} more" if more > 0 else ""
    return f"{', '.join(shown)}{rest}, or {UNSURE}"


class Label(NamedTuple):
    """What an annotator said about one record.

    Attributes:
        record: The version of the review that was judged.
        task: What was decided about it.
        label: The label's name; None is "unsure".
        annotator: Who said so.
        source: How it came here: ``topic``, ``terminal``, ``import`` …
        labelled_at: When it was said (UTC).
        origin: What makes it one row however often it arrives: the record of the labels topic that brought
            it, or the negative mark of an imported line; None where it cannot arrive twice.
        seconds: How long it took, at most ten minutes; None where nobody measured it.
    """

    record: int
    task: str
    label: str | None
    annotator: str
    source: str
    labelled_at: datetime
    origin: int | None = None
    seconds: float | None = None


class UnpinnedLabel(NamedTuple):
    """A label that names its review by the publisher's id, and so not yet the version that was judged.

    Attributes:
        review_id: The publisher's id.
        task: As in :class:`Label`, like the others.
        label: The label's name; None is "unsure".
        annotator: Who said so.
        source: How it came here.
        labelled_at: When it was said (UTC).
        origin: As in :class:`Label`.
        seconds: As in :class:`Label`.
    """

    review_id: str
    task: str
    label: str | None
    annotator: str
    source: str
    labelled_at: datetime
    origin: int | None = None
    seconds: float | None = None


class LatestAnswer(NamedTuple):
    """What an annotator said last about a review.

    Attributes:
        label: The label's name; None is "unsure".
        labelled_at: When it was said (UTC).
        is_taken_back: Whether it is that an earlier answer was taken back.
    """

    label: str | None
    labelled_at: datetime
    is_taken_back: bool


class LabelledReview(NamedTuple):
    """A record with the answer that its annotators agree on, and what the model said.

    Attributes:
        record: The version of the review that was judged.
        review_id: The publisher's id.
        text: Its text.
        product: What is reviewed.
        source: Where the review comes from.
        published_at: When it was published (UTC).
        label: The consensus.
        labelled_at: When the latest answer was given (UTC).
        first_labelled_at: When the first answer was given (UTC).
        received_at: When the first answer came into this database (UTC).
        adapter_version: Which adapter scored it; None where it was never scored for the task.
        predicted: The label it gave; None as above.
        probabilities: In the order of that adapter's labels; None as above.
        margin: Between its two best labels; None as above.
        is_drawn: Whether the random draw of the audit slice asked about it. Labels that came by themselves
            may be of any choice: of complaints, or of as many of each class.
        draw_weight: How much it counts among what was drawn, in (0, 1]: what was drawn with a greater chance
            counts less.
        by_models: Whether only models answered: it may train, and is no truth to judge by.
    """

    record: int
    review_id: str
    text: str
    product: str | None
    source: str | None
    published_at: datetime
    label: str
    labelled_at: datetime
    first_labelled_at: datetime
    received_at: datetime
    adapter_version: str | None = None
    predicted: str | None = None
    probabilities: Sequence[float] | None = None
    margin: float | None = None
    is_drawn: bool = False
    draw_weight: float = 1.0
    by_models: bool = False


Vocabularies = Mapping[str, Vocabulary]
"""The labels of each task that has an adapter."""


class AuditRow(NamedTuple):
    """One labelled review of the audit slice.

    Attributes:
        record: The review.
        text: What to score where an adapter's answer is missing.
        label: What people agree on.
        active: The active adapter's probabilities in its order of labels; None: it never scored this one.
        previous: The same of the adapter before it.
        draw_weight: How much it counts, in (0, 1]: what was drawn with a greater chance counts less.
    """

    record: int
    text: str
    label: str
    active: tuple[float, ...] | None
    previous: tuple[float, ...] | None
    draw_weight: float = 1.0
