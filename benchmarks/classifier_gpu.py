"""RoBERTa base's shape on a CUDA device: reviews of 64 tokens a second, and how long one review takes.

Weights are random; texts are real with ``--data DIR``, else made up. Without a CUDA device it says so and
measures nothing.
"""

import json
import random
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.classifier_data import BASE, forward_operations, read
from benchmarks.figures import percentile, report, report_machine
from benchmarks.made_up import made_up_text

TOKENS = 64
TEXTS, WARM, SINGLE, REPETITIONS = 32_768, 4_096, 500, 5
BATCH_TOKENS = 65_536
MATRIX = 8_192


def main(data: Path | None) -> None:
    import torch

    if not torch.cuda.is_available():
        print(json.dumps({"figure": "classifier.gpu", "skipped": "no CUDA device: not measured"}), flush=True)
        return
    report_machine()
    print(json.dumps({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}), flush=True)
    texts = reviews(data)
    with TemporaryDirectory() as folder:
        throughput(contenders(Path(folder)), texts)


def reviews(data: Path | None) -> list[str]:
    """So many texts of 64 tokens, no two alike."""
    from benchmarks.review_lengths import of_lengths, report_lengths

    random_ = random.Random(1)
    source = (
        [made_up_text(random_, random_.randint(100, 500)) for _ in range(TEXTS)]
        if data is None
        else [row["text"] for row in read(data, "clothing_stream")]
    )
    texts = of_lengths(source, [TOKENS] * TEXTS, BASE)
    report_lengths("classifier.gpu", texts, BASE)
    return texts


def contenders(folder: Path):
    """Name to what is timed: the packed engine, the general one in fp16, pipelines on the same weights."""
    from benchmarks.contenders import merged, pipeline, timed
    from benchmarks.roberta_shape import make
    from classifier.interface import load
    from classifier.settings import ClassifierSettings

    base, adapter = make(folder)

    def ours(**settings):
        chosen = ClassifierSettings(device="cuda", cache_texts=0, batch_tokens=BATCH_TOKENS, **settings)
        return load(base, adapter, chosen)

    packed = ours(engine="packed", precision="bf16")
    return packed, {
        "packed": timed(packed.predict),
        "general_fp16": timed(ours(engine="general", precision="fp16").predict),
        "pipeline_32": pipeline(merged(base, adapter).cuda(), Path(base), "cuda"),
        "pipeline_256_fp16": pipeline(merged(base, adapter).half().cuda(), Path(base), "cuda", 256),
    }


def throughput(found, texts) -> None:
    """Speeds in turns, the share of the matrix rate, and single reviews one after another."""
    import torch

    from benchmarks.contenders import compare
    from benchmarks.roberta_shape import HIDDEN, LAYERS, WIDE

    packed, ways = found
    ways["packed"](texts[:WARM])
    compare("classifier.gpu", texts, ways, REPETITIONS)
    encoded = packed.encode(texts)
    operations = forward_operations(encoded.lengths, HIDDEN, WIDE, LAYERS)
    rates, forward, whole = [], [], []
    for _ in range(REPETITIONS):
        rates.append(matrix_rate(torch))
        seconds = elapsed(torch, lambda: packed.logits(encoded))
        forward.append(operations / seconds / rates[-1])
        whole.append(operations / elapsed(torch, lambda: packed.predict(texts)) / rates[-1])
    report("classifier.gpu.bf16_matrix_rate", [rate / 1e12 for rate in rates], "Top/s")
    report("classifier.gpu.share_of_matrix_rate", forward, "share")
    report("classifier.gpu.share_of_matrix_rate_with_tokenising", whole, "share")
    for text in texts[:50]:
        packed.predict([text])
    single = [elapsed(torch, lambda text=text: packed.predict([text])) * 1000 for text in texts[:SINGLE]]
    report("classifier.gpu.one_review", single, "ms")
    report("classifier.gpu.one_review_p99", [percentile(single, 0.99)], "ms")


def elapsed(torch, run) -> float:
    torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def matrix_rate(torch) -> float:
    """Operations per second of the device in large bf16 products."""
    left = torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.bfloat16)
    right = torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.bfloat16)
    for _ in range(3):
        left @ right
    rounds = 30
    return rounds * 2 * MATRIX**3 / elapsed(torch, lambda: [left @ right for _ in range(rounds)])
