"""One base model on one device, and the classifiers that adapters make of it."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from classifier.adapter import AdapterManifest, read_manifest
from classifier.answering import Answering
from classifier.base_model import locate
from classifier.classifier import Classifier
from classifier.devices import choose_device, choose_dtype
from classifier.long_texts import LongTextRule
from classifier.merging import attach, check_base, load_base, merge
from classifier.probes import PROBE_TEXTS
from classifier.proving import Examiner, prove
from classifier.tokenise import load_tokeniser
from reviews.errors import ModelError

if TYPE_CHECKING:
    from classifier.engine import Engine
    from classifier.engine.encoder import Encoder
    from classifier.settings import ClassifierSettings

log = structlog.get_logger()


class Host:
    """Loads adapters on one base; what they can share, they share.

    With ``adapters = merged`` each adapter has layers of its own, its matrices added in: fastest. With
    ``shared`` the base's layers are in memory once and each adapter adds its small matrices beside them, at
    the cost of two thin products per layer.

    Args:
        base_model: A Hugging Face id, a directory, or ``package:NAME/PATH``.
        settings: Device, precision, engine, length and budget.

    Raises:
        ModelError: If the base cannot be had or the settings ask for what this machine has not.
    """

    def __init__(self, base_model: str, settings: "ClassifierSettings") -> None:
        import torch

        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self._settings = settings
        self._base = locate(base_model, settings.base_revision)
        self._device = choose_device(settings.device)
        self._dtype = choose_dtype(settings.precision, self._device)
        rule = LongTextRule(settings.long_texts, settings.window_overlap_tokens, settings.max_windows)
        self._tokeniser = load_tokeniser(self._base, settings.max_length_tokens, rule)
        self._shared: Encoder | None = None
        self._has_said: set[str] = set()

    def load(self, adapter_directory: Path, task: str | None = None) -> Classifier:
        """A classifier that has answered its probes.

        Args:
            adapter_directory: peft's files, with a manifest or without.
            task: The task of an adapter without a manifest; None for the configured one.

        Raises:
            AdapterError: If the adapter is damaged, belongs to another base, or fails its probes.
            ModelError: If the base cannot be loaded.
        """
        manifest = read_manifest(adapter_directory, task or self._settings.task)
        check_base(self._base, manifest)
        engine = self._engine(adapter_directory, manifest)
        answering = Answering(
            engine, lambda: self._exact_engine(adapter_directory, manifest), self._settings.cache_texts
        )
        classifier = Classifier(manifest, self._tokeniser, answering)
        prove(classifier, exact=self._dtype.itemsize == 4)
        return classifier

    def _engine(self, directory: Path, manifest: AdapterManifest) -> "Engine":
        from classifier.engine.encoder import Unsupported

        if self._settings.engine == "general":
            return self._general_engine(directory, manifest)
        try:
            if self._settings.adapters == "shared":
                return self._shared_engine(directory, manifest)
        except Unsupported as why:
            self._say_once("adapter_cannot_be_shared", why)
        try:
            return self._packed_engine(directory, manifest)
        except Unsupported as why:
            if self._settings.engine == "packed":
                raise ModelError(
                    f"The packed engine cannot run {self._base.name}: {why}; set engine=auto."
                ) from why
            self._say_once("packed_engine_not_used", why)
        return self._general_engine(directory, manifest)

    def _packed_engine(self, directory: Path, manifest: AdapterManifest) -> "Engine":
        from classifier.engine.encoder import check_supported, take_apart

        model = load_base(self._base, len(manifest.labels))
        check_supported(model)
        model = merge(model, directory, manifest)
        return self._checked(take_apart(model, self._dtype, self._device), model)

    def _shared_engine(self, directory: Path, manifest: AdapterManifest) -> "Engine":
        from classifier.engine.encoder import check_supported, take_apart
        from classifier.sharing import check_shareable

        model = load_base(self._base, len(manifest.labels))
        check_supported(model)
        adapted = attach(model, directory, manifest)
        check_shareable(adapted)
        encoder = take_apart(adapted.base_model.model, self._dtype, self._device, self._shared)
        engine = self._checked(encoder, adapted)
        if self._shared is None:
            # Keep the base's parts alone: this adapter's own go when its classifier goes.
            self._shared = dataclasses.replace(encoder, layers=tuple(map(_base_layer, encoder.layers)))
        return engine

    def _checked(self, encoder: "Encoder", model: Any) -> "Engine":
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
        from classifier.engine.general import GeneralEngine

        model = merge(load_base(self._base, len(manifest.labels)), directory, manifest)
        return GeneralEngine(model.to(device=self._device, dtype=self._dtype), self._settings.batch_tokens)

    def _exact_engine(self, directory: Path, manifest: AdapterManifest) -> "Engine":
        from classifier.engine.general import GeneralEngine

        model = merge(load_base(self._base, len(manifest.labels)), directory, manifest)
        return GeneralEngine(model.to(self._device), self._settings.batch_tokens)

    def _say_once(self, event: str, why: Exception) -> None:
        if event not in self._has_said:
            self._has_said.add(event)
            log.warning(event, base_model=self._base.name, reason=str(why))


def _base_layer(layer: Any) -> Any:
    """A layer without one task's updates."""
    parts = {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)}
    return type(layer)(**{name: getattr(part, "shared", part) for name, part in parts.items()})
