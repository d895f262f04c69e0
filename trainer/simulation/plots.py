"""The chart of learning curves: candidates and active adapters of every strategy."""

from collections.abc import Mapping, Sequence
from typing import Any

from pages import charts
from pages.picture import AFTER, INK, Picture
from trainer.simulation.experiment import DEFAULT, RANDOM
from trainer.simulation.summary import Against, curves, half_width

_METRIC = "macro_f1"
_AXES: Mapping[Against, str] = {"labels": "labels", "annotator_seconds": "seconds of annotators"}
_BOLD = {DEFAULT: AFTER, RANDOM: INK}
_PANELS = {"candidate adapter": "candidate", "promoted adapter": "active"}


def learning_curves(
    lines: Sequence[Mapping[str, Any]], strategies: Sequence[str], title: str, against: Against = "labels"
) -> Picture:
    """Two panels, candidates to the left and the active adapter to the right.

    Bands are 95 % intervals of the mean over seeds, drawn for random and the default alone: more hide each
    other. A dotted line is where another file begins.

    Args:
        lines: Results of one experiment and kind of fit.
        strategies: In the order of the legend.
        title: Above both.
        against: What is spent.
    """
    by_name = {name: [row for row in lines if row["strategy"] == name] for name in strategies}
    panels = {
        name: [
            line for strategy in strategies if (line := _line(strategy, by_name[strategy], model, against))
        ]
        for name, model in _PANELS.items()
    }
    changes = _changes(lines) if against == "labels" else []
    return charts.learning_curves(panels, changes, title, _AXES[against], "macro-F1 on held-back rows")


def _changes(lines: Sequence[Mapping[str, Any]]) -> list[int]:
    """The labels that were there when another file began; a few where seeds differ by a night."""
    begun = [line for line in lines if line.get("drift", {}).get("changes")]
    return sorted({line["labels"] - sum(line["tonight"]) for line in begun})


def _line(
    strategy: str, rows: Sequence[Mapping[str, Any]], model: str, against: Against
) -> charts.CurveLine | None:
    """The mean over seeds; None while no seed is done."""
    curve = curves(rows, model, _METRIC, against)
    if not len(curve.values):
        return None
    colour = _BOLD.get(strategy)
    half = half_width(curve.values) if colour and len(curve.values) > 1 else None
    return charts.CurveLine(strategy, curve.labels, curve.mean, half, colour)
