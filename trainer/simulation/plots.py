"""Learning curves as pictures: candidates of every strategy, and what serves beside them."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.simulation.experiment import DEFAULT, RANDOM
from trainer.simulation.summary import Curves, curves, half_width

_METRIC = "macro_f1"
_BOLD = {DEFAULT: "tab:blue", RANDOM: "black"}


def learning_curves(lines: Sequence[Mapping[str, Any]], strategies: Sequence[str], title: str) -> Any:
    """A figure with two panels, candidates to the left and what serves to the right.

    Bands are 95 % intervals of the mean over seeds, drawn for random and the default alone: more hide each
    other. A dotted line is where another file begins.

    Args:
        lines: Results of one experiment and kind of fit.
        strategies: In the order of the legend.
        title: Above both.
    """
    # Not pyplot: it keeps every figure, and picks a window system.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, model, name in zip(panels, ("candidate", "active"), ("candidate", "promoted"), strict=True):
        for strategy in strategies:
            _draw(
                axes,
                strategy,
                curves([line for line in lines if line["strategy"] == strategy], model, _METRIC),
            )
        for labels in _changes(lines):
            axes.axvline(labels, color="grey", linestyle=":")
        axes.set(xlabel="labels", title=f"{name} adapter")
        axes.grid(alpha=0.3)
    panels[0].set(ylabel="macro-F1 on held-back rows")
    panels[1].legend(fontsize="small")
    figure.suptitle(title)
    return figure


def png(figure: Any) -> bytes:
    """The figure as PNG; the same bytes for the same figure."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
    return content.getvalue()


def svg(figure: Any) -> bytes:
    """The figure as SVG; the same bytes for the same figure."""
    import matplotlib as mpl

    content = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "reviewloop", "svg.fonttype": "none"}):
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()


def _changes(lines: Sequence[Mapping[str, Any]]) -> list[int]:
    """The labels that were there when another file began; a few where seeds differ by a night."""
    begun = [line for line in lines if line.get("drift", {}).get("changes")]
    return sorted({line["labels"] - sum(line["tonight"]) for line in begun})


def _draw(axes: Any, strategy: str, curve: Curves) -> None:
    if not len(curve.values):
        return
    is_bold, mean = strategy in _BOLD, curve.mean
    style = {"color": _BOLD[strategy], "linewidth": 2.2} if is_bold else {"linewidth": 1.0}
    (line,) = axes.plot(curve.labels, mean, label=strategy, **style)
    if is_bold and len(curve.values) > 1:
        half = half_width(curve.values)
        axes.fill_between(
            curve.labels, mean - half, mean + half, color=line.get_color(), alpha=0.12, linewidth=0
        )
