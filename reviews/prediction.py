"""A classifier's prediction for one text."""

from typing import NamedTuple


class Prediction(NamedTuple):
    """One task's prediction for one text.

    Attributes:
        task: Name of the task, for example ``sentiment``.
        label: The most probable label.
        confidence: Calibrated probability of ``label``, in [0, 1].
        probabilities: Calibrated probabilities in the adapter's order of labels; they sum to 1.
        margin: Difference between the two greatest probabilities, in [0, 1].
        entropy: Shannon entropy of ``probabilities`` in nats, in [0, ln(labels)].
        truncated: Whether the model saw only a part of the text.
        adapter_version: The adapter that scored the text.
    """

    task: str
    label: str
    confidence: float
    probabilities: tuple[float, ...]
    margin: float
    entropy: float
    truncated: bool
    adapter_version: str
