"""A base model and adapters make calibrated predictions.

Only modules in :mod:`classifier.engine` import torch at their top. All others stay light, so that settings
and the registry of adapters are read without it: they import torch, transformers and peft inside functions.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classifier.classifier import Classifier
    from classifier.ensemble import Ensemble
    from classifier.interface import PEFTClassifier, TaskClassifiers, load
    from classifier.settings import ClassifierSettings

__all__ = ["Classifier", "ClassifierSettings", "Ensemble", "PEFTClassifier", "TaskClassifiers", "load"]

_HOMES = {
    "Classifier": "classifier.classifier",
    "ClassifierSettings": "classifier.settings",
    "Ensemble": "classifier.ensemble",
    "PEFTClassifier": "classifier.interface",
    "TaskClassifiers": "classifier.interface",
    "load": "classifier.interface",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'classifier' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
