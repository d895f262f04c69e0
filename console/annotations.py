"""Reads what Label Studio tells of an annotation: which review it judged, who made it, and what it says."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from reviews.errors import InvalidMessage
from reviews.fields import Annotator
from reviews.label import Vocabularies, resolve_label
from reviews.label_studio import (
    ChoicesTag,
    GivenAnnotation,
    annotator_name,
    answered_tags,
    choice_under,
    of_account,
    project_name,
    read_config,
    record_of,
    tags_of_tasks,
)
from storage.database import Database
from storage.labels.store import LabelStore

_LARGEST_NUMBER = 2**63 - 1
_NAME = TypeAdapter(Annotator)
Number = Annotated[int, Field(ge=0, le=_LARGEST_NUMBER)]


class _Part(BaseModel):
    """A part of Label Studio's JSON; what is not needed is ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class LabelStudioProject(_Part):
    """A project.

    Attributes:
        id: Its number.
        created_at: When it was created.
        label_config: Its labelling configuration.
    """

    id: Number
    created_at: AwareDatetime
    label_config: str = ""

    @property
    def name(self) -> str:
        """What tells it from the projects of other installations."""
        return project_name(self.id, self.created_at)


class LabelStudioTask(_Part):
    """A task.

    Attributes:
        id: Its number.
        data: What is shown, and which review it is.
    """

    id: Number
    data: dict[str, Any] = Field(default_factory=dict)


class LabelStudioAnnotation(_Part):
    """An annotation.

    Attributes:
        id: Its number.
        result: What it says, in parts.
        completed_by: The user who made it: a number, or an object with the number and the e-mail address.
        updated_at: When it was last changed.
        was_cancelled: Whether the user skipped the task.
    """

    id: Number
    result: list[Any] = Field(default_factory=list)
    completed_by: int | dict[str, Any] | None = None
    updated_at: AwareDatetime
    was_cancelled: bool = False


class AnnotationReader:
    """Reads annotations of one project.

    Args:
        database: Where reviews and adapters are.
        tasks: The tasks that may be asked for, the most important first.
        project: Where the annotations are from.
        annotator_of: The name of a user by the number; None: the number is the name.
        models: The users that are models, and the models' names.

    Raises:
        WrongUse: If no tag of the project's configuration asks for a task.
    """

    def __init__(
        self,
        database: Database,
        tasks: Sequence[str],
        project: LabelStudioProject,
        annotator_of: Callable[[int], str] | None,
        models: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._store = LabelStore(database)
        self._tags = tags_of_tasks(read_config(project.label_config), tasks)
        self._vocabularies: Vocabularies = self._store.vocabularies()
        self._project = project
        self._annotator_of = annotator_of
        self._models = models

    def read(self, task: LabelStudioTask, annotation: LabelStudioAnnotation) -> GivenAnnotation:
        """What an annotation says.

        Raises:
            InvalidMessage: If it is about no stored review, or does not have one label for a tag.
            Unavailable: If the annotator's name has to be asked for, and Label Studio does not answer.
        """
        return GivenAnnotation(
            project=self._project.name,
            number=annotation.id,
            in_task=task.id,
            record=self._record(task.data, annotation.updated_at),
            annotator=self._annotator(annotation.completed_by),
            changed_at=annotation.updated_at,
            answers={} if annotation.was_cancelled else self._answers(annotation.result),
            passed_on=tuple(self._tags) if annotation.was_cancelled else (),
        )

    def _answers(self, result: Sequence[Any]) -> Mapping[str, str | None]:
        given = set(answered_tags(result, [tag.name for tag in self._tags.values()]))
        return {
            task: resolve_label(choice_under(result, tag.name), self._vocabularies.get(task))
            for task, tag in self._tags.items()
            if tag.name in given
        }

    def _record(self, data: Mapping[str, Any], moment: datetime) -> int:
        record = record_of(data)
        if record is not None and not self._store.unknown_records([record]):
            return record
        review_id = data.get("review_id")
        is_id = isinstance(review_id, str) and _is_name(review_id)
        found = self._store.judged(str(review_id), moment) if is_id else None
        if record is not None or found is None:
            raise InvalidMessage(
                "unknown_review",
                "The task's data name no stored review: 'record' or 'review_id' is expected, as 'reviewloop "
                "label-studio push' and 'label export' write them.",
            )
        return found

    def _annotator(self, completed_by: Any) -> str:
        number = completed_by if isinstance(completed_by, int) else None
        name = annotator_name(completed_by)
        if number is not None and name is not None and self._annotator_of is not None:
            name = self._annotator_of(number)
        if name is None or not _is_name(name):
            raise InvalidMessage("missing_annotator", "The annotation does not say who made it.")
        return of_account(name, self._models)


def _is_name(value: str) -> bool:
    try:
        _NAME.validate_python(value)
    except ValidationError:
        return False
    return True


def tags_of_config(config: str, tasks: Sequence[str]) -> dict[str, ChoicesTag]:
    """Which tag of a labelling configuration asks for which task.

    Raises:
        WrongUse: If it cannot be read, or none does.
    """
    return tags_of_tasks(read_config(config), tasks)
