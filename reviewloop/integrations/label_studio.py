"""Label Studio by its HTTP interface: reviews to be labelled go there, annotations come back.

The console's webhook takes annotations in by themselves. Label Studio sends each message once and not again,
so what was sent while the console was away is read here: with the same reader and the same store, which know
what they have had.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock
from time import monotonic
from typing import Any, NamedTuple

from console.annotations import (
    AnnotationReader,
    LabelStudioAnnotation,
    LabelStudioProject,
    LabelStudioTask,
)
from console.settings import LabelStudioSettings
from reviewloop.integrations.web_api import WebApi
from reviews.errors import InvalidMessage, WrongUse
from storage.labels.annotations import AnnotationStore

_TASKS_A_PAGE = 200
_TASKS_AT_ONCE = 250
_REMEMBERED_SECONDS = 600.0
_FRESH_SECONDS = 120.0
"""A personal token's access token lives for five minutes."""
EVENTS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED", "ANNOTATIONS_DELETED")
"""What the webhook is told."""
_BACKEND = "/api/v1/label-studio"
TITLE = "ReviewLoop"


class AnnotatedTask(NamedTuple):
    """A task of Label Studio with its annotations."""

    task: LabelStudioTask
    annotations: list[LabelStudioAnnotation]


class LabelStudio:
    """One installation of Label Studio, as one of its users.

    Args:
        settings: Where it is, and the token.
        clock: Seconds that only grow.

    Raises:
        WebRefusal: From every method, if the token is not enough, or there is no such thing.
        Unavailable: From every method, if Label Studio does not answer.
    """

    def __init__(self, settings: LabelStudioSettings, clock: Callable[[], float] = monotonic) -> None:
        if settings.url is None or settings.token is None:
            raise WrongUse("Say where Label Studio is: set label_studio.url and label_studio.token.")
        self._token = settings.token.get_secret_value()
        self._clock = clock
        self._access: tuple[str, float] | None = None
        self._names: dict[int, tuple[str, float]] = {}
        self._lock = Lock()
        self._api = WebApi("Label Studio", settings.url, self._headers, settings.timeout_seconds)
        self._log_in = WebApi("Label Studio", settings.url, dict, settings.timeout_seconds)

    def annotator(self, number: int) -> str:
        """The e-mail address of a user."""
        with self._lock:
            known = self._names.get(number)
            if known is None or self._clock() - known[1] > _REMEMBERED_SECONDS:
                user = self._api.get(f"/api/users/{number}/")
                known = (str(user["email"]), self._clock())
                self._names[number] = known
            return known[0]

    def project(self, number: int) -> LabelStudioProject:
        """One project."""
        return LabelStudioProject.model_validate(self._api.get(f"/api/projects/{number}/"))

    def tasks(self, project: int) -> Iterator[AnnotatedTask]:
        """Every task of a project, in order, page by page."""
        page, seen, total = 1, 0, 1
        while seen < total:
            found = self._api.get(
                "/api/tasks/", project=project, page=page, page_size=_TASKS_A_PAGE, fields="all"
            )
            total, page = int(found["total"]), page + 1
            seen += len(found["tasks"])
            if not found["tasks"]:
                return
            for task in found["tasks"]:
                yield AnnotatedTask(
                    LabelStudioTask.model_validate(task),
                    [LabelStudioAnnotation.model_validate(one) for one in task.get("annotations") or ()],
                )

    def add_tasks(self, project: int, tasks: Iterable[Mapping[str, Any]]) -> int:
        """Add tasks to a project, some hundred at a time; how many."""
        added, rest = 0, iter(tasks)
        while some := list(islice(rest, _TASKS_AT_ONCE)):
            self._api.post(f"/api/projects/{project}/import", some)
            added += len(some)
        return added

    def connect(self, project: int, console_url: str, secret: str) -> None:
        """Connect the console to a project: for predictions, and for what happens to annotations.

        What an earlier call connected is replaced, so a token can be exchanged by calling again.

        Args:
            project: Its number.
            console_url: Where Label Studio reaches the console.
            secret: A token of the console.
        """
        backend = f"{console_url.rstrip('/')}{_BACKEND}"
        hook = f"{backend}/webhook"
        for one in self._api.get("/api/ml/", project=project):
            if one["url"] == backend:
                self._api.call("DELETE", f"/api/ml/{one['id']}")
        self._api.post(
            "/api/ml/",
            {
                "project": project,
                "url": backend,
                "title": TITLE,
                "auth_method": "BASIC_AUTH",
                "basic_auth_user": "label-studio",
                "basic_auth_pass": secret,
            },
        )
        # Label Studio makes a webhook of its own for a backend, which shows no token.
        for one in self._api.get("/api/webhooks/", project=project):
            if one["url"] == hook:
                self._api.call("DELETE", f"/api/webhooks/{one['id']}/")
        self._api.post(
            "/api/webhooks/",
            {
                "project": project,
                "url": hook,
                "send_payload": True,
                "send_for_all_actions": False,
                "headers": {"Authorization": f"Bearer {secret}"},
                "actions": list(EVENTS),
            },
        )

    def _headers(self) -> Mapping[str, str]:
        if self._token.count(".") != 2:
            return {"Authorization": f"Token {self._token}"}
        # A personal token is one that access tokens are got with.
        if self._access is None or self._clock() - self._access[1] > _FRESH_SECONDS:
            answer = self._log_in.post("/api/token/refresh", {"refresh": self._token})
            self._access = (str(answer["access"]), self._clock())
        return {"Authorization": f"Bearer {self._access[0]}"}


@dataclass(slots=True)
class Pulled:
    """What became of the annotations of a project.

    Attributes:
        stored: How many are news.
        known: How many were known.
        deleted: How many are there no more, and were taken back.
        ignored: Why others are no answers, with their numbers.
    """

    stored: int = 0
    known: int = 0
    deleted: int = 0
    ignored: list[str] = field(default_factory=list)


def pull(
    studio: LabelStudio, number: int, reader: AnnotationReader, store: AnnotationStore, name: str
) -> Pulled:
    """Take in every annotation of a project; what is known changes nothing.

    An annotation that is missing from its task was deleted. Of a task that is gone, the answers stay: a
    project may be emptied when the work is done.

    Args:
        studio: Where the project is.
        number: Of the project.
        reader: Reads its annotations.
        store: Keeps them.
        name: The project's, by which the store knows it.
    """
    done, tasks = Pulled(), studio.tasks(number)
    while page := list(islice(tasks, _TASKS_A_PAGE)):
        standing = store.standing(name, [one.task.id for one in page])
        for task, annotations in page:
            _take(task, annotations, reader, store, done)
            gone = standing.get(task.id, set()) - {one.id for one in annotations}
            done.deleted += store.delete(name, sorted(gone))
    return done


def _take(
    task: LabelStudioTask,
    annotations: Sequence[LabelStudioAnnotation],
    reader: AnnotationReader,
    store: AnnotationStore,
    done: Pulled,
) -> None:
    for annotation in annotations:
        try:
            is_news = store.store(reader.read(task, annotation))
        except InvalidMessage as err:
            done.ignored.append(f"task {task.id}, annotation {annotation.id}: {err}")
        else:
            done.stored += is_news
            done.known += not is_news
