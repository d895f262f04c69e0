"""Tasks as people describe them: their labels, each with a description and a few example sentences.

From these texts a zero-shot adapter is made, which answers before anybody has labelled a review. Labels of
sentiment in a usual spelling have bundled texts; all others need a text that people wrote.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from reviews.errors import WrongUse
from reviews.fields import is_visible
from reviews.label import check_label_names

SENTIMENT_TASK = "sentiment"
MAX_EXAMPLES = 100
MAX_TASKS = 64
_MAX_TEXT_CHARACTERS = 2_000


def _visible_text(text: str) -> str:
    if "\x00" in text or not any(map(is_visible, text)):
        raise ValueError("must hold something to read")
    return text


LabelText = Annotated[str, Field(max_length=_MAX_TEXT_CHARACTERS), AfterValidator(_visible_text)]


class LabelSettings(BaseModel):
    """One label of a task: the section ``[[tasks.labels]]``; frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="The label, as adapters and people answer.")
    description: LabelText | None = Field(None, description="What the label means, in a sentence.")
    examples: tuple[LabelText, ...] = Field(
        (),
        max_length=MAX_EXAMPLES,
        description="Sentences that this label would suit, made up or real: three are enough to begin with.",
    )

    @property
    def texts(self) -> tuple[str, ...]:
        """All that people wrote about it."""
        return (*((self.description,) if self.description else ()), *self.examples)


class TaskSettings(BaseModel):
    """One task: a section ``[[tasks]]``; frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        SENTIMENT_TASK,
        min_length=1,
        max_length=64,
        description="As consumer.tasks or classifier.task has it.",
    )
    labels: tuple[LabelSettings, ...] = Field(
        (),
        description="What may be answered: a section [[tasks.labels]] each, with name, description (a "
        "sentence) and examples (sentences that it suits, made up or real). A zero-shot adapter is made of "
        "them; empty: negative, neutral and positive.",
    )

    @model_validator(mode="after")
    def _have_distinct_labels(self) -> Self:
        check_label_names([label.name for label in self.labels])
        if len(self.labels) == 1:
            raise ValueError("a task needs two labels at least")
        return self


def _distinct_tasks(tasks: tuple[TaskSettings, ...]) -> tuple[TaskSettings, ...]:
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise ValueError("two sections [[tasks]] have one name: give each task one section")
    return tasks


Tasks = Annotated[tuple[TaskSettings, ...], Field(max_length=MAX_TASKS), AfterValidator(_distinct_tasks)]

# Of the same build in all labels, so that what tells the prototypes apart is the label alone.
_NEGATIVE = LabelSettings(
    name="negative",
    examples=(
        "It is bad, and I am disappointed.",
        "It is ugly, weak and badly made.",
        "I do not like it, and I regret the money that I spent.",
    ),
)
_NEUTRAL = LabelSettings(
    name="neutral",
    examples=(
        "It is okay, but nothing special.",
        "It has good sides and bad sides.",
        "I like some of it, but not all, and I am not sure about it.",
    ),
)
_POSITIVE = LabelSettings(
    name="positive",
    examples=(
        "It is great, and I love it.",
        "It is beautiful, strong and well made.",
        "I like it very much, and I recommend it to everybody.",
    ),
)
DEFAULT_LABELS = (_NEGATIVE, _NEUTRAL, _POSITIVE)
"""Labels of sentiment, with texts about reviews of any kind."""
_SPELLINGS: Mapping[str, LabelSettings] = {
    "negative": _NEGATIVE,
    "neg": _NEGATIVE,
    "neutral": _NEUTRAL,
    "neu": _NEUTRAL,
    "mixed": _NEUTRAL,
    "positive": _POSITIVE,
    "pos": _POSITIVE,
}


def described_labels(
    task: str, tasks: Sequence[TaskSettings], names: Sequence[str] | None = None
) -> tuple[LabelSettings, ...]:
    """The labels of a task, each with a text at least.

    Args:
        task: Its name.
        tasks: What people wrote about tasks.
        names: The labels that are wanted, in this order; None: those that people wrote, or the three of
            sentiment for the task of that name.

    Raises:
        WrongUse: If a label has no text: nobody wrote one, and it is no label of sentiment.
    """
    written = next((one.labels for one in tasks if one.name == task), ())
    if names is not None:
        known = {label.name: label for label in written}
        written = tuple(known.get(name, LabelSettings(name=name)) for name in names)
    if not written:
        if task == SENTIMENT_TASK:
            return DEFAULT_LABELS
        raise WrongUse(
            f"Nothing says which labels the task '{task}' has: write a section [[tasks]] with name = "
            f'"{task}" and, for each label, a section [[tasks.labels]] with name, description and examples.'
        )
    found = tuple(label if label.texts else _with_bundled_texts(label) for label in written)
    if without := [label.name for label in found if not label.texts]:
        raise WrongUse(
            f"Nothing says what {' and '.join(map(repr, without))} of the task '{task}' mean: write a "
            "description or some examples in its section [[tasks.labels]]."
        )
    return found


def _with_bundled_texts(label: LabelSettings) -> LabelSettings:
    """The label with the bundled texts, where it is one of sentiment in a usual spelling."""
    bundled = _SPELLINGS.get(label.name.casefold())
    return label if bundled is None else bundled.model_copy(update={"name": label.name})
