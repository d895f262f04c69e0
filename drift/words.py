"""Texts as words, and which of them a reference does not know."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

# Chinese and Japanese are written without spaces: there a character is a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\d_\u3040-\u30ff\u3400-\u9fff]+")


def words(text: str) -> list[str]:
    """The words of a text in small letters, without digits and punctuation."""
    return _WORD.findall(text.casefold())


class Vocabulary:
    """The words that reference texts use.

    A word is known when two reference texts have it: names and slips of the pen, which every text brings a
    few of, would otherwise be known only by luck.

    Args:
        texts: The reference.
        least_texts: How many texts must have a word.
    """

    def __init__(self, texts: Iterable[str], least_texts: int = 2) -> None:
        counts = Counter(word for text in texts for word in set(words(text)))
        self._known = frozenset(word for word, count in counts.items() if count >= least_texts)
        self._known_to_others = frozenset(word for word, count in counts.items() if count > least_texts)

    def unknown_shares(self, texts: Sequence[str], *, of_reference: bool = False) -> npt.NDArray[np.float32]:
        """float32 (texts): the share of each text's words that the reference does not know, in [0, 1].

        Args:
            texts: Any.
            of_reference: The texts are the reference's own: each is then held against all the others, since
                no text is strange to itself.
        """
        known = self._known_to_others if of_reference else self._known
        shares = np.zeros(len(texts), np.float32)
        for index, text in enumerate(texts):
            if found := words(text):
                shares[index] = sum(word not in known for word in found) / len(found)
        return shares
