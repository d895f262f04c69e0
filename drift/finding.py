"""What one measure says of two windows."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Subject = Literal["texts", "classes", "confidence"]
"""What a measure looks at: what people write, which classes are found, or how sure the classifier is."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One measure's answer.

    Attributes:
        measure: Its name.
        subject: What it looks at.
        effect: How large the difference is, in the unit that the measure explains; 0 is none.
        floor: Smaller effects are no drift, however sure they are: with a million reviews, everything
        differs. p_value: How often chance alone makes such a difference or a greater one, in [0, 1].
        reference: A number for the reference, for people.
        window: The same for the window.
        unit: What these two numbers are.
    """

    measure: str
    subject: Subject
    effect: float
    floor: float
    p_value: float
    reference: float
    window: float
    unit: str

    def as_json(self) -> dict[str, Any]:
        """As a mapping of plain values."""
        return asdict(self)
