"""Texts to token ids with the Rust tokeniser, unpadded and cut to the model's input length.

What becomes of a text beyond the model's length is a rule. Head and tail: Sun, Qiu, Xu, Huang: How to
Fine-Tune BERT for Text Classification (2019), 128 of 510 tokens from the beginning, the rest from the end.
Windows: the text in overlapping pieces, whose logits are averaged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from classifier.base_model import BaseModel, quiet_transformers
from classifier.settings import LongTexts
from reviews.errors import ModelError

_CHARACTERS_AT_ONCE = 1_000_000
_HEAD_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of several texts, one after another. A text is one row, or several windows.

    Attributes:
        ids: int32 (tokens), special tokens included.
        starts: int64 (rows + 1); row ``i`` is ``ids[starts[i]:starts[i + 1]]``.
        owners: int64 (rows): the text of each row, rising; each text has at least one row.
        truncated: bool (texts): whether the model sees only a part of the text.
    """

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int64]
    truncated: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        rows: Sequence[Sequence[int]],
        owners: npt.NDArray[np.int64] | None = None,
        truncated: npt.NDArray[np.bool_] | None = None,
    ) -> "Encoded":
        """From lists of ids; without owners and marks, each row is a whole text of its own."""
        starts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, rows), np.int64, len(rows)), out=starts[1:])
        ids = np.empty(int(starts[-1]), np.int32)
        for index, row in enumerate(rows):
            ids[starts[index] : starts[index + 1]] = row
        return cls(
            ids,
            starts,
            np.arange(len(rows)) if owners is None else owners,
            np.zeros(len(rows), np.bool_) if truncated is None else truncated,
        )

    def __len__(self) -> int:
        return len(self.truncated)

    @property
    def tokens(self) -> int:
        """How many tokens the model gets."""
        return len(self.ids)

    @property
    def row_lengths(self) -> npt.NDArray[np.int64]:
        """int64 (rows): the tokens of each row."""
        return np.diff(self.starts)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """int64 (texts): the tokens that the model reads for each text, over all its windows."""
        return np.bincount(self.owners, self.row_lengths, len(self)).astype(np.int64)

    def row(self, index: int) -> npt.NDArray[np.int32]:
        """int32 (tokens): the ids of one row."""
        return self.ids[self.starts[index] : self.starts[index + 1]]

    def rows(self) -> list[npt.NDArray[np.int32]]:
        """int32 (tokens) each: the ids of all rows, views of ``ids``."""
        return [self.row(index) for index in range(len(self.owners))]

    def select(self, texts: Sequence[int]) -> "Encoded":
        """The encoding of some of the texts, as if these alone had been tokenised.

        Args:
            texts: Their indices, rising.
        """
        chosen = np.zeros(len(self), np.bool_)
        chosen[list(texts)] = True
        rows = np.flatnonzero(chosen[self.owners])
        starts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(self.row_lengths[rows], out=starts[1:])
        ids = np.concatenate([self.row(int(row)) for row in rows]) if len(rows) else self.ids[:0]
        owners = np.cumsum(chosen)[self.owners[rows]] - 1
        return Encoded(ids, starts, owners.astype(np.int64), self.truncated[chosen])

    def text(self, index: int) -> npt.NDArray[np.int32]:
        """int32 (tokens): the ids of one text's first row: all of it, unless it has windows."""
        return self.row(int(np.searchsorted(self.owners, index)))


@dataclass(frozen=True, slots=True)
class LongTextRule:
    """What becomes of texts beyond the model's length.

    Attributes:
        kind: ``truncate``, ``head_tail`` or ``windows``.
        overlap_tokens: Tokens that neighbouring windows share.
        max_windows: Most windows of one text.
    """

    kind: LongTexts = "truncate"
    overlap_tokens: int = 64
    max_windows: int = 8


class ReadToken(NamedTuple):
    """A token that a model reads, for people.

    Attributes:
        text: As the vocabulary writes it; where that is a part of a character, the part of the text.
        is_special: Whether it marks the beginning or the end, and is not in the text.
    """

    text: str
    is_special: bool


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

    def tokens(self, text: str) -> list[list[ReadToken]]:
        """The tokens that the model reads of one text: a row of them, or several windows.

        Raises:
            ModelError: If the text cannot be encoded, or has nothing that the model knows.
        """
        self.encode([text])  # for its errors
        encoding = self._backend.encode(text)
        rows, _ = self._fit(list(range(len(encoding.ids))))
        return [[self._read(encoding, text, place) for place in row] for row in rows]

    def _read(self, encoding: Any, text: str, place: int) -> ReadToken:
        written = self._backend.decode([encoding.ids[place]], skip_special_tokens=False)
        if "\N{REPLACEMENT CHARACTER}" in written:
            written = text[slice(*encoding.offsets[place])]
        return ReadToken(written.strip(), bool(encoding.special_tokens_mask[place]))

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
        """The rows of one text, and whether a part of it is left out."""
        if len(ids) <= self.max_length_tokens:
            return [ids], False
        end = len(ids) - self._suffix
        room = self.max_length_tokens - self._prefix - self._suffix
        bodies, is_cut = pieces(ids[self._prefix : end], room, self._rule)
        return [ids[: self._prefix] + body + ids[end:] for body in bodies], is_cut


def load_tokeniser(base: BaseModel, max_length_tokens: int, rule: LongTextRule | None = None) -> Tokeniser:
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


def longest_input_tokens(base: BaseModel) -> int | None:
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


def pieces(body: list[int], room: int, rule: LongTextRule) -> tuple[list[list[int]], bool]:
    """The parts of a text that the model reads, each of at most ``room`` tokens, and whether any is left out.

    Args:
        body: Token ids without special tokens, more than ``room``.
        room: Tokens that fit beside the special tokens.
        rule: What to do.
    """
    if rule.kind == "truncate":
        return [body[:room]], True
    if rule.kind == "head_tail":
        head = int(room * _HEAD_SHARE)
        return [body[:head] + body[len(body) - (room - head) :]], True
    step = max(1, room - min(rule.overlap_tokens, room // 2))
    starts = range(0, max(1, len(body) - (room - step)), step)
    windows = [body[start : start + room] for start in starts[: rule.max_windows]]
    return windows, len(starts) > rule.max_windows


def pool(
    values: npt.NDArray[np.float32], owners: npt.NDArray[np.int64], weights: npt.NDArray[np.int64], texts: int
) -> npt.NDArray[np.float32]:
    """float32 (texts, columns): the mean over each text's rows, weighted by their lengths.

    Args:
        values: float32 (rows, columns).
        owners: int64 (rows), the text of each row.
        weights: int64 (rows), tokens of each row.
        texts: How many texts there are.
    """
    if len(owners) == texts:
        return values
    totals = np.bincount(owners, weights, texts)
    columns = [
        np.bincount(owners, weights * column, texts) / totals for column in values.T.astype(np.float64)
    ]
    return np.stack(columns, axis=1).astype(np.float32)


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
