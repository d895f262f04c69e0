"""A rendered chart: inline in a page (light and dark), as an SVG file, or as a PNG file.

Every text of a chart goes through :func:`short`, since names of classes and settings come from outside.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from threading import RLock
from typing import Any

from reviews.sanitise import sanitise

INK, SOFT, LINE, SHADE = "#1c1917", "#6f6862", "#e7e5e4", "#e8edf4"
BEFORE, AFTER, BLUE = "#7a8aa0", "#c2410c", "#3b7df0"
CLASS_COLOURS = (
    "#dc2626", "#8a8580", "#15924b", "#3b7df0", "#a16a07", "#a855f7", "#0887a3", "#db2777",
    "#64748b", "#ea580c", "#5f8d0c", "#6366f1", "#0d9488", "#c026d3", "#8d6e4a", "#4d7ea8",
    "#b4553f", "#7c8a2b", "#9f5f9f", "#3f8f6f",
)  # fmt: skip
"""Of the classes in their order; each has a contrast of 3 or more to white and to the dark page."""

_SCHEME = {INK: "ink", SOFT: "soft", LINE: "line", SHADE: "shade"}
_NUMBERED_ID = re.compile(r' id="[a-z0-9.]+_\d+"')
_FONT = re.compile(r"font-family: [^;\"]*; ?")
_STYLE_SHEET = re.compile(r"\s*<defs>\s*<style[^>]*>[^<]*</style>\s*</defs>")
_STYLE_ATTRIBUTE = re.compile(r' style="([^"]*)"')
_FOR_ALL_PARTS = 'stroke-linejoin="round" stroke-linecap="butt"'  # as Matplotlib's style sheet says
_HEAD = re.compile(r"^.*?<svg [^>]*viewBox=\"([^\"]*)\"[^>]*>(?:\s*<metadata>.*?</metadata>)?", re.DOTALL)
_ONE_AT_A_TIME = RLock()
_STYLE = {
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.labelcolor": SOFT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "axes.titlecolor": INK,
    "figure.titlesize": "medium",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.0,
    "grid.color": LINE,
    "legend.frameon": False,
    "legend.labelcolor": SOFT,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.color": LINE,
    "ytick.labelcolor": SOFT,
}


@dataclass(frozen=True, slots=True, eq=False)
class DrawnPicture:
    """A chart as it is put into pages, drawn already.

    Attributes:
        element: The ``svg`` element.
    """

    element: str

    def __html__(self) -> str:
        """The element."""
        return self.element


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A chart and its description in words.

    Attributes:
        figure: A Matplotlib figure.
        alternative: What it shows, for those who cannot see it.
    """

    figure: Any
    alternative: str

    def png(self) -> bytes:
        """On white; the same bytes for the same figure."""
        return self._saved("png", dpi=150, metadata={"Software": None})

    def svg(self) -> bytes:
        """A file with text as text, on white; the same bytes for the same figure."""
        return self._saved("svg", metadata={"Date": None, "Creator": None})

    def __html__(self) -> str:
        """An ``svg`` element for a page: without a background, in the page's font and colours.

        Without styles, too, which a strict Content-Security-Policy forbids: all are attributes.
        """
        self.figure.patch.set_visible(False)
        text = self._saved("svg", metadata={"Date": None, "Creator": None}).decode()
        self.figure.patch.set_visible(True)
        text = _FONT.sub("", _NUMBERED_ID.sub("", text)).replace("xlink:href", "href")
        text = _STYLE_ATTRIBUTE.sub(_as_attributes, _STYLE_SHEET.sub("", text, count=1))
        for colour, name in _SCHEME.items():
            text = text.replace(colour, f"var(--{name})")
        label = escape(sanitise(self.alternative))
        width = self.figure.get_figwidth() * 100
        head = rf'<svg viewBox="\1" width="{width:.0f}" role="img" aria-label="{{}}" {_FOR_ALL_PARTS}>'
        return _HEAD.sub(head, text, count=1).replace("{}", label, 1).strip()

    def drawn(self) -> DrawnPicture:
        """The element for a page, drawn now and once: a chart takes about a tenth of a second."""
        return DrawnPicture(self.__html__())

    def _saved(self, form: str, **options: Any) -> bytes:
        content = io.BytesIO()
        # Ids of parts repeat if two charts are on one page, unless the salt differs.
        with _styled({"svg.hashsalt": self.alternative}):
            self.figure.savefig(content, format=form, **options)
        self.figure.set_layout_engine("none")  # laid out once, it stays so
        return content.getvalue()


def _as_attributes(style: re.Match[str]) -> str:
    """The properties of a style as attributes of the same names."""
    properties = (one.split(":", 1) for one in style[1].split(";") if ":" in one)
    return "".join(f' {name.strip()}="{value.strip()}"' for name, value in properties)


@contextmanager
def drawing(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> Iterator[Any]:
    """A figure in the style of all charts, and its axes as ``Figure.subplots`` returns them.

    Args:
        width: Inches.
        height: Inches.
        rows: Of axes.
        columns: Of axes.
        options: For ``subplots``.
    """
    # Not pyplot: it keeps every figure, and picks a window system.
    from matplotlib.figure import Figure

    with _styled({}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots(rows, columns, **options)


def short(name: object, longest: int = 22) -> str:
    """A name as one line, without its middle where it is long: beginnings and ends tell names apart."""
    text = str(name)
    if len(text) > 2 * longest:
        text = text[:longest] + text[-longest:]
    text = " ".join(sanitise(text).split())
    if len(text) <= longest:
        return text
    head = (longest - 1) * 2 // 3
    return f"{text[:head]}…{text[head + 1 - longest :]}"


@contextmanager
def _styled(further: dict[str, Any]) -> Iterator[None]:
    import matplotlib as mpl

    # Matplotlib's settings and Python's filters of warnings belong to the process: one chart at a time.
    with _ONE_AT_A_TIME, mpl.rc_context(_STYLE | further), warnings.catch_warnings():
        # A browser has the glyphs that DejaVu lacks; a PNG shows a box instead.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield
