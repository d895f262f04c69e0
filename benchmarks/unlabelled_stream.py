"""What a stream's unlabelled reviews give to a head that is fitted on few labels.

Each way is compared with the trainer's head on the same labels: pseudo-labels, the shares of predictions over
the stream, features changed by the stream's covariance or products, and a fit of the base on masked words.

Needs ``--data DIR`` with movies_stream and clothing_stream; of the latter only the even half is read, on
which settings are chosen: what does not win there has no result to report on the odd one. Labels are drawn as
the product draws them in its first night, by the zero-shot adapter. Macro-F1 is of rows that are neither
labelled nor part of the stream.

Features are kept in ``outputs/benchmarks/features``: computing them takes most of the time.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize

from benchmarks.classifier_data import BASE, read
from benchmarks.figures import report_machine
from benchmarks.kept_features import FrozenOfBase, kept_features
from benchmarks.masked_words import MaskedWordsFit, adapted_features
from classifier.base_model import locate
from classifier.calibration import softmax
from reviews.task import DEFAULT_LABELS
from trainer.fitting.head import Head, fit_head, shift_to_shares
from trainer.fitting.prototypes import prototype_head
from trainer.metrics import evaluate
from trainer.simulation.stream import half_of

CLASSES, COUNTS, DRAWS, UNIFORM_SHARE = 3, (50, 100, 200, 500), 20, 0.4
TIMES, PSEUDO_WEIGHT = 4, 0.5  # pseudo-labels for a label, and what all of them weigh beside all labels
NEIGHBOURS, VOTERS, ALPHA, STEPS = 10, 15, 0.9, 30
ROWS = {"movies": 4000, "clothing.even": 2500}
# A fit takes minutes, so it begins with the stream of short texts: what does not win there is out.
FITS = {"movies": {"masked words, 300 steps at 2e-4": MaskedWordsFit(2e-4, 300)}}
Rows = np.ndarray


@dataclass(frozen=True)
class Stream:
    """Reviews, and which of them are tested on.

    Attributes:
        texts: The reviews.
        labels: integers (rows).
        products: Of each review; empty where the stream has none.
        features: float64 (rows, hidden).
        predicted: integers (rows): by the zero-shot head.
        test: Rows that are tested on.
        arrived: All others: the stream.
    """

    texts: list[str]
    labels: Rows
    products: list[str]
    features: Rows
    predicted: Rows
    test: Rows
    arrived: Rows


@dataclass(frozen=True)
class Night:
    """What is known after a draw of labels.

    Attributes:
        seed: Of the draw.
        features: float64 (labelled, hidden).
        labels: integers (labelled).
        speaks_for: float64 (labelled): for how much of the stream each speaks.
        unlabelled: float64 (rows, hidden).
        arrived: float64 (rows, hidden): labelled and unlabelled.
    """

    seed: int
    features: Rows
    labels: Rows
    speaks_for: Rows
    unlabelled: Rows
    arrived: Rows

    @property
    def shares(self) -> Rows:
        """float64 (classes): how often the labels occur in the stream."""
        return np.bincount(self.labels, self.speaks_for, CLASSES) / self.speaks_for.sum()


def main(data: Path | None) -> None:
    report_machine()
    torch.set_num_threads(1)
    frozen = FrozenOfBase()
    about_labels = [frozen(list(label.texts)) for label in DEFAULT_LABELS]
    for name, rows in _rows(data).items():
        stream = _stream(rows, frozen, about_labels)
        changed = _changed_features(name, stream)
        for count in COUNTS:
            found: dict[str, list[float]] = defaultdict(list)
            for draw in range(DRAWS):
                drawn = _draw(stream, count, draw)
                for way, features in changed.items():
                    night = _night(stream, features, drawn, draw)
                    for also, logits in _heads(night, features[stream.test], way):
                        scores = evaluate(softmax(logits), stream.labels[stream.test])
                        found[also].append(100 * scores["macro_f1"])
            for way, values in found.items():
                _report(f"{name}, {count} labels, {way}: macro-F1", values, found[ALONE])


ALONE = "labels alone"


def _report(figure: str, values: list[float], alone: list[float]) -> None:
    """Print mean and standard deviation over the draws, and the difference at the same labels."""
    gained = np.array(values) - np.array(alone)
    line = {"figure": figure, "value": np.mean(values), "unit": "%", "sd": np.std(values, ddof=1)}
    line |= {"draws": len(values), "gained": gained.mean()}
    line |= {"error_of_gained": gained.std(ddof=1) / len(gained) ** 0.5}
    rounded = {key: round(float(one), 2) if isinstance(one, float) else one for key, one in line.items()}
    print(json.dumps(rounded), flush=True)


def _rows(data: Path | None) -> dict[str, list[dict[str, str]]]:
    """The reviews of each stream, in the order of their files."""
    clothing = [row for row in read(data, "clothing_stream") if half_of(row["text"]) == "even"]
    streams = {"movies": read(data, "movies_stream"), "clothing.even": clothing}
    return {name: rows[: ROWS[name]] for name, rows in streams.items()}


def _stream(rows: list[dict[str, str]], frozen: FrozenOfBase, about_labels: list[Rows]) -> Stream:
    texts = [row["text"] for row in rows]
    features = frozen(texts).astype(np.float64)
    order = np.random.default_rng(0).permutation(len(rows))
    test, arrived = order[: len(order) // 2], order[len(order) // 2 :]
    first = prototype_head(about_labels, features[arrived][:1000])
    return Stream(
        texts,
        np.array([int(row["label"]) for row in rows]),
        [row["product"] for row in rows if "product" in row],
        features,
        first.logits(features).argmax(axis=1),
        test,
        arrived,
    )


def _draw(stream: Stream, count: int, draw: int) -> Rows:
    """Rows to label: 40 % uniformly, the others evenly over the predicted labels."""
    predicted = stream.predicted[stream.arrived]
    counts = np.bincount(predicted, minlength=CLASSES)
    chances = UNIFORM_SHARE / len(predicted) + (1 - UNIFORM_SHARE) / (counts > 0).sum() / counts[predicted]
    random = np.random.default_rng([count, draw])
    return random.choice(stream.arrived, count, replace=False, p=chances / chances.sum())


def _night(stream: Stream, features: Rows, drawn: Rows, seed: int) -> Night:
    of_stream = np.bincount(stream.predicted[stream.arrived], minlength=CLASSES)
    among = np.bincount(stream.predicted[drawn], minlength=CLASSES)
    speaks_for = (of_stream / np.maximum(among, 1))[stream.predicted[drawn]]
    unlabelled = features[np.setdiff1d(stream.arrived, drawn)]
    return Night(
        seed, features[drawn], stream.labels[drawn], speaks_for, unlabelled, features[stream.arrived]
    )


def _heads(night: Night, asked: Rows, way: str) -> Iterator[tuple[str, Rows]]:
    """Names and logits (asked, classes) of heads on these features."""
    head = fit_head(night.features, night.labels, CLASSES, seed=night.seed, speaks_for=night.speaks_for)
    yield way, head.logits(asked)
    if way != ALONE:
        return
    # Fits on pseudo-labels take the penalty that the labels alone chose, and the stream's shares.
    even = fit_head(night.features, night.labels, CLASSES, seed=night.seed)
    strength = even.strength or 1.0
    yield "shares of predictions over the stream", even.logits(asked) + _shift(night, even)
    for name, pseudo in PSEUDO_LABELS.items():
        found = pseudo(night, even, strength)
        yield name, found.logits(asked) + _shift(night, found)


def _shift(night: Night, head: Head) -> Rows:
    """float64 (classes): so that labels are predicted in the stream as often as they occur."""
    places = (np.arange(len(night.arrived)) + 0.5) / len(night.arrived)
    wanted = np.minimum(np.searchsorted(np.cumsum(night.shares), places), CLASSES - 1)
    return shift_to_shares(head.logits(night.arrived), wanted, np.ones(len(wanted)))


def _by_votes(night: Night, _: Head, strength: float) -> Head:
    """HAST (Schröder, Heyer: EMNLP 2024): the nearest labels vote, each class with the same weight."""
    middle = night.arrived.mean(axis=0)
    likeness = _directions(night.unlabelled - middle) @ _directions(night.features - middle).T
    voters = np.argsort(-likeness, axis=1)[:, :VOTERS]
    weights = np.exp(np.take_along_axis(likeness, voters, 1) / 0.1)
    votes = np.stack([(weights * (night.labels[voters] == one)).sum(axis=1) for one in range(CLASSES)], 1)
    return _with_surest(night, votes / np.maximum(np.bincount(night.labels, minlength=CLASSES), 1), strength)


def _by_itself(rounds: int) -> Callable[[Night, Head, float], Head]:
    """Lee: Pseudo-Label (2013): the head's surest predictions are labels for the next head."""

    def fit(night: Night, head: Head, strength: float) -> Head:
        for _ in range(rounds):
            head = _with_surest(night, softmax(head.logits(night.unlabelled)), strength)
        return head

    return fit


def _by_expectation(night: Night, head: Head, strength: float) -> Head:
    """Nigam et al.: Text Classification from Labeled and Unlabeled Documents using EM (2000)."""
    for _ in range(3):
        said = softmax(head.logits(night.unlabelled))
        head = _fitted(night, night.unlabelled, said / len(said), strength)
    return head


def _by_spreading(night: Night, _: Head, strength: float) -> Head:
    """Zhou et al.: Learning with Local and Global Consistency (NIPS 2003), on a graph of neighbours."""
    rows = np.vstack([night.features, night.unlabelled]) - night.arrived.mean(axis=0)
    likeness = _directions(rows).astype(np.float32) @ _directions(rows).astype(np.float32).T
    np.fill_diagonal(likeness, -1)
    nearest = np.argpartition(-likeness, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    graph, each = np.zeros_like(likeness), np.arange(len(rows))[:, None]
    graph[each, nearest] = np.maximum(likeness[each, nearest], 0)
    graph = np.maximum(graph, graph.T)
    scale = 1 / np.sqrt(np.maximum(graph.sum(axis=1), 1e-9))
    graph *= scale[:, None] * scale
    known = np.zeros((len(rows), CLASSES), np.float32)
    known[: len(night.labels)] = _even(np.eye(CLASSES)[night.labels])
    spread = known
    for _ in range(STEPS):
        spread = ALPHA * graph @ spread + (1 - ALPHA) * known
    found = spread[len(night.labels) :]
    return _with_surest(night, found / np.maximum(found.sum(axis=0), 1e-12), strength)


PSEUDO_LABELS: dict[str, Callable[[Night, Head, float], Head]] = {
    "votes of neighbours": _by_votes,
    "own predictions, one round": _by_itself(1),
    "own predictions, three rounds": _by_itself(3),
    "expectations over all reviews": _by_expectation,
    "spread along neighbours": _by_spreading,
}


def _with_surest(night: Night, scores: Rows, strength: float) -> Head:
    """A head on the labels and the surest pseudo-labels, of each class by its share, half evened out.

    Args:
        night: The labels.
        scores: float64 (unlabelled, classes), not negative.
        strength: Of the fit.
    """
    sure = scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-12)
    called = sure.argmax(axis=1)
    chosen = np.zeros(len(sure), np.bool_)
    for label, share in enumerate((night.shares + 1 / CLASSES) / 2):
        among = np.flatnonzero(called == label)
        most = max(1, round(TIMES * len(night.labels) * share))
        chosen[among[np.argsort(-sure[among, label], kind="stable")[:most]]] = True
    return _fitted(night, night.unlabelled[chosen], _even(np.eye(CLASSES)[called[chosen]]), strength)


def _fitted(night: Night, features: Rows, pseudo: Rows, strength: float) -> Head:
    """The trainer's penalised regression, with targets that may be divided over the classes.

    Args:
        night: The labels.
        features: float64 (rows, hidden): of reviews with pseudo-labels.
        pseudo: float64 (rows, classes): how much of each label they have, 1 in total.
        strength: Inverse to the penalty.
    """
    rows, labelled = np.vstack([night.features, features]), len(night.labels)
    targets = labelled * np.vstack([_even(np.eye(CLASSES)[night.labels]), PSEUDO_WEIGHT * pseudo])
    weights = targets.sum(axis=1)
    middle = np.average(rows, axis=0, weights=weights)
    spread = np.sqrt(np.average((rows - middle) ** 2, axis=0, weights=weights))
    columns = (rows - middle) / np.where(spread > 1e-12, spread, 1.0)
    shape = (CLASSES, columns.shape[1] + 1)

    def loss(flat: Rows) -> tuple[float, Rows]:
        moved, bias = flat.reshape(shape)[:, :-1], flat.reshape(shape)[:, -1]
        said = softmax(columns @ moved.T + bias)
        value = -(targets * np.log(np.maximum(said, 1e-12))).sum() + (moved**2).sum() / (2 * strength)
        error = said * weights[:, None] - targets
        slope = np.hstack([error.T @ columns + moved / strength, error.sum(axis=0)[:, None]])
        return float(value) / labelled, slope.ravel() / labelled

    best = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B").x.reshape(shape)
    scaled = best[:, :-1] / np.where(spread > 1e-12, spread, 1.0)
    return Head(scaled, best[:, -1] - scaled @ middle)


def _even(targets: Rows) -> Rows:
    """The targets (rows, classes) with the same total for each class that has rows, 1 altogether."""
    totals = targets.sum(axis=0)
    return targets / np.where(totals > 0, totals, 1.0) / max(1, np.count_nonzero(totals))


def _directions(rows: Rows) -> Rows:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _changed_features(name: str, stream: Stream) -> dict[str, Rows]:
    """By way, float64 (rows, hidden): what the stream without labels makes of the features."""
    arrived = stream.features[stream.arrived]
    middle, covariance = arrived.mean(axis=0), np.cov(arrived.T)
    sizes, directions = np.linalg.eigh(covariance)
    turned = (stream.features - middle) @ directions  # the longest direction comes last
    found = {ALONE: stream.features}
    found["whitened"] = turned / np.sqrt(sizes + 0.1 * sizes.mean())
    found["48 longest directions"] = turned[:, -48:]
    found["without the 3 longest directions"] = turned[:, :-3]
    if stream.products:
        found["centred by product"] = _centred(stream)
    for way, fit in FITS.get(name, {}).items():
        found[way] = kept_features(stream.texts, way, partial(_adapted, fit))
    return {way: rows.astype(np.float64) for way, rows in found.items()}


def _centred(stream: Stream) -> Rows:
    """Features without what reviews of a product have in common, by ten reviews less than there are."""
    result, middle = stream.features.copy(), stream.features[stream.arrived].mean(axis=0)
    products, has_arrived = np.array(stream.products), np.zeros(len(stream.texts), np.bool_)
    has_arrived[stream.arrived] = True
    for product in np.unique(products):
        own = products == product
        count = int((own & has_arrived).sum())
        if count:
            common = stream.features[own & has_arrived].mean(axis=0) - middle
            result[own] -= common * count / (count + 10)
    return result


def _adapted(fit: MaskedWordsFit, texts: list[str]) -> Rows:
    return adapted_features(locate(BASE), texts, fit)
