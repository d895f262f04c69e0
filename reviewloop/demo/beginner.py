"""The adapter of the first day: fitted to a dozen reviews, it knows little and says so."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from classifier.adapters.manifest import describe_adapter, read_files
from classifier.settings import ClassifierSettings
from reviewloop.demo.sample import SampleReview
from reviews.adapter import AdapterVersion
from reviews.slices import Slice
from trainer.data.dataset import SENTIMENTS, Dataset
from trainer.fitting.fit import train
from trainer.fitting.run import Run, Splits
from trainer.settings import TrainerSettings

PER_LABEL = 4
_RECIPE = TrainerSettings(epochs=1, batch_size=4, seed=1)


def fit_beginner(
    reviews: list[SampleReview], slice_of: Callable[[SampleReview], Slice], classifier: ClassifierSettings
) -> tuple[AdapterVersion, dict[str, bytes]]:
    """An adapter of four reviews a label, none of which it will be tested on, and its files.

    Args:
        reviews: Labelled ones.
        slice_of: Where each belongs.
        classifier: Names the base model and the task.

    Raises:
        ModelError: If the base cannot be had.
    """
    splits = Splits(
        _few([review for review in reviews if slice_of(review) == "train"]),
        _few([review for review in reviews if slice_of(review) == "validation"]),
    )
    with TemporaryDirectory() as folder:
        trained = train(Run(splits, classifier, _RECIPE), Path(folder), lambda _: None)
        manifest, files = read_files(trained.directory, classifier.task)
    return describe_adapter(manifest), files


def _few(reviews: list[SampleReview]) -> Dataset:
    chosen = [
        review
        for label in SENTIMENTS
        for review in [one for one in reviews if one.label == label][:PER_LABEL]
    ]
    texts = tuple(review.text for review in chosen)
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    return Dataset(texts, tuple(SENTIMENTS.index(review.label) for review in chosen), SENTIMENTS, digest)
