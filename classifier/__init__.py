"""Base model and adapters in, calibrated predictions out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classifier.classifier import Classifier, load
    from classifier.ensemble import Ensemble
    from classifier.interface import PEFTClassifier, TaskClassifiers
    from classifier.settings import ClassifierSettings

__all__ = ["Classifier", "ClassifierSettings", "Ensemble", "PEFTClassifier", "TaskClassifiers", "load"]

_HOMES = {
    "Classifier": "classifier.classifier",
    "ClassifierSettings": "classifier.settings",
    "Ensemble": "classifier.ensemble",
    "PEFTClassifier": "classifier.interface",
    "TaskClassifiers": "classifier.interface",
    "load": "classifier.classifier",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: the command line reads settings without loading torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'classifier' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
