"""Which topics a worker reads reviews from, and what the reviews of each are scored for."""

from collections.abc import Callable, Iterable

from broker.topics import TopicChoice
from consumer.batch import Tasks
from reviewloop.settings import Settings
from reviews.sources.settings import source_of


def written_topics(settings: Settings) -> frozenset[str]:
    """The topics that hold no reviews: labels, and what the system publishes itself."""
    dead_letters = settings.consumer.dead_letter_topic
    own = {settings.kafka.labels_topic, settings.alerts.topic, *(sink.topic for sink in settings.sinks)}
    return frozenset(own | ({dead_letters} if dead_letters else set()))


def review_topics(settings: Settings) -> TopicChoice:
    """The topics of the reviews; no pattern takes those that hold none."""
    if not settings.sources:
        return TopicChoice((settings.kafka.reviews_topic,))
    return TopicChoice(
        tuple(source.topic for source in settings.sources if source.topic is not None),
        tuple(source.pattern for source in settings.sources if source.pattern is not None),
        written_topics(settings),
    )


def tasks_of(settings: Settings) -> Callable[[str], Tasks]:
    """What the reviews of a topic are scored for; None: every task of ``consumer.tasks``."""

    def of(topic: str) -> Tasks:
        source = source_of(settings.sources, topic)
        return frozenset(source.tasks) if source is not None and source.tasks else None

    return of


def topics_of_task(settings: Settings, task: str, topics: Iterable[str]) -> list[str]:
    """Those of the topics whose reviews are scored for a task; topics that are not configured are."""
    tasks = tasks_of(settings)
    return [topic for topic in topics if (wanted := tasks(topic)) is None or task in wanted]
