"""The public Python interface: one adapter, or several tasks with an adapter each."""

import threading
from collections.abc import Iterable
from pathlib import Path

from classifier.arguments import (
    as_base_model,
    as_directory,
    as_settings,
    as_task,
    checked_text,
    checked_texts,
)
from classifier.classifier import Classifier
from classifier.host import Host, build_in_background
from classifier.settings import ClassifierSettings
from reviews.errors import WrongUse
from reviews.prediction import Prediction


def load(
    base_model: str | Path, adapter_directory: str | Path, settings: ClassifierSettings | None = None
) -> Classifier:
    """A classifier of this base and this adapter, on the device and in the precision of the settings.

    It has answered the adapter's probes as the adapter says before it is handed out.

    Args:
        base_model: A Hugging Face id, a directory, or ``package:NAME/PATH``.
        adapter_directory: peft's files, with a manifest or without.
        settings: Device, precision, length and budget; its own ``base_model`` is not looked at. None for the
            defaults.

    Raises:
        ModelError: If the base cannot be had or loaded.
        AdapterError: If the adapter is damaged, belongs to another base, or fails its probes.
        WrongUse: If an argument is of another kind.
    """
    name, directory = as_base_model(base_model), as_directory(adapter_directory, "adapter_directory")
    return Host(name, as_settings(settings)).load(directory)


class PEFTClassifier:
    """A classifier that answers with pairs.

    >>> PEFTClassifier("roberta-base", "./adapters").predict("Great product!")  # doctest: +SKIP
    ('positive', 0.97)

    Arguments and errors are those of :func:`load`.
    """

    def __init__(
        self,
        base_model: str | Path,
        adapter_directory: str | Path,
        settings: ClassifierSettings | None = None,
    ) -> None:
        self.classifier = load(base_model, adapter_directory, settings)

    @property
    def labels(self) -> tuple[str, ...]:
        """The adapter's names for its classes; ``class_0`` and so on where it names none."""
        return self.classifier.labels

    def predict(self, text: str) -> tuple[str, float]:
        """The most probable label and its calibrated probability, in [0, 1].

        Raises:
            ModelError: If the text cannot be scored.
            WrongUse: If it is blank or not a text.
        """
        return self.predict_batch([checked_text(text)])[0]

    def predict_batch(self, texts: Iterable[str]) -> list[tuple[str, float]]:
        """The same for several texts, in their order.

        Raises:
            ModelError: If a text cannot be scored.
            WrongUse: If this is a single text, or one of them is blank or not a text.
        """
        return [(said.label, said.confidence) for said in self.classifier.predict(texts)]


class TaskClassifiers:
    """One classifier per task, each of which can be added, exchanged and removed while others score.

    What it costs: ``adapters = merged`` keeps a copy of the layers per task and scores fastest; ``shared``
    keeps the base once, and scores each task somewhat slower.

    Args:
        base_model: A Hugging Face id, a directory, or ``package:NAME/PATH``.
        settings: Device, precision, mode, length and budget; None for the defaults.

    Raises:
        ModelError: If the base cannot be had.
        WrongUse: If an argument is of another kind.
    """

    def __init__(self, base_model: str | Path, settings: ClassifierSettings | None = None) -> None:
        self._host = Host(as_base_model(base_model), as_settings(settings))
        self._current: dict[str, Classifier] = {}
        self._changing = threading.Lock()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that are served, in the order of their adding."""
        return tuple(self._current)

    def add_adapter(self, task: str, directory: str | Path) -> Classifier:
        """Serve a task by an adapter, in place of the one that served it before.

        The new classifier is built and verified beside the old one, then exchanged at once: a batch is scored
        by the one or by the other. If the adapter is of no use, the old one goes on.

        Raises:
            AdapterError: If the adapter is damaged, belongs to another base, or fails its probes.
            WrongUse: If the adapter was made for another task, or an argument is of another kind.
        """
        task, path = as_task(task), as_directory(directory, "directory")
        with self._changing:
            built = build_in_background(lambda: self._host.load(path, task), make_way=bool(self._current))
            if built.task != task:
                raise WrongUse(f"{directory} holds an adapter for the task {built.task!r}, not {task!r}.")
            self._current = {**self._current, task: built}
        return built

    def remove_adapter(self, task: str) -> None:
        """Serve a task no longer; a batch that is being scored is not disturbed.

        Raises:
            WrongUse: If it is not served.
        """
        with self._changing:
            self.classifier(task)
            self._current = {name: one for name, one in self._current.items() if name != task}

    def classifier(self, task: str) -> Classifier:
        """The immutable classifier that serves a task now.

        Raises:
            WrongUse: If the task is not served.
        """
        try:
            return self._current[task]
        except KeyError:
            served = ", ".join(self.tasks) or "none"
            raise WrongUse(f"There is no adapter for the task {task!r}; there are: {served}.") from None

    def predict(self, texts: Iterable[str], task: str) -> list[Prediction]:
        """One prediction per text for one task.

        Raises:
            WrongUse: If the task is not served, or the texts are a single one, or one is blank or not a text.
            ModelError: If a text cannot be scored.
        """
        return self.classifier(task).predict(texts)

    def predict_all(self, texts: Iterable[str]) -> dict[str, list[Prediction]]:
        """One prediction per text for each task; the texts are tokenised once.

        Raises:
            ModelError: If a text cannot be scored.
            WrongUse: If this is a single text, or one of them is blank or not a text.
        """
        serving, checked = self._current, checked_texts(texts)
        if not serving:
            return {}
        encoded = next(iter(serving.values())).encode(checked)
        return {task: one.score(encoded) for task, one in serving.items()}
