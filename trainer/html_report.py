"""A run as one HTML page that needs nothing else: tables and pictures inside."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:1rem 0}"
    "td,th{border:1px solid #ccc;padding:.2rem .6rem;text-align:right}"
    "th:first-child,td:first-child{text-align:left}img{max-width:100%}"
)


def page(title: str, sections: Iterable[tuple[str, str]]) -> bytes:
    """An HTML page.

    Args:
        title: Its heading.
        sections: Heading and HTML of each part.
    """
    parts = "".join(f"<h2>{escape(heading)}</h2>{content}" for heading, content in sections)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    body = f"<h1>{escape(title)}</h1>{parts}"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'.encode()


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """An HTML table; floats with four digits."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    lines = ("".join(f"<td>{escape(shown(value))}</td>" for value in row) for row in rows)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def picture(png: bytes, alternative: str) -> str:
    """An image inside the page."""
    return f'<img alt="{escape(alternative)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def pairs(values: Mapping[str, Any]) -> str:
    """A table of names and values."""
    return table(("", "value"), values.items())


def shown(value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
