"""The packed engine for BERT and RoBERTa: concatenated texts without padding.

Against the general engine: one matrix product for queries, keys and values; weights laid out once for the
matrix unit with GELU fused; attention per run of equal lengths, or in blocks of nearly equal ones; and the
last layer only for the first token of each text, all that a classifier reads. A head that reads the mean over
the tokens takes the whole last layer.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from classifier.engine import EngineOutput, Row
from classifier.engine.attention import Groups, attend_all, attend_first, group
from classifier.engine.batching import TokenBudget, answer_within, packed_batches
from classifier.engine.encoder import Encoder, Layer
from classifier.engine.lower_states import LowerStates

# oneDNN compiles a product for each number of rows it meets: rounding up lets it meet few.
_ROUND_ROWS = 64


class PackedEngine:
    """Runs an encoder on packed batches.

    Args:
        encoder: What :func:`classifier.engine.encoder.take_apart` made of a model.
        batch_tokens: Most tokens in one forward pass.
    """

    name = "packed"

    def __init__(self, encoder: Encoder, batch_tokens: int) -> None:
        self.encoder = encoder
        self._budget = TokenBudget(batch_tokens)
        self._lower_states: LowerStates | None = None

    def share_lower_layers(self, states: LowerStates) -> None:
        """Compute layers that no adapter of the base changes once for all engines that are given these."""
        self._lower_states = states
        states.join(self, self.encoder)

    def answer(self, rows: Sequence[Row], *, embed: bool = False) -> EngineOutput:
        """Logits, and embeddings if asked for, in the order of the rows."""
        with torch.inference_mode():
            return answer_within(self._budget, packed_batches, self._forward, rows, embed=embed)

    def _forward(self, rows: Sequence[Row], embed: bool) -> tuple[Tensor, Tensor | None]:
        encoder = self.encoder
        groups, ids, positions = self._pack(rows)
        shared = self._lower_states.common_layers(self) if self._lower_states is not None else 0
        x = self._lower(shared, ids, positions, groups)
        for layer in encoder.layers[shared:-1]:
            x = _run_layer(layer, x, groups, encoder)
        if encoder.pooling == "mean":
            states = _mean_of_texts(_run_layer(encoder.layers[-1], x, groups, encoder), groups)
        else:
            states = _run_last_layer(encoder.layers[-1], x, groups, encoder.heads)  # (texts, hidden)
        return encoder.head(states), states if embed else None

    def _lower(self, layers: int, ids: Tensor, positions: Tensor, groups: Groups) -> Tensor:
        """(tokens, hidden): the states behind so many layers, computed by another engine if possible."""
        encoder, kept = self.encoder, self._lower_states
        if layers == 0 or kept is None:
            return self._embed(ids, positions)
        content = ids.cpu().numpy().tobytes(), groups.starts.cpu().numpy().tobytes()
        key = (layers, encoder.dtype, encoder.by_products, *content)
        x = kept.take(key)
        if x is None:
            x = self._embed(ids, positions)
            for layer in encoder.layers[:layers]:
                x = _run_layer(layer, x, groups, encoder)
            kept.keep(key, x)
        return x

    def _embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        tables = self.encoder.tables
        x = torch.nn.functional.embedding(ids, tables.words)  # (tokens, hidden)
        return tables.norm(x + torch.nn.functional.embedding(positions, tables.positions))

    def _pack(self, rows: Sequence[Row]) -> tuple[Groups, Tensor, Tensor]:
        """Where the texts are; ids and positions, int64 (tokens), rounded up with rows that nobody reads."""
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        bounds = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=bounds[1:])
        total = int(bounds[-1])
        padded = -(-total // _ROUND_ROWS) * _ROUND_ROWS if self.encoder.device.type == "cpu" else total
        ids = np.zeros(padded, np.int64)
        np.concatenate(rows, out=ids[:total], casting="same_kind")
        positions = np.zeros(padded, np.int64)
        positions[:total] = np.arange(total) - np.repeat(bounds[:-1], lengths)
        if (padding := self.encoder.tables.padding) is not None:
            positions[:total] = _roberta_positions(ids[:total], bounds, lengths, padding)
        moved = [self._to_device(torch.from_numpy(array)) for array in (ids, positions, bounds)]
        by_products = self.encoder.attention_dtype if self.encoder.by_products else None
        groups = group(lengths, moved[2], self.encoder.heads, by_products=by_products)
        return groups, moved[0], moved[1]

    def _to_device(self, array: Tensor) -> Tensor:
        if self.encoder.device.type != "cuda":
            return array.to(self.encoder.device)
        return array.pin_memory().to(self.encoder.device, non_blocking=True)


def _run_layer(layer: Layer, x: Tensor, groups: Groups, encoder: Encoder) -> Tensor:
    """(tokens, hidden) to (tokens, hidden)."""
    fused = layer.query_keys_values
    if fused is None:
        raise TypeError("Only a last layer of first tokens has its queries apart.")
    seen = attend_all(fused(x), groups, encoder.heads)
    attended = layer.attended.add(seen, x)
    return _feed_forward(layer, layer.attended_norm(attended))


def _run_last_layer(layer: Layer, x: Tensor, groups: Groups, heads: int) -> Tensor:
    """(tokens, hidden) to (texts, hidden): the states of the first tokens."""
    if layer.query is None or layer.keys_values is None:
        raise TypeError("The last layer has its queries apart.")
    first = x[groups.starts]
    attended = attend_first(layer.query(first), layer.keys_values(x), groups, heads)
    return _feed_forward(layer, layer.attended_norm(layer.attended.add(attended, first)))


def _mean_of_texts(x: Tensor, groups: Groups) -> Tensor:
    """(tokens, hidden) to fp32 (texts, hidden): the mean over the tokens of each text."""
    means, start = [], 0
    for length, texts in groups.runs:
        end = start + length * texts
        means.append(x[start:end].view(texts, length, -1).mean(dim=1, dtype=torch.float32))
        start = end
    return torch.cat(means)


def _feed_forward(layer: Layer, x: Tensor) -> Tensor:
    summed = layer.narrow.add(layer.wide.gelu(x), x)
    if layer.outliers is not None:
        summed += layer.outliers(x)
    return layer.output_norm(summed)


def _roberta_positions(
    ids: npt.NDArray[np.int64], bounds: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], padding: int
) -> npt.NDArray[np.int64]:
    """int64 (tokens): RoBERTa counts the tokens that are not padding, from ``padding + 1`` on.

    A text may well contain the padding token, written out: it stays at ``padding`` and does not count.
    """
    counts = ids != padding
    running = np.cumsum(counts)
    before = np.repeat(running[bounds[:-1]] - counts[bounds[:-1]], lengths)
    return np.where(counts, running - before, 0) + padding
