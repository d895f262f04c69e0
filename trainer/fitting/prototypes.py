"""A head made of texts about labels: the nearest prototype, without a labelled review. Pure.

The prototype of a label is the mean embedding of its texts, as in prototypical networks (Snell, Swersky,
Zemel: Prototypical Networks for Few-shot Learning, NeurIPS 2017); that texts about labels can stand in for
examples is from Chang, Ratinov, Roth, Srikumar: Importance of Semantic Representation: Dataless
Classification (AAAI 2008). What all prototypes share is taken away: it says that a text is a review, not
which label it has.

Similarities to some prototypes vary more than to others, which says nothing of the labels. So each is divided
by its standard deviation over a sample of the stream. Its mean is left as it is: it tells that a stream
is mostly of one label (``benchmarks/zero_shot.py``). All of it is linear: it is an ordinary head.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reviews.errors import WrongUse
from trainer.fitting.head import Head

_SMALLEST_SPREAD = 1e-6  # of similarities, relative to the length of the prototype


def prototype_head(
    texts_of_labels: Sequence[npt.NDArray[np.floating]], sample: npt.NDArray[np.floating]
) -> Head:
    """The head whose logits are the similarities to the prototypes, each with a spread of 1 in the sample.

    Args:
        texts_of_labels: For each label the embeddings of its texts, (texts, features), one text at least.
        sample: Embeddings of reviews of the stream, (rows, features), two rows at least.

    Raises:
        WrongUse: If two labels have the same prototype, or all rows of the sample say the same.
    """
    prototypes = np.stack([np.asarray(texts, np.float64).mean(axis=0) for texts in texts_of_labels])
    weights = prototypes - prototypes.mean(axis=0)
    lengths = np.linalg.norm(weights, axis=1)
    similarities = np.asarray(sample, np.float64) @ weights.T  # (rows, labels)
    spreads = similarities.std(axis=0)
    scale = np.maximum(lengths, 1.0)
    first, second = np.triu_indices(len(weights), 1)
    apart = np.linalg.norm(weights[first] - weights[second], axis=1)
    are_alike = apart <= _SMALLEST_SPREAD * np.maximum(scale[first], scale[second])
    if are_alike.any() or not (spreads > _SMALLEST_SPREAD * scale).all():
        raise WrongUse(
            "The texts about the labels cannot be told apart, or those of the sample cannot: give each label "
            "texts of its own in [[tasks.labels]], and a sample of different reviews."
        )
    return Head(weights / spreads[:, None], np.zeros(len(weights)))
