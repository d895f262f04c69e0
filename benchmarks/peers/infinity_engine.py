"""infinity on a merged model directory, in an environment of its own: ``infinity_engine.py DIRECTORY``."""

import asyncio
import sys
from functools import partial

import torch
from infinity_emb import AsyncEngineArray, EngineArgs

from benchmarks.classifier_data import THREADS
from benchmarks.peers.answering import answer_lines

BATCH_TEXTS = 32
LABELS = {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}


def engine(directory: str, dtype: str, loop: asyncio.AbstractEventLoop, started: list):
    """All texts at once: it sorts what waits by length and batches it."""
    array = AsyncEngineArray.from_args([
        EngineArgs(
            model_name_or_path=directory, engine="torch", device="cpu", dtype=dtype, batch_size=BATCH_TEXTS,
            bettertransformer=False, compile=False, lengths_via_tokenize=False, model_warmup=False,
        )
    ])  # fmt: skip
    running = array[0]
    loop.run_until_complete(running.astart())
    started.append(running)

    def run(texts) -> list[int]:
        answers, _ = loop.run_until_complete(running.classify(sentences=texts))
        return [LABELS[max(said, key=lambda one: one["score"])["label"]] for said in answers]

    return run


def main() -> None:
    torch.set_num_threads(THREADS)
    loop, directory, started = asyncio.new_event_loop(), sys.argv[1], []
    answer_lines({
        "infinity_fp32": partial(engine, directory, "float32", loop, started),
        "infinity_bf16": partial(engine, directory, "bfloat16", loop, started),
    })  # fmt: skip
    for running in started:
        loop.run_until_complete(running.astop())


if __name__ == "__main__":
    main()
