"""``/api/v1/label-studio``: an ML backend for Label Studio, by the protocol of label-studio-ml-backend.

Label Studio asks for predictions and tells what happens to annotations. It shows its token as the password of
basic authentication, or in a header of its webhook. What it hands over beside that (its address, an access
token) is not used: where Label Studio is, the settings say.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from console.access import Actor, Annotator, Forbidden, Parts, Viewer
from console.annotations import (
    AnnotationReader,
    LabelStudioAnnotation,
    LabelStudioProject,
    LabelStudioTask,
    Number,
    tags_of_config,
)
from console.parts import ConsoleParts
from console.routes.try_it import scorer_of
from reviews.account import TOKEN_ACTOR
from reviews.errors import InvalidMessage, WrongUse
from reviews.label_studio import ChoicesTag, record_of, to_prediction
from reviews.queue_item import Guess
from reviews.slices import slice_of
from storage.adapters.registry import AdapterStore
from storage.labels.annotations import AnnotationStore
from storage.labels.progress import guesses

log = structlog.get_logger()
router = APIRouter(prefix="/label-studio", tags=["label-studio"])

_MOST_TASKS = 1_000
_AT_ONCE = 32
_LONGEST_TEXT = 10_000
_MOST_ANNOTATIONS = 1_000


class _Sent(BaseModel):
    """What Label Studio sends; what is not needed is ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class LabelStudioHealth(BaseModel):
    """That the backend is there."""

    status: Literal["UP"] = "UP"
    model_class: str = "ReviewLoop"


class LabelStudioSetup(_Sent):
    """A project that is connected: its labelling configuration."""

    # `schema` is a method of pydantic's models.
    config: str = Field(default="", alias="schema")


class LabelStudioModel(BaseModel):
    """Which adapters answer."""

    # The prefix is pydantic's own elsewhere.
    model_config = ConfigDict(protected_namespaces=())

    model_version: str


class TasksToPredict(_Sent):
    """Tasks that want a prediction."""

    tasks: list[LabelStudioTask] = Field(max_length=_MOST_TASKS)
    label_config: str


class LabelStudioPredictions(LabelStudioModel):
    """For each task a list: of one prediction, or of none."""

    results: list[list[dict[str, Any]]]


class LabelStudioEvent(_Sent):
    """What happened in Label Studio.

    Attributes:
        action: What: ``ANNOTATION_CREATED``, ``ANNOTATION_UPDATED``, ``ANNOTATIONS_DELETED`` …
        project: Where.
        annotation: The annotation, or several.
        annotations: Deleted ones: objects with a number.
        task: The task of the annotation, or those of several.
    """

    action: Annotated[str, Field(max_length=128)]
    project: dict[str, Any] | None = None
    annotation: Any = None
    annotations: Any = None
    task: Any = None


class EventResult(BaseModel):
    """What became of it.

    Attributes:
        stored: How many annotations were news.
        known: How many messages were repeated or late.
        ignored: Why others were not taken.
    """

    stored: int = 0
    known: int = 0
    ignored: list[str] = []


@router.get("/health")
def tell_health(_who: Viewer) -> LabelStudioHealth:
    """Say that the backend is there."""
    return LabelStudioHealth()


@router.post("/setup")
def set_up(parts: Parts, _who: Viewer, body: LabelStudioSetup) -> LabelStudioModel:
    """Check that a project's configuration asks for a task with its labels; say which adapter answers."""
    tags = tags_of_config(body.config, parts.tasks)
    versions = _active(parts, tags)
    for task, version in versions.items():
        lacking = set(AdapterStore(parts.database).find(version).labels) - set(tags[task].labels)
        if tags[task].labels and lacking:
            raise WrongUse(
                f"The Choices tag '{tags[task].name}' lacks {', '.join(sorted(lacking))}, which the adapter "
                f"{version} answers with: add these choices."
            )
        if parts.scorer is not None:
            parts.scorer.state(task)  # begins to load it
    return LabelStudioModel(model_version=_joined(versions.values()))


@router.post("/predict")
def predict_tasks(parts: Parts, _who: Viewer, body: TasksToPredict) -> LabelStudioPredictions:
    """What the active adapter says of tasks; nothing where that would bias an answer of the audit slice."""
    tags = tags_of_config(body.label_config, parts.tasks)
    versions = _active(parts, tags)
    wanted = [
        (task, _text(task, next(iter(tags.values()))))
        for task in body.tasks
        if parts.label_studio.predictions and not _is_audit(parts, task)
    ]
    asked = [(task, text) for task, text in wanted if text]
    said: dict[int, list[tuple[ChoicesTag, Guess]]] = {}
    for name, version in versions.items():
        for (task, _), guess in zip(asked, _guesses(parts, name, version, asked), strict=True):
            said.setdefault(task.id, []).append((tags[name], guess))
    return LabelStudioPredictions(
        model_version=_joined(versions.values()),
        results=[_prediction(said.get(task.id, ())) for task in body.tasks],
    )


@router.post("/webhook")
def take_event(parts: Parts, who: Annotator, body: LabelStudioEvent) -> EventResult:
    """Take an annotation in, change what it says, or take it back; what cannot be one is ignored and said.

    An error would help nobody: Label Studio neither shows it nor sends the message again.
    """
    _require_token(who)
    kind = body.action
    if kind in {"ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED"}:
        result = _store(parts, body)
    elif kind == "ANNOTATIONS_DELETED":
        result = _delete(parts, body)
    else:
        result = EventResult(ignored=[f"Nothing is done about {kind}."])
    for reason in result.ignored:
        log.warning("label_studio_event_ignored", action=kind, reason=reason)
    return result


def _require_token(who: Actor) -> None:
    """Answers bear the names of Label Studio's users, so a person's session is not enough."""
    if not who.name.startswith(TOKEN_ACTOR):
        raise Forbidden("This is for Label Studio: show a token ('reviewloop console tokens add').")


def _active(parts: ConsoleParts, tags: Mapping[str, ChoicesTag]) -> dict[str, str]:
    """The active adapter of each task that is asked for.

    Raises:
        WrongUse: If a task has none.
    """
    store = AdapterStore(parts.database)
    found = {task: store.active(task) for task in tags}
    for task, activation in found.items():
        if activation is None:
            raise WrongUse(f"No adapter is active for the task '{task}': activate one first.")
    return {task: activation.version for task, activation in found.items() if activation is not None}


def _joined(versions: Iterable[str]) -> str:
    return " + ".join(versions)


def _is_audit(parts: ConsoleParts, task: LabelStudioTask) -> bool:
    review_id = task.data.get("review_id")
    return isinstance(review_id, str) and slice_of(review_id, parts.shares) == "audit"


def _text(task: LabelStudioTask, tag: ChoicesTag) -> str:
    """The text that a task shows; empty where it shows none."""
    value = task.data.get(tag.field) if tag.field else None
    return value[:_LONGEST_TEXT].strip() if isinstance(value, str) else ""


def _guesses(
    parts: ConsoleParts, name: str, version: str, asked: Sequence[tuple[LabelStudioTask, str]]
) -> list[Guess]:
    """What the model says of each text: as a worker stored it, where the active adapter did, else now."""
    records = [record_of(task.data) for task, _ in asked]
    stored = guesses(parts.database, name, [record for record in records if record is not None])
    known = {
        index: stored[record]
        for index, record in enumerate(records)
        if record in stored and stored[record].adapter_version == version
    }
    left = [index for index in range(len(asked)) if index not in known]
    for first in range(0, len(left), _AT_ONCE):
        some = left[first : first + _AT_ONCE]
        classifier, said = scorer_of(parts).predict(name, [asked[index][1] for index in some])
        for index, one in zip(some, said, strict=True):
            known[index] = Guess(one.label, one.confidence, classifier.adapter_version)
    return [known[index] for index in range(len(asked))]


def _prediction(said: Sequence[tuple[ChoicesTag, Guess]]) -> list[dict[str, Any]]:
    if not said:
        return []
    score = min(guess.confidence for _, guess in said)
    version = _joined(guess.adapter_version for _, guess in said)
    return [to_prediction([(tag, guess.label) for tag, guess in said], score, version)]


def _store(parts: ConsoleParts, body: LabelStudioEvent) -> EventResult:
    result = EventResult()
    try:
        project = LabelStudioProject.model_validate(body.project)
        reader = AnnotationReader(
            parts.database, parts.tasks, project, parts.annotator_of, parts.label_studio.models
        )
        pairs = _pairs(body.annotation, body.task)
    except (ValueError, WrongUse) as err:
        return EventResult(ignored=[_in_words(err)])
    store = AnnotationStore(parts.database)
    for annotation, task in pairs:
        try:
            is_news = store.store(
                reader.read(
                    LabelStudioTask.model_validate(task), LabelStudioAnnotation.model_validate(annotation)
                )
            )
        except (ValueError, InvalidMessage) as err:
            result.ignored.append(_in_words(err))
        else:
            result.stored += is_news
            result.known += not is_news
    return result


def _pairs(annotations: Any, tasks: Any) -> list[tuple[Any, Any]]:
    """Each annotation with its task: one of each, or lists of both."""
    if not isinstance(annotations, list):
        return [(annotations, tasks)]
    by_number = (
        {one.get("id"): one for one in tasks if isinstance(one, dict)} if isinstance(tasks, list) else {}
    )
    return [
        (one, by_number.get(one.get("task")) if isinstance(one, dict) else None)
        for one in annotations[:_MOST_ANNOTATIONS]
    ]


def _delete(parts: ConsoleParts, body: LabelStudioEvent) -> EventResult:
    try:
        project = LabelStudioProject.model_validate(body.project)
        deleted = _Deleted.model_validate({"annotations": body.annotations})
    except ValueError as err:
        return EventResult(ignored=[_in_words(err)])
    numbers = [one.id for one in deleted.annotations]
    news = AnnotationStore(parts.database).delete(project.name, numbers)
    return EventResult(stored=news, known=len(numbers) - news)


class _Numbered(_Sent):
    id: Number


class _Deleted(_Sent):
    annotations: list[_Numbered] = Field(max_length=100_000)


def _in_words(err: Exception) -> str:
    """What is wrong, without what was sent."""
    errors = getattr(err, "errors", None)
    if errors is None:
        return str(err)
    first = errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the message'}: {first['msg']}"
