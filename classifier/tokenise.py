"""Texts to token ids by the Rust tokeniser, unpadded and already cut to the model's length."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reviews.errors import ModelError

if TYPE_CHECKING:
    from classifier.base_model import BaseModel


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of several texts, one after another.

    Attributes:
        ids: int32 (tokens), special tokens included.
        starts: int64 (texts + 1); text ``i`` is ``ids[starts[i]:starts[i + 1]]``.
        truncated: bool (texts): whether the model sees only a part of the text.
    """

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    truncated: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.truncated)

    @property
    def tokens(self) -> int:
        """How many tokens the model gets."""
        return len(self.ids)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """int64 (texts): the tokens of each text, as the model sees it."""
        return np.diff(self.starts)

    def text(self, index: int) -> npt.NDArray[np.int32]:
        """int32 (tokens): the ids of one text."""
        return self.ids[self.starts[index] : self.starts[index + 1]]


class Tokeniser:
    """The Rust tokeniser of a base model; its methods may be called from several threads at once.

    Args:
        backend: A ``tokenizers.Tokenizer``.
        max_length_tokens: Where texts are cut, special tokens included.
    """

    def __init__(self, backend: Any, max_length_tokens: int) -> None:
        # Cutting and padding are ours: the wrapper sets them on the shared object with each call.
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self.max_length_tokens = max_length_tokens
        mask = backend.encode("a").special_tokens_mask
        self._prefix = mask.index(0)  # special tokens before the text
        self._suffix = mask[::-1].index(0)  # and after it

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The token ids of each text; releases the interpreter's lock while it works.

        Raises:
            ModelError: If a text cannot be encoded (a lone surrogate).
        """
        try:
            rows = [encoding.ids for encoding in self._backend.encode_batch_fast(list(texts))]
        except (UnicodeEncodeError, TypeError) as err:
            raise ModelError(
                f"A text cannot be tokenised: {err.__class__.__name__}; pass valid Unicode."
            ) from err
        truncated = np.fromiter((len(row) > self.max_length_tokens for row in rows), np.bool_, len(rows))
        rows = [self._cut(row) if cut else row for row, cut in zip(rows, truncated, strict=True)]
        starts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=starts[1:])
        ids = np.fromiter((token for row in rows for token in row), np.int32, int(starts[-1]))
        return Encoded(ids, starts, truncated)

    def _cut(self, row: list[int]) -> list[int]:
        """The beginning of the text, between its special tokens."""
        end = len(row) - self._suffix
        return row[: self.max_length_tokens - self._suffix] + row[end:]


def load_tokeniser(base: "BaseModel", max_length_tokens: int) -> Tokeniser:
    """The tokeniser that belongs to a base model.

    Raises:
        ModelError: If it cannot be loaded or has no Rust implementation.
    """
    from transformers import AutoTokenizer

    try:
        tokeniser = AutoTokenizer.from_pretrained(
            base.directory, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError) as err:
        raise ModelError(f"The tokeniser of {base.name} cannot be loaded: {_first_line(err)}") from err
    backend = getattr(tokeniser, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"The tokeniser of {base.name} has no fast (Rust) form; convert it to tokenizer.json."
        )
    return Tokeniser(backend, min(max_length_tokens, longest_input_tokens(base), tokeniser.model_max_length))


def longest_input_tokens(base: "BaseModel") -> int:
    """The most tokens that a base model has positions for; RoBERTa's begin after its padding id."""
    config = base.config
    positions = int(config.get("max_position_embeddings") or 512)
    if config.get("model_type") in {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet"}:
        return positions - int(config.get("pad_token_id", 1)) - 1
    return positions


def _first_line(err: Exception) -> str:
    return (str(err).splitlines() or [err.__class__.__name__])[0]
