"""What makes up a shift, by share: products, sources, words, clusters of texts; and what to label next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from drift.divergence import jensen_shannon_terms
from drift.measures import most_frequent, word_counts
from drift.rows import Floats, Integers, ReviewRows
from drift.vectors import Separation, Vectors
from drift.words import is_function_word

_USUAL = 0.95  # a row is new where it looks more like the window than so much of the reference does
_TOP = 10
_CLUSTERS = 8
_WORDS = 3_000
_WORDS_OF_A_CLUSTER = 4
_LEAST_EXCESS = 1e-9
_DECIMALS = 6  # texts that are the same have the same vectors, but for the last digits
_LEAST_SHARE = 0.003  # less tells nothing, and chance leaves many such parts


@dataclass(frozen=True, slots=True)
class Contribution:
    """One product, source, word or cluster, and its share of the shift.

    Attributes:
        name: Which.
        share: Of the whole shift, in [0, 1].
        reference: Its share of the reference, in [0, 1]; of all words, for a word.
        window: Its share of the window.
    """

    name: str
    share: float
    reference: float
    window: float


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """What makes up a shift.

    Attributes:
        products: The largest parts first.
        sources: The same.
        words: The same; words that became more frequent.
        clusters: The same; groups of similar texts, named by their words.
        new_rows: int64: rows of the window that look new, the newest first.
        new_share: The share of the window that looks new, less that of the reference, in [0, 1].
    """

    products: tuple[Contribution, ...]
    sources: tuple[Contribution, ...]
    words: tuple[Contribution, ...]
    clusters: tuple[Contribution, ...]
    new_rows: Integers
    new_share: float


def attribute(
    reference: ReviewRows, window: ReviewRows, vectors: Vectors, separation: Separation, seed: int = 0
) -> Attribution:
    """Which parts of the window are new.

    A review is new where the two-sample classifier finds it more like the window than 95 % of the reference.
    A part's share of the shift is its share of the new reviews, less those that the reference has of it too.

    Args:
        reference: All of the reference.
        window: All of the window.
        vectors: The rows of both that the classifier was fitted on.
        separation: The classifier's scores of them.
        seed: Of the clusters.
    """
    limit = np.quantile(separation.reference_scores, _USUAL)
    is_new = separation.reference_scores > limit, separation.window_scores > limit
    sides = reference.take(vectors.reference_rows), window.take(vectors.window_rows)
    order = np.argsort(-separation.window_scores, kind="stable")
    return Attribution(
        _parts([side.products for side in sides], is_new),
        _parts([side.sources for side in sides], is_new),
        _words(sides),
        _clusters(sides, vectors, is_new, seed),
        vectors.window_rows[order[is_new[1][order]]],
        max(0.0, float(is_new[1].mean() - is_new[0].mean())),
    )


def _parts(names: Sequence[Sequence[str | None]], is_new: Sequence[Any]) -> tuple[Contribution, ...]:
    """The parts that have more new rows in the window than in the reference, by their share of all such."""
    shown = [name or "(none)" for side in names for name in side]
    found, places = np.unique(shown, return_inverse=True)
    if len(found) < 2:
        return ()  # one part says nothing
    codes = places[: len(names[0])], places[len(names[0]) :]
    shares = [np.bincount(code, minlength=len(found)) / len(code) for code in codes]
    new = [
        np.bincount(code[mask], minlength=len(found)) / len(code)
        for code, mask in zip(codes, is_new, strict=True)
    ]
    return _largest(found.tolist(), np.maximum(0.0, new[1] - new[0]), shares)


def _words(sides: tuple[ReviewRows, ReviewRows]) -> tuple[Contribution, ...]:
    """Words that became more frequent, by their part of the Jensen-Shannon divergence.

    Function words and single letters are left out: they move too, and tell a person nothing.
    """
    columns = most_frequent([*sides[0].texts, *sides[1].texts], _WORDS)
    totals = [word_counts(side.texts, columns).sum(axis=0, dtype=np.float64) for side in sides]
    shares = [total / max(1.0, total.sum()) for total in totals]
    if not columns:
        return ()
    terms = jensen_shannon_terms(totals[0], totals[1])
    telling = np.array([len(word) > 2 and not is_function_word(word) for word in columns])
    excess = np.where(telling & (shares[1] > shares[0]), terms, 0.0)
    return _largest(list(columns), excess, shares)


def _clusters(
    sides: tuple[ReviewRows, ReviewRows], vectors: Vectors, is_new: Sequence[Any], seed: int
) -> tuple[Contribution, ...]:
    """Groups of similar texts, by k-means: Lloyd (1982), started as Arthur, Vassilvitskii (SODA 2007)."""
    from sklearn.cluster import KMeans

    rows = _dense(vectors, seed)
    count = min(_CLUSTERS, len(np.unique(rows.round(_DECIMALS), axis=0)))
    found = KMeans(count, n_init=1, random_state=seed).fit_predict(rows)
    size = vectors.reference.shape[0]
    texts = [*sides[0].texts, *sides[1].texts]
    names = _cluster_names(texts, found, count)
    named = [names[number] for number in found.tolist()]
    return _parts([named[:size], named[size:]], is_new)


def _dense(vectors: Vectors, seed: int) -> Floats:
    """float64 (rows, columns): both sides; words in the 32 directions that explain most."""
    from sklearn.decomposition import TruncatedSVD

    together = vectors.both()
    if vectors.kind == "embeddings":
        return np.asarray(together, np.float64)
    directions = TruncatedSVD(min(32, min(together.shape) - 1), random_state=seed)
    with np.errstate(invalid="ignore"):  # texts that are all alike have no variance to be shares of
        return np.asarray(directions.fit_transform(together), np.float64)


def _cluster_names(texts: Sequence[str], found: Integers, count: int) -> list[str]:
    """Each cluster by the words that set it apart from all texts, and its number where two would be alike."""
    counts = word_counts(texts, columns := most_frequent(texts, _WORDS))
    whole = counts.sum(axis=0, dtype=np.float64) + 1
    spoken = list(columns) or ["(no words)"]
    names: list[str] = []
    for number in range(count):
        inside = counts[found == number].sum(axis=0, dtype=np.float64) + 0.1
        lift = inside / inside.sum() * np.log(inside / inside.sum() * whole.sum() / whole)
        top = [spoken[column] for column in np.argsort(-lift, kind="stable")[:_WORDS_OF_A_CLUSTER]]
        name = ", ".join(top)
        names.append(name if name not in names else f"{name} ({number})")
    return names


def _largest(names: Sequence[str], excess: Floats, shares: Sequence[Floats]) -> tuple[Contribution, ...]:
    total = excess.sum()
    if total < _LEAST_EXCESS:
        return ()
    order = np.argsort(-excess, kind="stable")[:_TOP]
    return tuple(
        Contribution(
            names[place], float(excess[place] / total), float(shares[0][place]), float(shares[1][place])
        )
        for place in order
        if excess[place] >= _LEAST_SHARE * total
    )


def choose_to_label(
    new_rows: Integers, records: Integers, rows: npt.NDArray[np.floating], count: int, seed: int = 0
) -> Integers:
    """Record numbers to be labelled, the first to be labelled first.

    The first is drawn at random, each next one in proportion to its squared distance from those already
    chosen: the start of k-means++ (Arthur, Vassilvitskii, SODA 2007), so that ten near-identical texts are
    not labelled ten times and outliers are not all there is.

    Args:
        new_rows: int64 (new): rows of the window that look new.
        records: int64 (window): the records of the window.
        rows: (new, columns): a vector for each of ``new_rows``.
        count: How many are wanted.
        seed: Of the draw.

    Returns:
        int64, at most ``count``, each once.
    """
    random = np.random.default_rng(seed)
    chosen: list[int] = []
    distance = np.ones(len(new_rows))
    for _ in range(min(count, len(new_rows))):
        if distance.sum() <= 0:  # what is left is identical to something chosen
            distance = np.ones(len(new_rows))
            distance[chosen] = 0
        place = int(random.choice(len(new_rows), p=distance / distance.sum()))
        chosen.append(place)
        distance = np.minimum(distance, ((rows - rows[place]) ** 2).sum(axis=1))
        distance[chosen] = 0
    return np.asarray(records[new_rows[chosen]], np.int64)
