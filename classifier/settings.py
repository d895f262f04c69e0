"""How the classifier is set up: which base model, where and how precisely it runs, how it batches."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

Precision = Literal["auto", "fp32", "bf16", "fp16"]


class ClassifierSettings(BaseModel):
    """The section ``classifier``; frozen, and handed to whoever needs it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_model: str = Field(
        "roberta-base",
        min_length=1,
        description="A Hugging Face id, a directory, or package:NAME/PATH for weights in a Python package.",
    )
    base_revision: str | None = Field(
        None, description="Revision of a Hugging Face id; unset, the pinned one for roberta-base, else main."
    )
    task: str = Field("sentiment", min_length=1, max_length=64, description="The task whose adapter serves.")
    device: str = Field("auto", description="auto (CUDA, then MPS, then CPU), cpu, mps, cuda or cuda:N.")
    precision: Precision = Field(
        "auto", description="auto (bf16 where the hardware computes it fast, else fp32), fp32, bf16 or fp16."
    )
    max_length_tokens: int = Field(
        512, ge=8, description="Longer texts are cut; never more than the base model itself can read."
    )
    batch_tokens: PositiveInt = Field(
        4096, description="Tokens in one forward pass, padding included: more is faster until memory ends."
    )
    threads: PositiveInt | None = Field(
        None, description="CPU threads for the model, process-wide; unset, PyTorch decides."
    )
