"""HTML pages from templates; all values are sanitised, bounded and escaped.

A template is a file beside the module that fills it. It extends ``base.html``, which holds the style of all
pages, and imports ``parts.html``, which has macros for tables, figures and bars. A page needs nothing from
elsewhere and runs no script.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pages.picture import short
from reviews.sanitise import sanitise

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).parent
_LONGEST_TEXT = 2_000


def render(template: Path, values: Mapping[str, Any]) -> str:
    """The page of a template.

    Args:
        template: Its file.
        values: For its names. Objects with ``__html__``, for example pictures, are put in as they are.
    """
    return _environment(template.parent).get_template(template.name).render(values)


def percent(share: float) -> str:
    """A share as people read it: ``12%``, ``3.4%``, ``< 0.1%``."""
    return f"{share:.0%}" if share >= 0.1 or share == 0 else f"{share:.1%}" if share >= 0.001 else "< 0.1%"


def number(value: Any) -> str:
    """A value as people read it: floats with four digits, whole numbers with commas."""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def moment(value: datetime) -> str:
    """A time as people read it: ``2026-01-31 12:00 UTC``."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def ago(value: datetime, now: datetime | None = None) -> str:
    """How long ago a time was, or how far ahead it is: ``3 min ago``, ``in 2 h``."""
    seconds = ((now or datetime.now(UTC)) - value).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= length:
            return (
                f"{seconds / length:.0f} {unit} ago" if seconds > 0 else f"in {-seconds / length:.0f} {unit}"
            )
    return "just now" if seconds >= 0 else "in a moment"


def _whole(text: str) -> Any:
    """A text of whatever length, sanitised and escaped as any other value."""
    from markupsafe import Markup

    return Markup("{}").format(sanitise(text))


@lru_cache(maxsize=8)
def _environment(folder: Path) -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([folder, _HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent, "number": number, "short": short, "moment": moment, "ago": ago, "whole": _whole
    }  # fmt: skip
    return environment


def _harmless(value: Any) -> Any:
    if value is None or hasattr(value, "__html__"):
        return "" if value is None else value
    text = str(value)
    return sanitise(text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…")
