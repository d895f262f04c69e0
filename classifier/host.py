"""One base model on one device, and the classifiers that adapters make of it."""

import dataclasses
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import structlog

from classifier.adapters.manifest import AdapterManifest, read_config, read_manifest
from classifier.base_model import BaseModel, locate
from classifier.classifier import Classifier
from classifier.devices import Execution, choose_device, choose_dtype, describe_dtype
from classifier.engine.answering import Answering
from classifier.model import attach, check_base, load_base, merge
from classifier.tokenise import LongTextRule, load_tokeniser
from classifier.verification import PROBE_TEXTS, SHORT_PROBE_TEXTS, Examiner, can_prove, prove
from reviews.errors import ModelError

if TYPE_CHECKING:
    import torch

    from classifier.engine import Engine
    from classifier.engine.build import SharedBase
    from classifier.engine.encoder import Encoder
    from classifier.engine.packed import PackedEngine
    from classifier.settings import ClassifierSettings
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

log = structlog.get_logger()

_EXACT = "it gives the model's own answers in less time"


class Host:
    """Loads adapters on one base; what they can share, they share.

    With ``adapters = merged`` each adapter has layers of its own, its matrices added in: fastest. With
    ``shared`` the base's layers are in memory once and each adapter adds its small matrices beside them, at
    the cost of two thin products per layer.

    Args:
        base_model: A Hugging Face id, a directory, ``package:NAME/PATH``, or a base that was located.
        settings: Device, precision, engine, length and budget.

    Raises:
        ModelError: If the base cannot be had or the settings ask for what this machine has not.
    """

    def __init__(self, base_model: str | BaseModel, settings: "ClassifierSettings") -> None:
        if isinstance(base_model, str):  # looked for before torch, which takes seconds to import
            base_model = locate(base_model, settings.base_revision)
        import torch

        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self._settings = settings
        self._base = base_model
        self._device = choose_device(settings.device)
        self._dtype = choose_dtype(settings.precision, self._device)
        rule = LongTextRule(settings.long_texts, settings.window_overlap_tokens, settings.max_windows)
        self._tokeniser = load_tokeniser(self._base, settings.max_length_tokens, rule)
        self._shared: SharedBase | None = None
        self._has_said: set[str] = set()

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
        engine, why = self._engine(adapter_directory, manifest)
        answering = Answering(
            engine, lambda: self._exact_engine(adapter_directory, manifest), self._settings.cache_texts
        )
        number_format, why_format = describe_dtype(self._settings.precision, self._device)
        execution = Execution(engine.name, why, str(self._device), number_format, why_format)
        classifier = Classifier(manifest, self._tokeniser, answering, execution)
        prove(classifier, exact=self._dtype.itemsize == 4)
        return classifier

    def _engine(self, directory: Path, manifest: AdapterManifest) -> "tuple[Engine, str]":
        """The engine, and why it is this one."""
        from classifier.engine.encoder import Unsupported

        if self._settings.engine == "general":
            return self._general_engine(directory, manifest), "classifier.engine asks for it"
        try:
            if self._settings.adapters == "shared":
                return self._shared_engine(directory, manifest), f"{_EXACT}, beside the shared base"
        except Unsupported as why:
            self._say_once("adapter_cannot_be_shared", why)
        try:
            return self._packed_engine(directory, manifest), _EXACT
        except Unsupported as why:
            if self._settings.engine == "packed":
                raise ModelError(
                    f"The packed engine cannot run {self._base.name}: {why}; set engine=auto."
                ) from why
            self._say_once("packed_engine_not_used", why)
            return self._general_engine(directory, manifest), f"the packed one cannot be used: {why}"

    def _packed_engine(self, directory: Path, manifest: AdapterManifest) -> "Engine":
        from classifier.engine.encoder import check_supported, take_apart

        model = load_base(self._base, len(manifest.labels))
        check_supported(model)
        model = merge(model, directory, manifest)
        return self._checked(take_apart(model, self._dtype, self._device), model)

    def _shared_engine(self, directory: Path, manifest: AdapterManifest) -> "Engine":
        from classifier.engine.build import brings_head

        base = self._shared
        # Without probes of its own, only the whole model can prove what is made of an adapter.
        if base is not None and brings_head(read_config(directory)) and can_prove(manifest, self._tokeniser):
            return self._next_shared_engine(base, directory, manifest)
        return self._first_shared_engine(directory, manifest)

    def _first_shared_engine(self, directory: Path, manifest: AdapterManifest) -> "Engine":
        """The engine of an adapter beside the base, which is loaded for it and examined with it."""
        from classifier.engine.build import SharedBase, check_shareable, is_of_head
        from classifier.engine.encoder import check_supported, take_apart

        model = load_base(self._base, len(manifest.labels))
        check_supported(model)
        head = {name: value.clone() for name, value in model.state_dict().items() if is_of_head(name)}
        adapted = attach(model, directory, manifest)
        check_shareable(adapted)
        base = self._shared.encoder if self._shared is not None else None
        encoder = take_apart(adapted.base_model.model, self._dtype, self._device, base)
        engine = self._checked(encoder, adapted)
        if self._shared is None:
            self._shared = SharedBase(engine.encoder, head, model.config, type(model), model.unbrought)
        return engine

    def _next_shared_engine(self, base: "SharedBase", directory: Path, manifest: AdapterManifest) -> "Engine":
        """The engine of one more adapter on a base in memory; its own probes are its examination."""
        from classifier.engine.build import check_shareable
        from classifier.engine.encoder import take_apart
        from classifier.engine.packed import PackedEngine

        adapted = attach(base.hollow_model(len(manifest.labels)), directory, manifest)
        check_shareable(adapted)
        encoder = take_apart(adapted.base_model.model, self._dtype, self._device, base.encoder)
        by_products = base.encoder.by_products
        return PackedEngine(
            dataclasses.replace(encoder, by_products=by_products), self._settings.batch_tokens
        )

    def _checked(self, encoder: "Encoder", model: Any) -> "PackedEngine":
        """The packed engine, once it has given the answers of the model that it was made of.

        Raises:
            Unsupported: If it has not.
        """
        import torch

        from classifier.engine.encoder import Unsupported
        from classifier.engine.packed import PackedEngine

        rows = self._tokeniser.encode(PROBE_TEXTS).rows()
        examiner = Examiner(model, rows, exact=self._dtype.itemsize == 4)
        engine = PackedEngine(encoder, self._settings.batch_tokens)
        if not examiner.passes(engine):
            raise Unsupported("its answers differ from the general engine's")
        if self._device.type == "cpu" and self._dtype == torch.bfloat16:
            faster = PackedEngine(dataclasses.replace(encoder, by_products=True), self._settings.batch_tokens)
            if examiner.no_worse(faster, engine):
                return faster
        return engine

    def _general_engine(self, directory: Path, manifest: AdapterManifest) -> "Engine":
        return self._padded_engine(directory, manifest, self._dtype)

    def _exact_engine(self, directory: Path, manifest: AdapterManifest) -> "Engine":
        import torch

        return self._padded_engine(directory, manifest, torch.float32)

    def _padded_engine(self, directory: Path, manifest: AdapterManifest, dtype: "torch.dtype") -> "Engine":
        from classifier.engine.general import GeneralEngine, find_padding

        model = merge(load_base(self._base, len(manifest.labels)), directory, manifest)
        padding = find_padding(model, self._tokeniser.encode(SHORT_PROBE_TEXTS).rows())
        return GeneralEngine(model.to(device=self._device, dtype=dtype), self._settings.batch_tokens, padding)

    def _say_once(self, event: str, why: Exception) -> None:
        if event not in self._has_said:
            self._has_said.add(event)
            log.warning(event, base_model=self._base.name, reason=str(why))


class Hosts:
    """The hosts of one process: one for each base, for as long as a classifier on it is in use.

    So all tasks of a worker, the adapters on trial and the next adapter of a task share one tokeniser and,
    with ``adapters = shared``, the base's layers.

    Args:
        settings: Device, precision, engine, length and budget.
    """

    def __init__(self, settings: "ClassifierSettings") -> None:
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
        """A classifier that has answered its probes, on the host of its base.

        Args:
            base_model: A Hugging Face id, a directory, or ``package:NAME/PATH``.
            adapter_directory: peft's files, with a manifest or without.
            task: The task of an adapter without a manifest; None for the configured one.
            manifest: What was verified of the directory already; None: it is verified here.

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


_Result = TypeVar("_Result")
_LOWEST_PRIORITY = 19


def build_aside(build: Callable[[], _Result], *, make_way: bool) -> _Result:
    """What ``build`` returns or raises, run in a thread of its own that the caller waits for.

    The thread ends, since OpenMP keeps a team for each thread that ever used a model, and with more threads
    than cores all teams sleep between products: it cost a scoring thread a tenth of its speed.

    Args:
        build: Makes a classifier, say.
        make_way: Whether, on Linux, the thread gets what time the others leave: batches that are scored
            meanwhile take 1.1 times as long as without a build; beside an equal they took twice as long.
    """
    with ThreadPoolExecutor(1, "build", _make_way if make_way else None) as passing:
        return passing.submit(build).result()


def _make_way() -> None:
    if sys.platform == "linux":  # elsewhere a priority belongs to the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
