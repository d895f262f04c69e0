"""What the pages are made of: handed over once by the wiring, and reached from every route."""

from collections.abc import Callable
from dataclasses import dataclass, field

from broker.settings import KafkaSettings
from broker.topics import TopicChoice
from classifier.settings import ClassifierSettings
from console.scorer import ConsoleScorer
from console.settings import ConsoleSettings, LabelStudioSettings
from console.source_trial import SourceTrier
from drift.settings import DriftSettings
from reviews.label_needs import LabelNeed
from reviews.slices import SliceShares
from reviews.sources.settings import SourceSettings
from reviews.sources.topics import TopicMappings
from storage.database import Database


@dataclass(frozen=True, slots=True)
class ConsoleParts:
    """The database, and the settings that pages need.

    Attributes:
        database: Logged in with the rights of ``db roles --console``.
        settings: Of the console itself.
        kafka: The cluster and its topics.
        topics: Which topics workers read reviews from.
        classifier: Which base model adapters are for.
        drift: What a drift report is made with.
        nightly_cron: When training runs begin, a cron expression in UTC.
        tasks: The tasks that workers score for, the most important first.
        label_needs: What training runs and the gate need, so that annotators see what is lacking.
        shares: How large the slices are that these needs name.
        max_message_bytes: The longest value that workers take from a topic.
        sources: Which topics reviews are read from; empty: ``kafka.reviews_topic``.
        mappings: How the records of each topic are read.
        trier: Tries sources on live records.
        scorer: The active adapters, loaded on request; None where trying texts is switched off.
        label_studio: What Label Studio gets.
        annotator_of: The name of a user of Label Studio by its number there; None where nobody can be asked.
    """

    database: Database
    settings: ConsoleSettings
    kafka: KafkaSettings
    topics: TopicChoice
    classifier: ClassifierSettings
    drift: DriftSettings
    nightly_cron: str
    tasks: tuple[str, ...]
    label_needs: tuple[LabelNeed, ...]
    shares: SliceShares
    max_message_bytes: int
    sources: tuple[SourceSettings, ...]
    mappings: TopicMappings
    trier: SourceTrier
    scorer: ConsoleScorer | None
    label_studio: LabelStudioSettings = field(default_factory=LabelStudioSettings)
    annotator_of: Callable[[int], str] | None = None
