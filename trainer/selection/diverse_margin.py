"""Smallest margins, but no two alike: k-means over the embeddings of the most uncertain rows.

Zhdanov: Diverse mini-batch Active Learning (2019): of the ``10 * count`` most uncertain rows make ``count``
clusters and take the row nearest to each centre. Sculley: Web-Scale K-Means Clustering (WWW 2010) for the
mini-batches.
"""

import warnings

import numpy as np
import numpy.typing as npt

from reviews.errors import WrongUse
from trainer.extras import require
from trainer.selection.pool import NOT_EMBEDDED, Indices, Pool
from trainer.selection.ranking import greatest
from trainer.selection.uncertainty import margin_uncertainty

PREFILTER = 10
"""So many times the asked number of rows are clustered (Zhdanov's beta)."""


def diverse_margin(pool: Pool, count: int, random: np.random.Generator) -> Indices:
    """One row of each cluster of uncertain rows, the smallest margin first.

    Rows without an embedding cannot be clustered. They are not left out, which would make the choice depend
    on what was embedded: they get as large a share of the places as they have of the ``10 * count`` most
    uncertain rows, and fill it by margin alone.

    Args:
        pool: The candidates, with embeddings.
        count: How many.
        random: Breaks ties and starts the clusters.

    Raises:
        WrongUse: If the pool was read without embeddings, or scikit-learn is not installed.
    """
    require("sklearn")
    if pool.embeddings is None or pool.embedding_of is None:
        raise WrongUse("The strategy 'diverse-margin' needs a pool with embeddings: read it with them.")
    uncertain = greatest(pool, margin_uncertainty(pool), PREFILTER * count, random)
    if len(uncertain) <= count:
        return uncertain
    is_embedded = pool.embedding_of[uncertain] != NOT_EMBEDDED
    embedded = uncertain[is_embedded]
    clusters = min(round(count * is_embedded.mean()), len(embedded))
    representatives = embedded[
        _representatives(pool.embeddings[pool.embedding_of[embedded]], clusters, random)
    ]
    return _filled(uncertain, representatives, uncertain[~is_embedded], count)


def _filled(uncertain: Indices, representatives: Indices, others: Indices, count: int) -> Indices:
    """The representatives, then rows without embedding, then any: ``count`` of them in order of margin."""
    preferred = np.concatenate((representatives, others, uncertain))
    _, first_at = np.unique(preferred, return_index=True)
    taken = preferred[np.sort(first_at)[:count]]
    return uncertain[np.isin(uncertain, taken)]


def _representatives(
    embeddings: npt.NDArray[np.float16], clusters: int, random: np.random.Generator
) -> Indices:
    """int64 (at most clusters): the row nearest to each centre; of equal embeddings there are fewer."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    if clusters == 0:
        return np.empty(0, np.int64)
    model = MiniBatchKMeans(
        clusters, n_init=1, batch_size=max(1024, 3 * clusters), random_state=int(random.integers(2**31))
    )
    rows = embeddings.astype(np.float32)
    with warnings.catch_warnings():
        # Fewer different embeddings than clusters: those without a row are filled by margin.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = model.fit_predict(rows)
    distances = np.square(rows - model.cluster_centers_[labels]).sum(axis=1)
    order = np.lexsort((distances, labels))
    _, first_of_cluster = np.unique(labels[order], return_index=True)
    return order[first_of_cluster].astype(np.int64)
