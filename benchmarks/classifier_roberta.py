"""The packed engine beside the pipeline and other engines in the shape of roberta-base, on the CPU."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.classifier_data import BASE, THREADS, read, report_clock
from benchmarks.contenders import compare, merged, packed_formats, pipeline
from benchmarks.figures import report_machine
from benchmarks.peers.processes import open_peers
from benchmarks.review_lengths import long_tail, of_lengths, report_lengths
from benchmarks.roberta_shape import make

TEXTS = 32  # a full batch of the pipeline; more would cost minutes and say the same


def main(data: Path | None) -> None:
    clothing = [row["text"] for row in read(data, "clothing_stream", 10 * TEXTS)]
    torch.set_num_threads(THREADS)
    report_machine()
    report_clock()
    kinds = {
        "short": [row["text"] for row in read(data, "movies_stream", TEXTS)],
        "reviews": clothing[:TEXTS],
        "reviews_long_tail": of_lengths(clothing, long_tail(TEXTS), BASE),
    }
    with TemporaryDirectory() as folder:
        base, adapter = make(Path(folder))
        model = merged(base, adapter)
        with open_peers(model, clothing[:2]) as peers:
            contenders = {
                "pipeline_32": pipeline(model, Path(base)),
                **packed_formats(Path(folder, "formats"), base, adapter, device="cpu"),
                **peers,
            }
            race(kinds, contenders)


def race(kinds, contenders) -> None:
    for kind, texts in kinds.items():
        report_lengths(f"classifier.roberta_base_shape.{kind}", texts, BASE)
        # The shape has no held-out texts, so that int8 is not chosen by itself.
        compare(f"classifier.roberta_base_shape.{kind}", texts, contenders, champion="packed_int8")
