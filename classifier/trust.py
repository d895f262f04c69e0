"""Whether a faster number format answers as fp32 does, on texts that the adapter was not trained on."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from classifier.calibration import Floats

LEAST_TEXTS = 100
LEAST_AGREEMENT = 0.995
MOST_DIFFERENCE = 0.01
MOST_LOSS_POINTS = 0.3
MOST_SCORED_AGAIN = 0.1
_RESAMPLES = 500


class FormatAgreement(BaseModel):
    """How far answers in one number format are from those in fp32.

    Attributes:
        texts: How many were compared.
        labels: Share of the texts with the same label.
        probability: Mean over the texts of the largest difference of a probability.
        macro_f1_points: Macro-F1 of the faster format minus that of fp32, in points.
        low_points: Lower end of its 95 % interval, by bootstrap over the texts.
        high_points: Upper end.
        scored_again: Share of the texts that are near ties in the faster format, and scored again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    texts: int
    labels: float
    probability: float
    macro_f1_points: float
    low_points: float
    high_points: float
    scored_again: float = 0.0

    def reasons(self) -> list[str]:
        """Why the format is not trusted; empty where it is."""
        found = []
        if self.texts < LEAST_TEXTS:
            found.append(f"it was compared on {self.texts} texts only, not {LEAST_TEXTS}")
        if self.labels < LEAST_AGREEMENT:
            found.append(f"{self.labels:.1%} of the labels agree, not {LEAST_AGREEMENT:.1%}")
        if self.probability > MOST_DIFFERENCE:
            found.append(f"probabilities differ by {self.probability:.4f} on average, not {MOST_DIFFERENCE}")
        if self.scored_again > MOST_SCORED_AGAIN:
            again = f"{self.scored_again:.0%} of the texts are near ties that have to be scored again"
            found.append(f"{again}, not {MOST_SCORED_AGAIN:.0%}")
        # One text of some hundred is already more than the limit: the interval tells chance from loss.
        if self.macro_f1_points < -MOST_LOSS_POINTS and self.high_points < 0:
            found.append(f"macro-F1 falls by {-self.macro_f1_points:.1f} points, not {MOST_LOSS_POINTS}")
        return found

    def describe(self) -> str:
        """The figures in one line."""
        return (
            f"on {self.texts} held-out texts {self.labels:.1%} of the labels agree with fp32, probabilities "
            f"differ by {self.probability:.4f} on average, macro-F1 by {self.macro_f1_points:+.2f} points "
            f"({self.low_points:+.2f} to {self.high_points:+.2f}); {self.scored_again:.1%}, near ties, are "
            "scored again"
        )


def compare(
    exact: Floats, faster: Floats, truth: Sequence[int], *, scored_again: float = 0.0
) -> FormatAgreement:
    """The agreement of two sets of answers to the same texts.

    Args:
        exact: (texts, labels), probabilities in fp32.
        faster: The same in another format; numbers that are not finite agree with nothing.
        truth: The index of each text's label; at least one text.
        scored_again: Share of the texts that the faster format answered twice.
    """
    faster = np.nan_to_num(faster, nan=1.0)
    ours, theirs = faster.argmax(1), exact.argmax(1)
    answers, labels = np.array(truth, np.int64), exact.shape[1]
    random = np.random.default_rng(0)
    drawn = random.integers(0, len(answers), (_RESAMPLES, len(answers)))
    differences = [
        100 * (_macro_f1(ours[rows], answers[rows], labels) - _macro_f1(theirs[rows], answers[rows], labels))
        for rows in [np.arange(len(answers)), *drawn]
    ]
    low, high = np.quantile(differences[1:], (0.025, 0.975))
    return FormatAgreement(
        texts=len(answers),
        labels=float((ours == theirs).mean()),
        probability=float(np.abs(faster - exact).max(axis=1).mean()),
        macro_f1_points=float(differences[0]),
        low_points=float(low),
        high_points=float(high),
        scored_again=scored_again,
    )


def _macro_f1(found: npt.NDArray[np.int64], truth: npt.NDArray[np.int64], labels: int) -> float:
    """The mean F1 of the labels that occur in the answers or in the truth."""
    right = np.bincount(found[found == truth], minlength=labels)
    both = np.bincount(found, minlength=labels) + np.bincount(truth, minlength=labels)
    there = both > 0
    return float((2 * right[there] / both[there]).mean())
