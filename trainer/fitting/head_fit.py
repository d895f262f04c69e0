"""The fits of one run: of LoRA, of a head alone on frozen features that are computed once a run, or both."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from classifier.adapters.sample import SAMPLE
from classifier.adapters.store import write_files
from classifier.base_model import BaseModel, locate
from classifier.devices import choose_device, describe_dtype
from classifier.settings import ClassifierSettings
from trainer.data.dataset import Dataset
from trainer.data.near_duplicates import duplicate_groups
from trainer.fitting.features import FeaturesOf, KeptFeatures
from trainer.fitting.finish import card, fields_of, held_out_sample, measure
from trainer.fitting.fit import fit
from trainer.fitting.fit_data import (
    FitProgress,
    FitRequest,
    Measured,
    Outcome,
    Position,
    Report,
    Resources,
    fingerprint,
    peak_gpu_bytes,
    peak_memory_bytes,
    weights_bytes,
)
from trainer.fitting.head import Head, fit_head
from trainer.fitting.head_adapter import head_adapter_files, head_of
from trainer.fitting.recipe import in_shape


class FitLora(Protocol):
    """Does a fit of LoRA, as :func:`trainer.fitting.fit.fit` does."""

    def __call__(
        self, request: FitRequest, report: Report, *, features: KeptFeatures | None = None
    ) -> Outcome | None:
        """The outcome; None in every process of a group but the first."""


class RunFits:
    """Does the fits of one run, each after its request's kind.

    Args:
        classifier: Device and precision.
        fit_lora: Does a fit of LoRA, in this process or by a group.
        features: Where features come from; None: they are computed once for this run.
    """

    def __init__(
        self, classifier: ClassifierSettings, fit_lora: FitLora = fit, features: KeptFeatures | None = None
    ) -> None:
        self._features = features or KeptFeatures(classifier)
        self._fit_lora = fit_lora

    def __call__(self, request: FitRequest, report: Report) -> Outcome | None:
        """The outcome, as of :func:`trainer.fitting.fit.fit`.

        Raises:
            ModelError: If the base cannot be had, or has no mean that stands for a text.
            AdapterError: If the adapter cannot be written, or the one to continue from does not fit.
            WrongUse: If that one has other classes.
            TrainingStopped: If a fit of LoRA diverges.
        """
        # A base may need long for many rows: the run can be asked to stop meanwhile.
        self._features.tell = lambda done, of: report(FitProgress(0, done, of, 0.0, 0.0))
        if request.kind == "head":
            return self._head(request)
        if request.kind == "refit":
            _require_mean(locate(request.classifier.base_model, request.classifier.base_revision))
        outcome = self._fit_lora(request, report, features=self._features)
        return outcome if outcome is None or request.kind == "lora" else self._refitted(request, outcome)

    def _head(self, request: FitRequest) -> Outcome:
        base = locate(request.classifier.base_model, request.classifier.base_revision)
        parent = request.continues_from
        centre = None if parent is None else head_of(parent)
        request = _reading_the_mean(in_shape(request, base))
        features = self._features.of(base, request.settings.max_length_tokens, parent)
        return fitted_head(request, base, features, centre)

    def _refitted(self, request: FitRequest, lora: Outcome) -> Outcome:
        """The outcome with a head that is fitted anew on the features of the matrices that were fitted.

        Kirichenko, Izmailov, Wilson: Last Layer Re-Training is Sufficient for Robustness to Spurious
        Correlations (ICLR 2023).
        """
        with tempfile.TemporaryDirectory() as scratch:
            matrices = write_files(lora.files, Path(scratch), request.classifier.task)
            request = _reading_the_mean(in_shape(request, lora.base))
            own = KeptFeatures(request.classifier)  # of matrices that no other fit reads
            own.tell = self._features.tell
            features = own.of(lora.base, request.settings.max_length_tokens, matrices)
            found = fitted_head(request, lora.base, features, head_of(matrices), matrices)
        used, head = lora.resources, found.resources
        seconds, fit_seconds = used.seconds + head.seconds, used.fit_seconds + head.fit_seconds
        resources = replace(used, seconds=seconds, fit_seconds=fit_seconds, saved_bytes=head.saved_bytes)
        return replace(found, position=lora.position, resources=resources)


def fitted_head(
    request: FitRequest,
    base: BaseModel,
    features: FeaturesOf,
    centre: Head | None = None,
    matrices: Path | None = None,
) -> Outcome:
    """The outcome of fitting a head on features; of a check, without files.

    Args:
        request: The rows and the recipe.
        base: The base model.
        features: Of the base, or of the adapter to continue from.
        centre: The head to continue from, on the same features; None: of another pooling, or none.
        matrices: Directory of the adapter whose matrices give the features; None: the one to continue from,
            or the base alone.

    Raises:
        AdapterError: If the adapter cannot be written.
        WrongUse: If splits differ in their classes.
    """
    began = time.perf_counter()
    request.splits.check_classes()
    rows = _learned(request)
    head = _fitted(request, rows, features, centre)
    fit_seconds = time.perf_counter() - began
    left_out = None
    if request.learns_validation:
        # Where there is one class, nothing is learned that could be known by heart.
        left_out = head.logits(features(rows.texts)) if head.left_out is None else head.left_out
    measured = measure(lambda texts: head.logits(features(texts)), request, left_out)
    files = {} if request.is_check else _files(request, base, head, measured, features, matrices)
    device = choose_device(request.classifier.device)
    resources = Resources(
        device=str(device),
        seconds=time.perf_counter() - began,
        fit_seconds=fit_seconds,
        peak_memory_bytes=peak_memory_bytes(),
        peak_gpu_bytes=peak_gpu_bytes(device),
        trainable_parameters=head.weights.size + head.bias.size,
        parameters=head.weights.size + head.bias.size,
        saved_bytes=sum(map(len, files.values())),
        base_bytes=weights_bytes(base.directory),
    )
    name = fingerprint(request, base, describe_dtype(request.classifier.precision, device)[0])
    return Outcome(files, measured, Position(), resources, base, name, head)


def _require_mean(base: BaseModel) -> None:
    """Refuse a base on which no head can be fitted, before LoRA is fitted for one."""
    from transformers import AutoConfig

    from classifier.engine.pooling import require_mean

    config = AutoConfig.from_pretrained(base.directory, local_files_only=True, trust_remote_code=False)
    require_mean(type(config).__name__, config)


def _reading_the_mean(request: FitRequest) -> FitRequest:
    return replace(request, settings=request.settings.model_copy(update={"pooling": "mean"}))


def _learned(request: FitRequest) -> Dataset:
    """The rows that the head is fitted on."""
    train, validation = request.splits.train, request.splits.validation
    if not request.learns_validation:
        return train
    weights = [rows.weights or (1.0,) * len(rows) for rows in (train, validation)]
    return Dataset(
        train.texts + validation.texts,
        train.labels + validation.labels,
        train.names,
        f"{train.sha256} {validation.sha256}",
        weights[0] + weights[1],
    )


def _fitted(request: FitRequest, train: Dataset, features: FeaturesOf, centre: Head | None) -> Head:
    weights = None if train.weights is None else np.array(train.weights)
    return fit_head(
        features(train.texts),
        np.array(train.labels, np.int64),
        len(train.names),
        weights,
        groups=duplicate_groups(train.texts),
        seed=request.settings.seed,
        centre=centre,
        speaks_for=None if request.speaks_for is None else np.array(request.speaks_for),
        # Of a refit, the matrices know all training rows: new ones are no better to choose by.
        is_new=None
        if request.is_new is None or request.kind == "refit"
        else np.array(request.is_new, np.bool_),
    )


def _files(  # noqa: PLR0917  one call
    request: FitRequest,
    base: BaseModel,
    head: Head,
    measured: Measured,
    features: FeaturesOf,
    matrices: Path | None,
) -> Mapping[str, bytes]:
    fields = fields_of(base, request, 0)
    fields["training"]["recipe"] |= {"kind": request.kind, "strength": head.strength}
    if request.learns_validation:
        fields["training"]["recipe"] |= {"learns_validation": True}
    fields |= {"temperature": measured.temperature, "metrics": measured.metrics}
    # Of texts that were trained on, no machine can tell what int8 is worth.
    sampled = request.settings.held_out_texts > 0 and not request.learns_validation
    return head_adapter_files(
        head,
        base,
        request.classifier,
        request.settings,
        fields,
        parent=matrices or request.continues_from,
        features=features,
        extra={SAMPLE: held_out_sample(request)} if sampled else None,
        card=card(fields, request.note),
    )
