"""Names that people give on the command line and that come from a closed set: an unknown one is a mistake."""

from collections.abc import Iterable

from reviewloop.settings import Settings
from reviews.adapter import AdapterVersion
from reviews.errors import WrongUse
from storage.adapters.registry import AdapterStore
from storage.database import Database

_MOST_SHOWN = 20


def require_known(kind: str, name: str | None, known: Iterable[str]) -> None:
    """Refuse a name that is not among the known ones; None is no name, and always fits.

    Args:
        kind: What is named, such as "label".
        name: The name that was given.
        known: The names that there are.

    Raises:
        WrongUse: Which lists the known names.
    """
    names = sorted(set(known))
    if name is None or name in names:
        return
    listed = ", ".join(names[:_MOST_SHOWN]) + (" …" if len(names) > _MOST_SHOWN else "")
    there_is = f"there is {listed}" if names else "there is none yet"
    raise WrongUse(f"There is no {kind} '{name}': {there_is}.")


def require_task(settings: Settings, database: Database, task: str | None) -> None:
    """Refuse a task that no adapter answers and that no setting names.

    Raises:
        WrongUse: Which lists the tasks that there are.
        Unavailable: If the database does not answer.
    """
    if task is not None:
        require_known("task", task, _tasks(settings, _versions(database)))


def require_task_and_label(
    settings: Settings, database: Database, task: str | None, label: str | None
) -> None:
    """Refuse a task that there is not, and a label that no adapter of the task can give.

    Raises:
        WrongUse: Which lists the names that there are.
        Unavailable: If the database does not answer.
    """
    if task is None and label is None:
        return
    versions = _versions(database)
    require_known("task", task, _tasks(settings, versions))
    labels = {name for version in versions if task in {None, version.task} for name in version.labels}
    require_known("label", label, labels)


def _versions(database: Database) -> list[AdapterVersion]:
    return AdapterStore(database).list_versions()


def _tasks(settings: Settings, versions: Iterable[AdapterVersion]) -> set[str]:
    configured = {*settings.consumer.tasks, settings.classifier.task}
    return configured | {version.task for version in versions}
