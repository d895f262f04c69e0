"""Settings of the classifier: base model, device, number format, batching."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
LongTexts = Literal["truncate", "head_tail", "windows"]


class ClassifierSettings(BaseModel):
    """The section ``classifier``; frozen, and handed in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_model: str = Field(
        "roberta-base",
        min_length=1,
        description="A Hugging Face id, a directory, or package:NAME/PATH for weights in a Python package.",
    )
    base_revision: str | None = Field(
        None, description="Revision of a Hugging Face id; unset, the pinned one for roberta-base, else main."
    )
    task: str = Field("sentiment", min_length=1, max_length=64, description="The task of the adapter.")
    device: str = Field("auto", description="auto (CUDA, then MPS, then CPU), cpu, mps, cuda or cuda:N.")
    precision: Precision = Field(
        "auto",
        description="auto (the fastest that is measured here and agrees with fp32 on the adapter's held-out "
        "texts), fp32, bf16, fp16 or int8.",
    )
    engine: Literal["auto", "packed", "general"] = Field(
        "auto",
        description="auto takes the packed engine where it is exact (BERT, RoBERTa), else the general one.",
    )
    adapters: Literal["merged", "shared"] = Field(
        "merged",
        description="merged: fastest, a copy of the layers per task; shared: one base for all tasks, whose "
        "lowest layers are computed once if no adapter changes them (trainer.adapted_layers).",
    )
    max_length_tokens: int = Field(
        512, ge=8, description="Input length of the model; at most its number of positions."
    )
    long_texts: LongTexts = Field(
        "windows",
        description="Longer texts: truncate (keep the start), head_tail (both ends) or windows (all).",
    )
    window_overlap_tokens: NonNegativeInt = Field(64, description="Tokens that neighbouring windows share.")
    max_windows: PositiveInt = Field(
        8, description="Maximum number of windows of one text; the rest of the text is cut."
    )
    batch_tokens: PositiveInt = Field(
        8192, description="Tokens in one forward pass, padding included: more is faster until memory is full."
    )
    cache_texts: NonNegativeInt = Field(
        10_000, description="Number of distinct texts whose predictions are cached; 0: no cache."
    )
    number_formats: Path | None = Field(
        None,
        description="Directory that remembers what was measured and decided about number formats; unset, the "
        "user's cache. Without a directory, as in Python, auto does not choose int8.",
    )
    threads: PositiveInt | None = Field(
        None, description="CPU threads for the model, process-wide; unset, PyTorch decides."
    )
