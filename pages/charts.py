"""The charts of all reports.

Each function returns a picture whose alternative text gives the main numbers; a page adds the others as a
table.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from pages.picture import AFTER, BEFORE, BLUE, CLASS_COLOURS, INK, SHADE, SOFT, Picture, drawing, short

Floats = npt.NDArray[np.floating]

_BINS = 10
_DEEP_BLUE = "#1d4ed8"
_COURSE_SIZE = (4.7, 1.5)
_MOST_BIN_NAMES = 6


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """What a chart over time shows besides its values.

    Attributes:
        times: The middle of each stretch, rising, with time zones; one at least.
        reference_until: The end of the reference.
        changed_at: The beginning of the change; None without one.
        stretch: The length of each stretch.
    """

    times: Sequence[datetime]
    reference_until: datetime
    changed_at: datetime | None
    stretch: timedelta


@dataclass(frozen=True, slots=True, eq=False)
class CurveLine:
    """One line of a panel of learning curves.

    Attributes:
        name: For the legend.
        x: float64 (points).
        y: float64 (points).
        half: float64 (points): half of the interval around each point; None for no band.
        colour: None for the next of the classes' colours.
    """

    name: str
    x: Floats
    y: Floats
    half: Floats | None = None
    colour: str | None = None


def course(
    axis: TimeAxis, values: Sequence[float | None], usual: float, title: str, *, percent: bool
) -> Picture:
    """Values over time, the reference's mean as a dashed line.

    Args:
        axis: The times.
        values: One for each time; None leaves a gap.
        usual: The reference's mean.
        title: What the values are.
        percent: Whether they are shares.
    """
    known = [value for value in values if value is not None]
    shown = _percent if percent else _plain
    with drawing(*_COURSE_SIZE) as (figure, axes):
        _time_axis(axes, axis)
        axes.axhline(usual, color=BEFORE, linewidth=1, linestyle="--")
        gaps = [np.nan if value is None else value for value in values]
        axes.plot(axis.times, gaps, color=INK, linewidth=1.1, marker=".", markersize=3.5)
        low, high = min(*known, usual), max(*known, usual)
        room = (high - low) * 0.15 or abs(high) * 0.1 or 0.1
        axes.set_ylim(max(0.0, low - room) if low >= 0 else low - room, high + room)
        _few_levels(axes.yaxis, shown)
    words = f"{shown(min(known))} to {shown(max(known))}, the reference's mean {shown(usual)}"
    return Picture(figure, f"{title} over time: {words}." + _change_in_words(axis))


def shares_over_time(
    axis: TimeAxis, shares: Sequence[Mapping[str, float]], names: Sequence[str], title: str
) -> Picture:
    """Shares of classes over time, as bars of equal height.

    Args:
        axis: The times.
        shares: For each time, the share of each class.
        names: The classes, the lowest first.
        title: What the shares are of.
    """
    table = np.array([[of_time.get(name, 0.0) for name in names] for of_time in shares])
    bottoms = np.cumsum(table, axis=1) - table
    with drawing(*_COURSE_SIZE) as (figure, axes):
        _time_axis(axes, axis)
        for place, (heights, bottom) in enumerate(zip(table.T, bottoms.T, strict=True)):
            axes.bar(axis.times, heights, axis.stretch * 0.9, bottom, color=class_colour(place))
        axes.axvline(axis.reference_until, color=INK, linewidth=1, linestyle=":")
        axes.set_ylim(0, 1)
        _few_levels(axes.yaxis, _percent)
    return Picture(figure, f"{title} over time." + _change_in_words(axis))


def counts_over_time(axis: TimeAxis, counts: Sequence[int], title: str) -> Picture:
    """A bar for each stretch of time.

    Args:
        axis: The times.
        counts: One for each.
        title: What is counted.
    """
    with drawing(*_COURSE_SIZE) as (figure, axes):
        _time_axis(axes, axis)
        axes.bar(axis.times, counts, axis.stretch * 0.86, color=BLUE)
        axes.set_ylim(0, max(1, *counts) * 1.1)
        _few_levels(axes.yaxis, lambda value: f"{value:,.0f}")
    words = f"{min(counts):,} to {max(counts):,}, at the end {counts[-1]:,}"
    return Picture(figure, f"{title} over time: {words}.")


def quality_over_time(
    axis: TimeAxis,
    expected: Sequence[float | None],
    measured: Sequence[tuple[datetime, float, float, float]],
    title: str,
) -> Picture:
    """An expected score as a line, and measured ones as points with their intervals.

    Args:
        axis: The times of the expected ones.
        expected: One for each time, in [0, 1]; None leaves a gap.
        measured: Time, value, and the ends of its interval.
        title: What the score is.
    """
    known = [value for value in expected if value is not None]
    with drawing(*_COURSE_SIZE) as (figure, axes):
        _time_axis(axes, axis)
        gaps = [np.nan if value is None else value for value in expected]
        axes.plot(axis.times, gaps, color=BEFORE, linewidth=1.2, linestyle="--")
        for time, value, low, high in measured:
            axes.errorbar(
                [time], [value], [[value - low], [high - value]], color=BLUE, marker="o", markersize=4
            )
        values = [*known, *(end for _, _, *pair in measured for end in pair)] or [0.0, 1.0]
        room = max(0.02, (max(values) - min(values)) * 0.12)
        axes.set_ylim(max(0.0, min(values) - room), min(1.0, max(values) + room))
        _few_levels(axes.yaxis, _percent)
    parts = [
        f"measured {_percent(value)} at the end of {len(measured)} points" for _, value, *_ in measured[-1:]
    ]
    parts += [f"expected {_percent(value)} last" for value in known[-1:]]
    return Picture(figure, f"{title} over time: {'; '.join(parts) or 'nothing yet'}.")


def before_and_after(
    names: Sequence[str], before: Sequence[float], after: Sequence[float], title: str, *, is_scale: bool
) -> Picture:
    """Two distributions over the same bins: columns along a scale, or bars with every name.

    Args:
        names: Of the bins; one at least.
        before: The reference's share of each bin.
        after: The window's.
        title: What is distributed.
        is_scale: Whether the bins are steps of a scale, of which a few names are enough.
    """
    places, every = np.arange(len(names)), -(-len(names) // _MOST_BIN_NAMES)
    with drawing(2.9, 1.5 if is_scale else max(1.5, 0.3 + 0.2 * len(names))) as (figure, axes):
        for values, shift, colour in ((before, -0.2, BEFORE), (after, 0.2, AFTER)):
            (axes.bar if is_scale else axes.barh)(places + shift, values, 0.38, color=colour)
        if is_scale:
            axes.set_xticks(places[::every], names[::every])
        else:
            axes.set_yticks(places, [short(name, 20) for name in names])
            axes.invert_yaxis()
            axes.grid(visible=False, axis="y")
            axes.grid(visible=True, axis="x")
        axes.tick_params(axis="x" if is_scale else "y", length=0)
        _few_levels(axes.yaxis if is_scale else axes.xaxis, _percent)
    name, one, other = max(zip(names, before, after, strict=True), key=lambda found: abs(found[1] - found[2]))
    words = f"the largest difference is at {short(name, 60)}, {one:.0%} before and {other:.0%} now"
    return Picture(figure, f"{title}: {words}.")


def confusion_matrix(counts: npt.NDArray[np.int64], names: Sequence[str], title: str) -> Picture:
    """True classes down, predicted ones across; colour is the share of the true class.

    Args:
        counts: int64 (classes, classes).
        names: Of the classes.
        title: Above it.
    """
    classes, shown = len(names), [short(name) for name in names]
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side, size = (0.8, 8) if classes <= 6 else (0.45, 6)
    is_long = max(map(len, shown)) > 14 * side
    with drawing(1.7 + side * classes, 1.2 + side * classes) as (figure, axes):
        axes.set(xlim=(-0.5, classes - 0.5), ylim=(classes - 0.5, -0.5), aspect="equal")
        axes.grid(visible=False)
        for (row, column), count in np.ndenumerate(counts):
            share = shares[row, column]
            axes.barh(row, 0.96, 0.96, column - 0.48, color=_DEEP_BLUE, alpha=0.06 + 0.94 * share)
            if count or classes <= 6:
                style = {"color": "white" if share > 0.75 else INK, "size": size}
                axes.text(column, row, f"{count}\n{share:.0%}", ha="center", va="center", **style)
        axes.set_xticks(range(classes), shown, rotation=90 if is_long else 0)
        axes.set_yticks(range(classes), shown)
        axes.tick_params(length=0)
        axes.set(xlabel="predicted", ylabel="true", title=short(title, 60))
    right = counts.trace() / max(1, counts.sum())
    return Picture(figure, f"Confusion matrix, {title}: {right:.1%} of {counts.sum():,} on the diagonal.")


def reliability(probabilities: Floats, truth: npt.NDArray[np.integer], title: str) -> Picture:
    """Accuracy over confidence: on the diagonal, 70 % sure means right in 70 of 100 cases.

    Args:
        probabilities: float64 (rows, classes), calibrated.
        truth: integers (rows).
        title: Above it.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bin_of = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    rows = np.bincount(bin_of, minlength=_BINS)
    filled = np.flatnonzero(rows)
    means = np.bincount(bin_of, confidence, _BINS)[filled] / rows[filled]
    shares = np.bincount(bin_of, right, _BINS)[filled] / rows[filled]
    # One standard error of a share: a bin of few rows is uncertain.
    errors = np.sqrt(shares * (1 - shares) / rows[filled])
    with drawing(4.2, 4.2, rows=2, height_ratios=[3, 1], sharex=True) as (figure, (upper, lower)):
        upper.plot([0, 1], [0, 1], color=BEFORE, linestyle=":", label="perfect")
        measured = "measured, ± 1 standard error"
        upper.errorbar(means, shares, errors, color=BLUE, marker="o", capsize=3, label=measured)
        upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy", title=short(title, 60))
        upper.legend(loc="upper left")
        lower.bar((np.arange(_BINS) + 0.5) / _BINS, rows, 0.95 / _BINS, color=BEFORE)
        lower.set(xlabel="confidence", ylabel="rows")
    worst = f", at most {np.abs(means - shares).max():.1%} from the diagonal" if len(filled) else ""
    return Picture(figure, f"Accuracy over confidence, {title}{worst}.")


def training_course(epochs: Sequence[Mapping[str, float]]) -> Picture:
    """Training loss and validation metrics of epochs with ``loss``, ``macro_f1`` and ``accuracy``."""
    lines = (("loss", "loss", BLUE), ("macro_f1", "macro-F1", BLUE), ("accuracy", "accuracy", AFTER))
    with drawing(4.2, 3.6, rows=2, sharex=True) as (figure, (upper, lower)):
        for axes, (key, name, colour) in zip((upper, lower, lower), lines, strict=True):
            values = [epoch[key] for epoch in epochs]
            axes.plot(range(1, len(epochs) + 1), values, color=colour, marker="o", markersize=4, label=name)
        upper.set(ylabel="training loss")
        lower.set(ylabel="validation", xlabel="epoch", xlim=(0.5, len(epochs) + 0.5))
        lower.xaxis.get_major_locator().set_params(integer=True)
        lower.legend()
    ends = f"{epochs[0]['loss']:.3f} to {epochs[-1]['loss']:.3f}" if epochs else "unknown"
    return Picture(figure, f"Loss and validation metrics by epoch: the loss goes from {ends}.")


def ranking(names: Sequence[str], values: Floats, ends: Floats, label: str) -> Picture:
    """One bar with its interval for each name, the first at the top.

    Args:
        names: One at least.
        values: float64 (names).
        ends: float64 (names, 2): of the intervals; NaN where there is none.
        label: What the values are.
    """
    low, high = float(np.nanmin([values, ends[:, 0]])), float(np.nanmax([values, ends[:, 1]]))
    room = 0.15 * (high - low) or 0.01
    with drawing(6.5, 0.8 + 0.24 * len(names)) as (figure, axes):
        places = np.arange(len(names))
        axes.barh(places, values, 0.7, color=BLUE)
        axes.hlines(places, ends[:, 0], ends[:, 1], color=INK, linewidth=1)
        shown = [f"{short(name, 60)}  {value:.3f}" for name, value in zip(names, values, strict=True)]
        axes.set_yticks(places, shown)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.invert_yaxis()
        axes.set(xlabel=label, xlim=(max(0, low - room), high + room))
    return Picture(figure, f"{label}: {short(names[0], 60)} is first with {values[0]:.4f} of {len(names)}.")


def learning_curves(
    panels: Mapping[str, Sequence[CurveLine]], marks: Sequence[float], title: str, x: str, y: str
) -> Picture:
    """Panels side by side with the same lines, bands around those that have one.

    Args:
        panels: The lines of each panel by its name.
        marks: Positions of a dotted line in every panel.
        title: Above all of them.
        x: Name of the horizontal axis.
        y: Name of the vertical axis.
    """
    with drawing(9, 3.8, columns=len(panels), sharey=True, squeeze=False) as (figure, (row,)):
        for axes, (name, lines) in zip(row, panels.items(), strict=True):
            for number, line in enumerate(lines):
                colour = line.colour or class_colour(number + 3)
                wide = 2.2 if line.colour else 1.0
                axes.plot(line.x, line.y, color=colour, linewidth=wide, label=short(line.name))
                if line.half is not None:
                    band = line.y - line.half, line.y + line.half
                    axes.fill_between(line.x, *band, color=colour, alpha=0.12, linewidth=0)
            for mark in marks:
                axes.axvline(mark, color=SOFT, linestyle=":")
            axes.grid(visible=True)
            axes.set(xlabel=x, title=name)
        row[0].set(ylabel=y)
        figure.suptitle(short(title, 120))
        if any(lines for lines in panels.values()):
            figure.legend(*row[-1].get_legend_handles_labels(), loc="outside right upper")
    ends = [f"{line.name} {line.y[-1]:.3f}" for line in next(iter(panels.values()))][:8]
    return Picture(figure, f"{title}: {y} over {x}; at the end {', '.join(ends)}.")


def class_colour(number: int) -> str:
    """The colour of a class by its place."""
    return CLASS_COLOURS[number % len(CLASS_COLOURS)]


def _time_axis(axes: Any, axis: TimeAxis) -> None:
    """Times along the lower edge, the reference as a shade, the change as a line."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    half = axis.stretch / 2
    first, last = date2num(axis.times[0] - half), date2num(axis.times[-1] + half)
    locator = AutoDateLocator(UTC, minticks=3, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, UTC))
    axes.set_xlim(first, last)
    axes.axvspan(first, min(max(date2num(axis.reference_until), first), last), color=SHADE, linewidth=0)
    if axis.changed_at is not None:
        at = min(max(date2num(axis.changed_at), first), last)
        axes.axvline(at, color=AFTER, linewidth=1.5, zorder=3)
        side = "right" if at - first > 0.7 * (last - first) else "left"
        place = {"xycoords": axes.get_xaxis_transform(), "xytext": (0, 2), "textcoords": "offset points"}
        axes.annotate("change", (at, 1), **place, ha=side, va="bottom", color=AFTER, weight="bold", size=7)


def _change_in_words(axis: TimeAxis) -> str:
    if axis.changed_at is None:
        return ""
    return f" The change begins {axis.changed_at.astimezone(UTC):%d %b %Y %H:%M}."


def _few_levels(axis: Any, shown: Callable[[float], str]) -> None:
    axis.get_major_locator().set_params(nbins=3)
    axis.set_major_formatter(lambda value, _: shown(value))


def _percent(value: float) -> str:
    return f"{value:.1%}" if 0 < value < 0.1 else f"{value:.0%}"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.3g}"
