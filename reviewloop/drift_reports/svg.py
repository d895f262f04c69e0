"""Small pictures as inline SVG: a course in time, stacked shares, two shapes side by side."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

BEFORE = "#7a8aa0"
AFTER = "#c2410c"
CLASS_COLOURS = ("#b91c1c", "#a8a29e", "#15803d", "#1d4ed8", "#a16207", "#7e22ce", "#0e7490", "#be185d")

_WIDTH, _HEIGHT = 640, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 26

Scale = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Course:
    """What a picture in time shows beside its values.

    Attributes:
        times: Seconds since 1970 at which the values stand, rising.
        reference_until: Where the reference ends.
        since: Where the change began; None without one.
        ticks: Times and their names for the lower edge.
    """

    times: Sequence[float]
    reference_until: float
    since: float | None
    ticks: Sequence[tuple[float, str]]


def line(course: Course, values: Sequence[float | None], usual: float, *, percent: bool, label: str) -> str:
    """Values over time, with the reference's mean as a dashed line.

    Args:
        course: The times.
        values: One for each time; None where there is none.
        usual: The reference's mean.
        percent: Whether they are shares.
        label: What it shows, for those who cannot see it.
    """
    known = [value for value in values if value is not None]
    low, high = _range([*known, usual])
    x, y = _scales(course, low, high)
    dots = [
        (x(time), y(value)) for time, value in zip(course.times, values, strict=True) if value is not None
    ]
    parts = [
        *_frame(course, x),
        *_change(course, x),
        *(_level(y(value), _number(value, percent=percent)) for value in (low, (low + high) / 2, high)),
        f'<line class="usual" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(usual):.1f}" y2="{y(usual):.1f}"/>',
        *(f'<polyline class="values" points="{path}"/>' for path in _unbroken(course, values, x, y)),
        *(f'<circle class="dot" cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="2.5"/>' for place in dots),
    ]
    return _svg(parts, label)


def stacked(course: Course, shares: Sequence[dict[str, float]], names: Sequence[str], label: str) -> str:
    """Shares of classes over time, as bars of equal height.

    Args:
        course: The times.
        shares: For each time, the share of each class.
        names: The classes, the lowest first.
        label: What it shows, for those who cannot see it.
    """
    x, y = _scales(course, 0.0, 1.0)
    gap = min((b - a for a, b in zip(course.times, course.times[1:], strict=False)), default=1.0)
    wide = max(2.0, x(course.times[0] + gap) - x(course.times[0]) - 1) if course.times else 2.0
    parts = []
    for time, of_time in zip(course.times, shares, strict=True):
        top = 0.0
        for number, name in enumerate(names):
            share = of_time.get(name, 0.0)
            parts.append(
                f'<rect x="{x(time) - wide / 2:.1f}" y="{y(top + share):.1f}" width="{wide:.1f}" '
                f'height="{max(0.0, y(top) - y(top + share)):.2f}" fill="{colour(number)}"/>'
            )
            top += share
    levels = [_level(y(value), f"{value:.0%}") for value in (0.0, 0.5, 1.0)]
    end = x(course.reference_until)
    edge = f'<line class="edge" x1="{end:.1f}" x2="{end:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
    return _svg([*_frame(course, x), *parts, *levels, edge, *_change(course, x)], label)


def shapes(names: Sequence[str], before: Sequence[float], after: Sequence[float], label: str) -> str:
    """Two distributions over the same bins, side by side.

    Args:
        names: Of the bins, as far as they are to be shown; empty ones are left out.
        before: The reference's share of each bin.
        after: The window's.
        label: What it shows, for those who cannot see it.
    """
    high = max([*before, *after, 1e-9])
    width, height = 310, _HEIGHT
    step = (width - _LEFT - _RIGHT) / max(1, len(names))
    ground = height - _BOTTOM
    scale = (ground - _TOP) / high
    parts = []
    for number, (name, one, other) in enumerate(zip(names, before, after, strict=True)):
        left = _LEFT + number * step
        for place, (share, fill) in enumerate(((one, BEFORE), (other, AFTER))):
            parts.append(
                f'<rect x="{left + step * (0.1 + 0.4 * place):.1f}" y="{ground - share * scale:.1f}" '
                f'width="{step * 0.38:.1f}" height="{share * scale:.2f}" fill="{fill}"/>'
            )
        if name:
            parts.append(
                f'<text x="{left + step / 2:.1f}" y="{height - 8}" text-anchor="middle">{escape(name)}</text>'
            )
    levels = [_level(ground - value * scale, f"{value:.0%}", width) for value in (0.0, high / 2, high)]
    return _svg([*levels, *parts], label, width)


def _unbroken(course: Course, values: Sequence[float | None], x: Scale, y: Scale) -> Iterator[str]:
    """The points of each run of values without a hole."""
    points: list[str] = []
    for time, value in zip(course.times, values, strict=True):
        if value is not None:
            points.append(f"{x(time):.1f},{y(value):.1f}")
        elif points:
            yield " ".join(points)
            points = []
    if points:
        yield " ".join(points)


def colour(number: int) -> str:
    """The colour of a class."""
    return CLASS_COLOURS[number % len(CLASS_COLOURS)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.15 or abs(high) * 0.1 or 0.1
    return max(0.0, low - room) if low >= 0 else low - room, high + room


def _scales(course: Course, low: float, high: float) -> tuple[Scale, Scale]:
    first, last = course.times[0], course.times[-1]
    length = (last - first) or 1.0
    inner = _WIDTH - _LEFT - _RIGHT - 16

    def x(time: float) -> float:
        return _LEFT + 8 + inner * min(1.0, max(0.0, (time - first) / length))

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - (value - low) / ((high - low) or 1.0))

    return x, y


def _frame(course: Course, x: Scale) -> Iterator[str]:
    ground = _HEIGHT - _BOTTOM
    until = x(course.reference_until)
    wide = until - _LEFT
    yield f'<rect class="reference" x="{_LEFT}" y="{_TOP}" width="{wide:.1f}" height="{ground - _TOP}"/>'
    yield f'<text class="hint" x="{_LEFT + 4}" y="{_TOP + 11}">reference</text>'
    for number, (time, name) in enumerate(course.ticks):
        anchor = "end" if number and number == len(course.ticks) - 1 else "middle"
        yield f'<text x="{x(time):.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{escape(name)}</text>'


def _change(course: Course, x: Scale) -> Iterator[str]:
    if course.since is not None:
        ground = _HEIGHT - _BOTTOM
        place = x(course.since)
        side = ("end", -4) if place > _WIDTH * 0.7 else ("start", 4)
        yield f'<line class="since" x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP}" y2="{ground}"/>'
        yield (
            f'<text class="since-name" x="{place + side[1]:.1f}" y="{_TOP + 11}" '
            f'text-anchor="{side[0]}">change</text>'
        )


def _level(y: float, name: str, width: int = _WIDTH) -> str:
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{name}</text>'
    )


def _number(value: float, *, percent: bool) -> str:
    if percent:
        return f"{value:.1%}" if value < 0.1 else f"{value:.0%}"
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2f}"


def _svg(parts: Sequence[str], label: str, width: int = _WIDTH) -> str:
    return (
        f'<svg viewBox="0 0 {width} {_HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )
