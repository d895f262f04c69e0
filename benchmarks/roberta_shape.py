"""Random weights in RoBERTa base's shape, for speed alone; the tokeniser is MiniLM's, which is at hand."""

import shutil
from pathlib import Path

import torch

from benchmarks.classifier_data import BASE
from benchmarks.peers.processes import TOKENISER_FILES
from classifier.base_model import locate, quiet_transformers
from classifier.model import load_base

HIDDEN, WIDE, LAYERS = 768, 3072, 12


def make(folder: Path) -> tuple[str, Path]:
    """The base's directory and a LoRA adapter's; fewer words than RoBERTa's, which costs nothing."""
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import RobertaConfig, RobertaModel

    base, adapter = folder / "base", folder / "adapter"
    torch.manual_seed(0)
    with quiet_transformers():
        shape = RobertaConfig(
            vocab_size=30522, pad_token_id=0, type_vocab_size=1, max_position_embeddings=514
        )
        RobertaModel(shape).save_pretrained(base)
        for file in TOKENISER_FILES:
            shutil.copy(locate(BASE).directory / file, base)
        config = LoraConfig(task_type=TaskType.SEQ_CLS, r=8, target_modules=["query", "value"])
        get_peft_model(load_base(locate(str(base)), 3), config).save_pretrained(adapter)
    return str(base), adapter
