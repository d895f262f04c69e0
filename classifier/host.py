"""One base model on one device, and the classifiers that are built on it."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

from classifier.adapters.manifest import AdapterManifest, read_manifest
from classifier.base_model import BaseModel, locate
from classifier.classifier import Classifier
from classifier.devices import Execution, choose_device
from classifier.engine.answering import Answering, open_heap
from classifier.model import check_base
from classifier.settings import ClassifierSettings
from classifier.tokenise import LongTextRule, load_tokeniser
from classifier.verification import verify

_Result = TypeVar("_Result")
_LOWEST_PRIORITY = 19


class Host:
    """Loads adapters on one base; what they can share, they share.

    With ``adapters = merged`` each adapter has layers of its own, its matrices added in: fastest. With
    ``shared`` the base's layers are in memory once and each adapter adds its small matrices beside them, at
    the cost of two thin products per layer.

    Args:
        base_model: A Hugging Face id, a directory, ``package:NAME/PATH``, or a base that was located.
        settings: Device, precision, engine, length and budget.

    Raises:
        ModelError: If the base is unavailable, or this machine lacks what the settings ask for.
    """

    def __init__(self, base_model: str | BaseModel, settings: ClassifierSettings) -> None:
        if isinstance(base_model, str):
            base_model = locate(base_model, settings.base_revision)
        # After the base was found: torch takes seconds to import.
        from classifier.engine.build import EngineBuilder

        self._settings = settings
        self._base = base_model
        self._device = choose_device(settings.device)
        rule = LongTextRule(settings.long_texts, settings.window_overlap_tokens, settings.max_windows)
        self._tokeniser = load_tokeniser(base_model, settings.max_length_tokens, rule)
        self._builder = EngineBuilder(base_model, self._tokeniser, settings, self._device)

    def load(
        self, adapter_directory: Path, task: str | None = None, manifest: AdapterManifest | None = None
    ) -> Classifier:
        """A classifier that has answered its probes.

        Args:
            adapter_directory: peft's files, with a manifest or without.
            task: The task of an adapter without a manifest; None for the configured one.
            manifest: What was verified of the directory already; None: it is verified here.

        Raises:
            AdapterError: If the adapter is damaged, belongs to another base, or fails its probes.
            ModelError: If the base cannot be loaded.
        """
        manifest = manifest or read_manifest(adapter_directory, task or self._settings.task)
        check_base(self._base, manifest)
        built = self._builder.build(adapter_directory, manifest)
        # Through self: a classifier keeps its host, and so what the host's adapters share.
        answering = Answering(
            built.engine,
            lambda: self._builder.build_exact(adapter_directory, manifest),
            self._settings.cache_texts,
        )
        execution = Execution(
            built.engine.name, built.why, str(self._device), built.number_format, built.why_format
        )
        classifier = Classifier(manifest, self._tokeniser, answering, execution)
        verify(classifier)
        open_heap().trim()
        return classifier


class Hosts:
    """The hosts of one process: one for each base, for as long as a classifier on it is in use.

    So all tasks of a worker, the adapters on trial and the next adapter of a task share one tokeniser and,
    with ``adapters = shared``, the base's layers.

    Args:
        settings: Device, precision, engine, length and budget.
    """

    def __init__(self, settings: ClassifierSettings) -> None:
        self._settings = settings
        # Weak: each classifier holds its host, and a base that no adapter uses any more is released.
        self._hosts: WeakValueDictionary[tuple[Path, str], Host] = WeakValueDictionary()
        self._changing = threading.Lock()

    def load(
        self,
        base_model: str,
        adapter_directory: Path,
        task: str | None = None,
        manifest: AdapterManifest | None = None,
    ) -> Classifier:
        """As :meth:`Host.load`, on the host of this base: an id, a directory, or ``package:NAME/PATH``.

        Raises:
            AdapterError: If the adapter is damaged, belongs to another base, or fails its probes.
            ModelError: If the base cannot be had or loaded.
        """
        with self._changing:
            host = self._host(locate(base_model, self._settings.base_revision))
            return host.load(adapter_directory, task, manifest)

    def _host(self, base: BaseModel) -> Host:
        key = (base.directory.resolve(), base.weights_sha256)  # weights that were replaced are another base
        host = self._hosts.get(key)
        if host is None:
            host = self._hosts[key] = Host(base, self._settings)
        return host


def build_in_background(build: Callable[[], _Result], *, make_way: bool) -> _Result:
    """Run ``build`` in a thread of its own and wait for it; returns or raises what it does.

    The thread ends, since OpenMP keeps a pool for each thread that ever used a model, and with more threads
    than cores all pools sleep between products: it cost a scoring thread a tenth of its speed.

    Args:
        build: Makes, for example, a classifier.
        make_way: Whether the thread has the lowest priority (Linux only): batches that are scored meanwhile
            take 1.1 times as long as without a build; beside a thread of equal priority they took twice as
            long.
    """
    with ThreadPoolExecutor(1, "build", _make_way if make_way else None) as passing:
        return passing.submit(build).result()


def _make_way() -> None:
    if sys.platform == "linux":  # elsewhere a priority belongs to the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
