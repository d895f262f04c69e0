"""What embeddings cost beside the predictions that they come with, interleaved in one run.

The same texts are scored alone, and scored with the embeddings that a setting keeps as they go into the
database; answers are not remembered, so every text takes its forward pass.
"""

import gc
from pathlib import Path

from benchmarks.classifier_data import ADAPTER, BASE, THREADS, clock, read, report_clock
from benchmarks.figures import report, report_machine
from classifier.interface import load
from classifier.settings import ClassifierSettings
from consumer.embeddings import EmbeddingSettings, kept_embeddings

TEXTS = 64
REPETITIONS = 11


def main(data: Path | None) -> None:
    report_machine()
    report_clock()
    rows = read(data, "clothing_stream", TEXTS)
    for engine in ("packed", "general"):
        classifier = load(BASE, ADAPTER, ClassifierSettings(engine=engine, cache_texts=0, threads=THREADS))
        compare(engine, classifier, rows)


def compare(engine, classifier, rows) -> None:
    encoded = classifier.encode([row["text"] for row in rows])
    names = [row["id"] for row in rows]
    seconds = {"none": [], "some": [], "all": []}
    classifier.score(encoded)
    for _ in range(REPETITIONS):
        for keep, found in seconds.items():
            gc.collect()
            began = clock()
            kept = scored(classifier, encoded, names, EmbeddingSettings(keep=keep))
            found.append(clock() - began)
            share = kept / len(rows)
            if keep != "none" and len(found) == 1:
                report(f"classifier.embeddings.{engine}.{keep}.share", [share], "share")
    for keep in ("some", "all"):
        extra = [100 * (one / alone - 1) for one, alone in zip(seconds[keep], seconds["none"], strict=True)]
        report(f"classifier.embeddings.{engine}.{keep}.extra_time", extra, "%")


def scored(classifier, encoded, names, settings) -> int:
    """How many embeddings were kept."""
    if settings.keep == "none":
        classifier.score(encoded)
        return 0
    predictions, vectors = classifier.score_and_embed(encoded)
    return len(kept_embeddings(names, predictions, vectors, settings))


if __name__ == "__main__":
    main(None)
