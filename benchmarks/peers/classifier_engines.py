"""ONNX Runtime and OpenVINO on the same merged model, in an environment of their own."""

import sys
import tempfile
import warnings
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from benchmarks.classifier_data import BASE, THREADS
from benchmarks.peers.answering import answer_lines
from classifier.engine.batching import padded_batches

BUDGET_TOKENS = 2048


@lru_cache
def tokeniser():
    from classifier.base_model import locate
    from classifier.tokenise import load_tokeniser

    return load_tokeniser(locate(BASE), 512)


@lru_cache
def merged():
    """The model in the folder that this process was started with."""
    from transformers import AutoModelForSequenceClassification

    return (
        AutoModelForSequenceClassification.from_pretrained(sys.argv[1], attn_implementation="eager")
        .eval()
        .requires_grad_(False)
    )


@lru_cache
def exported(folder: str) -> Path:
    import torch

    warnings.simplefilter("ignore")
    model = merged()

    class Logits(torch.nn.Module):
        def forward(self, input_ids, attention_mask):
            return model(input_ids=input_ids, attention_mask=attention_mask).logits

    example = torch.ones(2, 8, dtype=torch.long)
    axes = {name: {0: "texts", 1: "tokens"} for name in ("input_ids", "attention_mask")}
    path = Path(folder, "model.onnx")
    torch.onnx.export(
        Logits(), (example, example), path, input_names=list(axes), output_names=["logits"],
        dynamic_axes=axes, opset_version=17, dynamo=False,
    )  # fmt: skip
    return path


def fused(folder: str) -> Path:
    """The graph with attention, GELU and normalisation fused, as ONNX Runtime advises for transformers."""
    from onnxruntime.transformers import optimizer

    path = Path(folder, "fused.onnx")
    shape = merged().config
    model = optimizer.optimize_model(
        str(exported(folder)), model_type="bert", num_heads=shape.num_attention_heads,
        hidden_size=shape.hidden_size,
    )  # fmt: skip
    model.save_model_to_file(str(path))
    return path


def onnx_int8(folder: str):
    import onnxruntime
    from onnx import TensorProto
    from onnxruntime.quantization import quantize_dynamic

    small = Path(folder, "int8.onnx")
    quantize_dynamic(fused(folder), small, extra_options={"DefaultTensorType": TensorProto.FLOAT})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(small), options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


def openvino_bf16(folder: str):
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": THREADS}
    compiled = openvino.Core().compile_model(str(exported(folder)), "CPU", settings)
    return lambda ids, mask: compiled({"input_ids": ids, "attention_mask": mask})["logits"]


def run(forward, texts) -> list[int]:
    """Sorted by length, within a budget: what each engine is best at."""
    encoded = tokeniser().encode(texts)
    logits = np.empty((len(texts), 3), np.float32)
    for batch in padded_batches(encoded.lengths, BUDGET_TOKENS):
        rows = [encoded.row(int(index)) for index in batch]
        ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        mask = np.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)], mask[place, : len(row)] = row, 1
        logits[batch] = forward(ids, mask)
    return logits.argmax(1).tolist()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        answer_lines({
            "onnxruntime_int8": lambda: partial(run, onnx_int8(folder)),
            "openvino_bf16": lambda: partial(run, openvino_bf16(folder)),
        })  # fmt: skip


if __name__ == "__main__":
    main()
