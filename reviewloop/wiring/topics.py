"""Which topics a worker reads reviews from, and what the reviews of each are scored for."""

from collections.abc import Callable, Iterable

from broker.topics import TopicChoice
from consumer.batch import Tasks
from reviewloop.settings import Settings


def written_topics(settings: Settings) -> frozenset[str]:
    """The topics that hold no reviews: labels, and what the system publishes itself."""
    dead_letters = settings.consumer.dead_letter_topic
    own = {settings.kafka.labels_topic, settings.alerts.topic}
    return frozenset(own | ({dead_letters} if dead_letters else set()))


def review_topics(settings: Settings) -> TopicChoice:
    """The topics of the reviews; no pattern takes those that hold none."""
    return TopicChoice((settings.kafka.reviews_topic,))


def tasks_of(settings: Settings) -> Callable[[str], Tasks]:
    """What the reviews of a topic are scored for; None: every task of ``consumer.tasks``."""
    del settings
    return lambda _: None


def topics_of_task(settings: Settings, task: str, topics: Iterable[str]) -> list[str]:
    """Those of the topics whose reviews are scored for a task; topics that are not configured are."""
    tasks = tasks_of(settings)
    return [topic for topic in topics if (wanted := tasks(topic)) is None or task in wanted]
