"""What a model with a bounded view makes of a text beyond it. Pure.

Head and tail: Sun, Qiu, Xu, Huang: How to Fine-Tune BERT for Text Classification (2019), 128 of 510 tokens
from the beginning, the rest from the end. Windows: the text in overlapping pieces, their logits averaged.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from classifier.settings import LongTexts

_HEAD_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class LongTextRule:
    """What becomes of texts beyond the model's length.

    Attributes:
        kind: ``truncate``, ``head_tail`` or ``windows``.
        overlap_tokens: Tokens that neighbouring windows share.
        max_windows: Most windows of one text.
    """

    kind: LongTexts = "truncate"
    overlap_tokens: int = 64
    max_windows: int = 8


def pieces(body: list[int], room: int, rule: LongTextRule) -> tuple[list[list[int]], bool]:
    """The parts of a text that the model reads, each of at most ``room`` tokens, and whether any is left out.

    Args:
        body: Token ids without special tokens, more than ``room``.
        room: Tokens that fit beside the special tokens.
        rule: What to do.
    """
    if rule.kind == "truncate":
        return [body[:room]], True
    if rule.kind == "head_tail":
        head = int(room * _HEAD_SHARE)
        return [body[:head] + body[len(body) - (room - head) :]], True
    step = max(1, room - min(rule.overlap_tokens, room // 2))
    starts = range(0, max(1, len(body) - (room - step)), step)
    windows = [body[start : start + room] for start in starts[: rule.max_windows]]
    return windows, len(starts) > rule.max_windows


def pool(
    values: npt.NDArray[np.float32], owners: npt.NDArray[np.int64], weights: npt.NDArray[np.int64], texts: int
) -> npt.NDArray[np.float32]:
    """float32 (texts, columns): the mean over each text's rows, weighted by their lengths.

    Args:
        values: float32 (rows, columns).
        owners: int64 (rows), the text of each row.
        weights: int64 (rows), tokens of each row.
        texts: How many texts there are.
    """
    if len(owners) == texts:
        return values
    totals = np.bincount(owners, weights, texts)
    columns = [
        np.bincount(owners, weights * column, texts) / totals for column in values.T.astype(np.float64)
    ]
    return np.stack(columns, axis=1).astype(np.float32)
