"""Guidelines as HTML: Markdown without HTML of its own; links lead to web pages, and nothing is loaded."""

from functools import lru_cache
from urllib.parse import urlsplit

from markdown_it import MarkdownIt

from reviews.errors import WrongUse
from reviews.sanitise import sanitise

LONGEST_CHARACTERS = 20_000
_HEADINGS_ABOVE = 2  # the page, and the panel with the guidelines
_SCHEMES = frozenset({"http", "https", "mailto"})


def check_guidelines(markdown: str) -> str:
    """The text with line ends as they are stored.

    Raises:
        WrongUse: If it is blank or too long.
    """
    text = "\n".join(markdown.splitlines()).strip()
    if not text or len(text) > LONGEST_CHARACTERS:
        raise WrongUse(
            f"Guidelines have 1 to {LONGEST_CHARACTERS:,} characters; these have {len(text):,}: shorten "
            "them, or link to a longer page."
        )
    return text


def to_html(markdown: str) -> str:
    """The HTML of guidelines, safe to put into a page: headings, lists, tables, emphasis, code and links."""
    parser = _parser()
    tokens = parser.parse(sanitise(markdown))
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(6, int(token.tag[1:]) + _HEADINGS_ABOVE)}"
        for link in token.children or ():
            if link.type == "link_open":
                link.attrs |= {"rel": "noopener noreferrer", "target": "_blank"}
    html: str = parser.renderer.render(tokens, parser.options, {})
    return html


class _Parser(MarkdownIt):
    def validateLink(self, url: str) -> bool:  # noqa: N802  the library's name
        """Whether a link leads to a page or an address, and runs nothing."""
        try:
            return urlsplit(url).scheme.lower() in _SCHEMES
        except ValueError:
            return False


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    # Images would be loaded from elsewhere.
    return _Parser("commonmark", {"html": False}).enable("table").disable("image")
