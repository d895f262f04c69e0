"""Real reviews joined and cut to wanted numbers of tokens: a long tail, or all of one length."""

from collections.abc import Iterator, Sequence
from itertools import cycle
from statistics import NormalDist

import numpy as np

from benchmarks.figures import percentile, report
from classifier.base_model import locate

MEDIAN_TOKENS, MEAN_TOKENS = 60, 86
LEAST_TOKENS, MOST_TOKENS = 6, 510  # a cut may add one; no text shall be too long for the model


def long_tail(count: int, seed: int = 5) -> list[int]:
    """So many lengths in tokens, log-normal with the median and the mean above, in random order.

    They are the distribution's quantiles, not draws: few texts have the tail that many would have.
    """
    spread = (2 * np.log(MEAN_TOKENS / MEDIAN_TOKENS)) ** 0.5
    normal = NormalDist(float(np.log(MEDIAN_TOKENS)), float(spread))
    lengths = [round(float(np.exp(normal.inv_cdf((rank + 0.5) / count)))) for rank in range(count)]
    order = np.random.default_rng(seed).permutation(count)
    return [min(max(lengths[index], LEAST_TOKENS), MOST_TOKENS) for index in order]


def of_lengths(reviews: Sequence[str], lengths: Sequence[int], base: str) -> list[str]:
    """One text for each length, of the reviews one after another; a cut within a word may add a token."""
    tokeniser = plain_tokeniser(base)
    source = cycle(reviews)
    return [_one(source, length - 2, tokeniser) for length in lengths]  # two special tokens


def _one(source: Iterator[str], tokens: int, tokeniser) -> str:
    text = next(source)
    while len(offsets := tokeniser.encode(text, add_special_tokens=False).offsets) < tokens:
        text = f"{text} {next(source)}"
    return text[: offsets[tokens - 1][1]]


def plain_tokeniser(base: str):
    """The base model's tokeniser; it neither cuts nor pads."""
    from tokenizers import Tokenizer

    tokeniser = Tokenizer.from_file(str(locate(base).directory / "tokenizer.json"))
    tokeniser.no_truncation()
    tokeniser.no_padding()
    return tokeniser


def report_lengths(kind: str, texts: Sequence[str], base: str) -> None:
    """Print what the texts of a kind are: how many tokens, special ones included."""
    lengths = [len(found.ids) for found in plain_tokeniser(base).encode_batch(list(texts))]
    report(f"{kind}.texts", [len(texts)], "texts")
    for name, value in (
        ("mean", float(np.mean(lengths))),
        ("p50", percentile(lengths, 0.5)),
        ("p95", percentile(lengths, 0.95)),
        ("max", max(lengths)),
    ):
        report(f"{kind}.tokens_{name}", [value], "tokens")
