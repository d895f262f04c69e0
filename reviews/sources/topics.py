"""The mapping of each topic: compiled at the start, found by the name of a topic."""

from collections.abc import Callable, Sequence

from reviews.sources.mapping import SourceMapping
from reviews.sources.record_parts import Decode
from reviews.sources.settings import SourceSettings, source_of

Decoders = Callable[[SourceSettings], tuple[Decode | None, Decode | None]]
"""What decodes the values and the keys of a source; None where its mapping reads them itself."""


class TopicMappings:
    """How the records of each topic are read.

    Args:
        sources: The settings; without any, every topic has the message format of reviews.
        max_bytes: Longer values are refused.
        decoders: Makes decoders of the formats that need one.

    Raises:
        WrongUse: If a format cannot be decoded here.
    """

    def __init__(self, sources: Sequence[SourceSettings], max_bytes: int, decoders: Decoders) -> None:
        self._sources = tuple(sources)
        self._mappings = {
            source.name: SourceMapping(source, max_bytes, *decoders(source))
            for source in self._sources
            if not source.is_plain
        }
        self._of_topics: dict[str, SourceMapping | None] = {}

    def of(self, topic: str) -> SourceMapping | None:
        """How its records are read; None where they have the message format of reviews."""
        if topic not in self._of_topics:
            source = source_of(self._sources, topic)
            self._of_topics[topic] = None if source is None else self._mappings.get(source.name)
        return self._of_topics[topic]


def without_decoders(_source: SourceSettings) -> tuple[None, None]:
    """For sources of JSON and text alone."""
    return None, None


PLAIN = TopicMappings((), 0, without_decoders)
"""Every topic has the message format of reviews."""
