"""``peft_config.json``: a recipe in peft's own words."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reviews.errors import WrongUse

FILE = "peft_config.json"
_METHODS = {"LORA": "lora", "IA3": "ia3"}


class PeftFile(BaseModel):
    """What of peft's configuration a recipe takes; anything else is refused rather than ignored."""

    model_config = ConfigDict(extra="forbid", strict=True)

    peft_type: str = "LORA"
    task_type: str = "SEQ_CLS"
    base_model_name_or_path: str | None = None
    r: int | None = Field(None, gt=0)
    lora_alpha: float | None = Field(None, gt=0)
    lora_dropout: float | None = Field(None, ge=0, lt=1)
    target_modules: list[str] | None = None
    use_rslora: bool = False
    use_dora: bool = False
    bias: str = "none"
    inference_mode: bool = False


def read_peft_file(path: Path) -> dict[str, Any]:
    """The settings of the section ``trainer`` that the file asks for.

    Plain LoRA says nothing of the method: LoRA+ has the same matrices and is a setting.

    Args:
        path: JSON with ``r``, ``lora_alpha``, ``lora_dropout``, ``target_modules``, ``task_type: SEQ_CLS``.

    Raises:
        WrongUse: If it cannot be read, or asks for what a review classifier is not.
    """
    config = _parsed(path)
    if config.task_type != "SEQ_CLS":
        raise WrongUse(f"{path} has the task type {config.task_type}; reviews are classified: SEQ_CLS.")
    if config.peft_type not in _METHODS or config.bias != "none":
        raise WrongUse(f"{path}: peft_type must be LORA or IA3, and bias 'none'.")
    method = _METHODS[config.peft_type]
    if method == "lora" and config.use_rslora and config.use_dora:
        raise WrongUse(f"{path} asks for use_rslora and use_dora together; choose one.")
    if method == "lora":
        method = "rslora" if config.use_rslora else "dora" if config.use_dora else method
    found = {
        "peft_method": None if method == "lora" else method,
        "lora_r": config.r,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": tuple(config.target_modules) if config.target_modules else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _parsed(path: Path) -> PeftFile:
    try:
        return PeftFile.model_validate_json(path.read_bytes())
    except FileNotFoundError as err:
        raise WrongUse(f"There is no file {path}.") from err
    except OSError as err:
        raise WrongUse(f"{path} cannot be read: {err.strerror or err}.") from err
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"])) or "the file"
        raise WrongUse(f"{path} is no peft configuration for reviews: {name}: {first['msg']}.") from err


def peft_file(method: str, recipe: dict[str, Any]) -> str:
    """The content of a ``peft_config.json`` for a new project.

    Args:
        method: Any but ``none``.
        recipe: ``r``, ``lora_alpha``, ``lora_dropout`` and ``target_modules``.
    """
    # Peft has no word for LoRA+, which is LoRA to it: the settings file says so.
    kind: dict[str, Any] = {"peft_type": "IA3" if method == "ia3" else "LORA", "task_type": "SEQ_CLS"}
    if method in ("rslora", "dora"):
        kind[f"use_{method}"] = True
    if method == "ia3":
        recipe = {"target_modules": recipe["target_modules"]}
    return json.dumps(kind | recipe, indent=2) + "\n"
