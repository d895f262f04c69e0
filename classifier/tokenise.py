"""Texts to token ids by the Rust tokeniser, unpadded and already cut to the model's length."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.encoded import Encoded
from classifier.long_texts import LongTextRule, pieces
from classifier.quiet import quiet_transformers
from reviews.errors import ModelError

if TYPE_CHECKING:
    from classifier.base_model import BaseModel

_CHARACTERS_AT_ONCE = 1_000_000


class Tokeniser:
    """The Rust tokeniser of a base model; its methods may be called from several threads at once.

    Args:
        backend: A ``tokenizers.Tokenizer``.
        max_length_tokens: What the model reads at once, special tokens included.
        rule: What becomes of longer texts.
    """

    def __init__(self, backend: Any, max_length_tokens: int, rule: LongTextRule | None = None) -> None:
        # Cutting and padding are ours: the wrapper sets them on the shared object with each call.
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._rule = rule or LongTextRule()
        self.max_length_tokens = max_length_tokens
        mask = backend.encode("a").special_tokens_mask
        self._prefix = mask.index(0)  # special tokens before the text
        self._suffix = mask[::-1].index(0)  # and after it

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The token ids of each text; releases the interpreter's lock while it works.

        Raises:
            ModelError: If a text cannot be encoded (a lone surrogate).
        """
        rows: list[list[int]] = []
        owners: list[int] = []
        truncated = np.zeros(len(texts), np.bool_)
        for owner, ids in enumerate(self._ids(texts)):
            if not ids:
                raise ModelError(
                    "A text has no token that the model knows; pass texts with something to see."
                )
            cut, truncated[owner] = self._fit(ids)
            rows += cut
            owners += [owner] * len(cut)
        return Encoded.of(rows, np.array(owners, np.int64), truncated)

    def _ids(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """The ids of each text, whole; few texts at a time, as each character of them takes 60 bytes."""
        for some in _groups(texts):
            try:
                found = self._backend.encode_batch_fast(some)
            except (UnicodeEncodeError, TypeError) as err:
                raise ModelError(
                    f"A text cannot be tokenised: {type(err).__name__}; pass valid Unicode."
                ) from err
            yield from (encoding.ids for encoding in found)

    def _fit(self, ids: list[int]) -> tuple[list[list[int]], bool]:
        """The rows that stand for one text, and whether something of it is lost."""
        if len(ids) <= self.max_length_tokens:
            return [ids], False
        end = len(ids) - self._suffix
        room = self.max_length_tokens - self._prefix - self._suffix
        bodies, is_cut = pieces(ids[self._prefix : end], room, self._rule)
        return [ids[: self._prefix] + body + ids[end:] for body in bodies], is_cut


def _groups(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in order, in groups of about so many characters as may be tokenised at once."""
    group: list[str] = []
    characters = 0
    for text in texts:
        if group and characters + len(text) > _CHARACTERS_AT_ONCE:
            yield group
            group, characters = [], 0
        group.append(text)
        characters += len(text)
    if group:
        yield group


def load_tokeniser(base: "BaseModel", max_length_tokens: int, rule: LongTextRule | None = None) -> Tokeniser:
    """The tokeniser that belongs to a base model.

    Args:
        base: The base model.
        max_length_tokens: Where texts are cut, if the model can read as much.
        rule: What becomes of longer texts; None cuts off their ends.

    Raises:
        ModelError: If it cannot be loaded or has no Rust implementation.
    """
    from transformers import AutoTokenizer

    try:
        tokeniser = AutoTokenizer.from_pretrained(
            base.directory, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError) as err:
        reason = (str(err).splitlines() or [type(err).__name__])[0]
        raise ModelError(f"The tokeniser of {base.name} cannot be loaded: {reason}") from err
    backend = getattr(tokeniser, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"The tokeniser of {base.name} has no fast (Rust) form; convert it to tokenizer.json."
        )
    longest = min(max_length_tokens, tokeniser.model_max_length)
    positions = longest_input_tokens(base)
    return Tokeniser(backend, longest if positions is None else min(longest, positions), rule)


def longest_input_tokens(base: "BaseModel") -> int | None:
    """The most tokens that a base model has positions for; None where their number is not limited.

    The model itself is asked, built without its weights: RoBERTa and its many relatives count positions from
    the padding's id on, and their tables of positions say so.

    Raises:
        ModelError: If transformers has no sequence classifier of that architecture.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    try:
        with quiet_transformers(), torch.device("meta"):
            config = AutoConfig.from_pretrained(
                base.directory, local_files_only=True, trust_remote_code=False
            )
            model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, TypeError) as err:
        reason = (str(err).splitlines() or [type(err).__name__])[0]
        raise ModelError(f"The base model {base.name} cannot be loaded: {reason}") from err
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:  # -1 in XLNet's and others': there is no limit
        return None
    padded = (
        module
        for name, module in model.named_modules()
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None
    )
    return min([positions, *(len(table.weight) - int(table.padding_idx) - 1 for table in padded)])
