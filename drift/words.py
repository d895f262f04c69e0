"""Texts as words: which of them a reference does not know, and of which language they are.

A text is of the language whose function words it has most of (Ingle's words-by-language rule, as compared in
Cavnar, Trenkle: N-gram-based text categorization, 1994); where most letters are of another script, the script
names it. Texts without any such word, mostly short ones, are of no language and not counted. That is light,
and good for shares.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from drift.rows import Integers

# Chinese and Japanese are written without spaces: there a character is a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\d_\u3040-\u30ff\u3400-\u9fff]+")


def words(text: str) -> list[str]:
    """The words of a text in small letters, without digits and punctuation."""
    return _WORD.findall(text.casefold())


class KnownWords:
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


_FUNCTION_WORDS = {
    "English": "the and is it this was for not with but that have are i my of to in so very they too just",
    "German": "der die das und ist nicht ich es ein eine sehr mit für war aber auch auf zu den von sie wie",
    "French": "le la les et est pas je c'est une un très avec pour mais des du que ce qui il elle trop",
    "Spanish": "el la los las y es no muy con para pero que una un lo se me por del está todo como",
    "Portuguese": "o a os as e é não muito com para mas que uma um do da em por mais foi está isso",
    "Italian": "il lo la gli e è non molto con per ma che una un di da sono del anche questo più ho",
    "Dutch": "de het een en is niet ik met voor maar dat van zeer heel op te was ook er zijn deze erg",
    "Polish": "i nie jest to na się bardzo ale z do że jak w po dla mnie od już tak są był ma",
}
_LANGUAGES_OF_WORD: dict[str, list[int]] = {}
for _number, _words in enumerate(_FUNCTION_WORDS.values()):
    for _word in _words.split():
        _LANGUAGES_OF_WORD.setdefault(_word, []).append(_number)
_SCRIPTS = {
    "Cyrillic": (0x0400, 0x052F),
    "Greek": (0x0370, 0x03FF),
    "Arabic": (0x0600, 0x06FF),
    "Hebrew": (0x0590, 0x05FF),
    "Devanagari": (0x0900, 0x097F),
    "Thai": (0x0E00, 0x0E7F),
    "Hangul": (0xAC00, 0xD7AF),
    "Kana": (0x3040, 0x30FF),
    "Han": (0x4E00, 0x9FFF),
}
_LAST_LATIN = "\u036f"  # with its accents
LANGUAGES = (*_FUNCTION_WORDS, *_SCRIPTS)


def language_of(text: str) -> str | None:
    """The language of a text, or its script; None where neither shows."""
    script = _script_of(text)
    if script is not None:
        return script
    votes = Counter(number for word in words(text) for number in _LANGUAGES_OF_WORD.get(word, ()))
    if not votes:
        return None
    return LANGUAGES[min(votes, key=lambda number: (-votes[number], number))]


def is_function_word(word: str) -> bool:
    """Whether some language's commonest small words have it."""
    return word in _LANGUAGES_OF_WORD


def languages(texts: Sequence[str]) -> Integers:
    """int64 (texts): the place of each text's language among :data:`LANGUAGES`; -1 for none."""
    numbers = {name: number for number, name in enumerate(LANGUAGES)}
    found = map(language_of, texts)
    return np.fromiter((-1 if name is None else numbers[name] for name in found), np.int64, len(texts))


def _script_of(text: str) -> str | None:
    """The script of a text that is hardly Latin."""
    if text.isascii() or not any(letter > _LAST_LATIN for letter in text):
        return None
    letters = [ord(letter) for letter in text if letter.isalpha()]
    counts = {
        name: sum(low <= letter <= high for letter in letters) for name, (low, high) in _SCRIPTS.items()
    }
    best = max(counts, key=lambda name: counts[name])
    if counts["Kana"] and counts["Kana"] + counts["Han"] > len(letters) / 2:
        return "Kana"  # Japanese mixes both; Chinese has no kana
    return best if counts[best] > len(letters) / 2 else None
