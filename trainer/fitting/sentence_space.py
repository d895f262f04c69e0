"""Whether texts that mean the same are close to each other in the space of a base model.

Prototypes of labels need that. Models trained to embed sentences have it; models trained to guess words, and
decoders, hardly do: there, texts are close that share words. So pairs of sentences that mean the same share
hardly any word here, and each has to find its partner among all.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Embed = Callable[[Sequence[str]], npt.NDArray[np.floating]]

PAIRS = (
    ("The food arrived cold.", "My meal was not warm any more."),
    ("The battery dies quickly.", "I have to charge it all the time."),
    ("She plays the piano well.", "She is a gifted musician."),
    ("The room was very noisy.", "I could not sleep because of the sound."),
    ("This jacket is too small.", "I need a larger size of it."),
    ("The film bored me.", "I nearly fell asleep in the cinema."),
    ("The parcel came late.", "Delivery took much longer than promised."),
    ("He drives too fast.", "He ignores speed limits."),
    ("The phone screen cracked.", "The display of my mobile is broken."),
    ("It costs a fortune.", "It is terribly expensive."),
    ("The staff were friendly.", "Everybody who works there was kind."),
    ("The shoes hurt my feet.", "Walking in them is painful."),
    ("The story made me cry.", "I was moved to tears by the book."),
    ("The engine does not start.", "My car will not run."),
    ("The coffee tastes bitter.", "This espresso has a harsh flavour."),
    ("The colours faded after washing.", "The laundry made the fabric pale."),
    ("I got my money back.", "They gave me a refund."),
    ("The lake is frozen.", "There is ice on the water."),
    ("Nobody answered my call.", "I phoned, and no one picked up."),
    ("The doctor cured him.", "A physician made him healthy again."),
)
"""Sentences that mean the same, in other words."""
ENOUGH = 18
"""Of the pairs. MiniLM finds all 20, the mean of its word vectors 16, and weights drawn at random 5."""


def pairs_found(embed: Embed) -> int:
    """How many sentences find their partner: the nearest by the cosine, the mean of all texts taken away.

    Args:
        embed: Texts to float (texts, dimensions).
    """
    vectors = np.asarray(embed([text for pair in PAIRS for text in pair]), np.float64)
    vectors = vectors - vectors.mean(axis=0)  # what all texts share says nothing: BERT's are all alike
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(float).tiny)
    first, second = vectors[::2], vectors[1::2]
    return int(((first @ second.T).argmax(axis=1) == np.arange(len(PAIRS))).sum())
