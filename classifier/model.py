"""Loads a base model and merges an adapter's matrices into it.

Neither transformers nor peft minds what is missing: the first draws weights at random that no file brings,
the second leaves out tensors that match nothing. Here every tensor of the adapter has to find its place, and
every weight that the answer depends on has to come from a file.
"""

import re
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from classifier.adapters.manifest import AdapterManifest, Pooling, refuse_other_problems
from classifier.base_model import BaseModel, quiet_transformers
from reviews.errors import AdapterError, ModelError

_SHOWN_NAMES = 4
_COMPILED = "_orig_mod."
_DOWN = re.compile(r"\.lora_A\.|\.lora_embedding_A$")  # (rank, width)


def load_base(base: BaseModel, num_labels: int, pooling: Pooling = "first") -> Any:
    """The base with a classification head of that many labels, in fp32 on the CPU.

    Weights that are in no file are drawn at random, for example the head; the model's attribute
    ``missing_weights`` names them.

    Args:
        base: Whose files are on this machine.
        num_labels: How many labels the head has.
        pooling: What the head reads: ``first``, as the architecture has it; ``mean``, a linear layer.

    Raises:
        ModelError: If transformers has no sequence classifier of that architecture, or the files do not fit.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    try:
        with quiet_transformers():
            model, found = AutoModelForSequenceClassification.from_pretrained(
                base.directory,
                num_labels=num_labels,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # a head of another size is replaced by the adapter's
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, ImportError, KeyError) as err:
        reason = (str(err).splitlines() or [err.__class__.__name__])[0]
        raise ModelError(f"The base model {base.name} cannot be loaded: {reason}") from err
    mismatched = {key if isinstance(key, str) else key[0] for key in found["mismatched_keys"]}
    model.missing_weights = frozenset(found["missing_keys"]) | mismatched
    words = model.get_input_embeddings().weight
    if any(value is words and name in model.missing_weights for name, value in model.named_parameters()):
        raise ModelError(
            f"The weights of {base.name} are of another model than its config.json says: not even its "
            "embeddings of words are there; fetch it again."
        )
    if pooling == "mean":
        from classifier.engine.pooling import read_mean

        read_mean(model)
    return model.eval()


def check_base(base: BaseModel, manifest: AdapterManifest) -> None:
    """Refuse a base that is not the one the adapter was fitted on.

    Raises:
        AdapterError: If the weights differ; or if the adapter says nothing of itself, and the base is no
            classifier of one label each.
    """
    if not manifest.has_manifest:
        refuse_other_problems(base.config.get("problem_type"), f"{base.directory}/config.json")
    if manifest.base_sha256 is not None and manifest.base_sha256 != base.weights_sha256:
        raise AdapterError(
            f"Adapter {manifest.version} was fitted on {manifest.base_model}, whose weights differ from "
            f"those of {base.name}; set classifier.base_model to that base."
        )


def merge(model: Any, directory: Path, manifest: AdapterManifest) -> Any:
    """The model with the adapter's weights added into its own and the adapter's head in place.

    Raises:
        AdapterError: If the adapter does not fit the model.
    """
    adapted = attach(model, directory, manifest)
    try:
        return adapted.merge_and_unload(safe_merge=True).eval()
    except Exception as err:
        reason = (str(err).splitlines() or [err.__class__.__name__])[0]
        raise AdapterError(f"Adapter {manifest.version} cannot be merged: {reason}") from err


def attach(model: Any, directory: Path, manifest: AdapterManifest) -> Any:
    """The model as peft adapts it: the adapter's layers beside the base's, nothing added together.

    Raises:
        AdapterError: If the adapter does not fit the model, or neither of them brings a weight that the
            answer depends on.
    """
    return put_into(model, directory, f"Adapter {manifest.version}").eval()


def put_into(
    model: Any, directory: Path, name: str, *, trainable: bool = False, dropout: float | None = None
) -> Any:
    """The model with an adapter's layers and weights.

    Args:
        model: As :func:`load_base` gives it.
        directory: The adapter.
        name: What to call it in an error.
        trainable: Whether its weights are to be fitted further.
        dropout: LoRA's, in place of the adapter's own; None leaves it.

    Raises:
        AdapterError: As :func:`attach`.
    """
    from peft import PeftConfig, get_peft_model, get_peft_model_state_dict
    from peft.utils import load_peft_weights, set_peft_model_state_dict

    orphans = {key: value for key, value in model.named_parameters() if key in model.missing_weights}
    try:
        # What peft warns of is decided here: a tensor has its place, or the adapter is refused.
        with quiet_transformers(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = PeftConfig.from_pretrained(str(directory))
            config.inference_mode = not trainable
            if dropout is not None and hasattr(config, "lora_dropout"):
                config.lora_dropout = dropout
            mapping = getattr(model, "_checkpoint_conversion_mapping", None)
            tensors = load_peft_weights(str(directory), device="cpu", key_mapping=mapping)
            _check_numbers(tensors, config, name)
            adapted = get_peft_model(model, config)
            # The tensors of this adapter as they would be saved: names and shapes to compare with.
            places = get_peft_model_state_dict(adapted, save_embedding_layers=False)
            _check_shapes(places, tensors, name)
            mismatch = _difference(tensors.keys() - places.keys(), places.keys() - tensors.keys())
            try:
                result = set_peft_model_state_dict(adapted, tensors)
            except KeyError as err:  # a module that was to be saved whole is not there
                raise AdapterError(f"{name} does not fit its base model: {mismatch or err}.") from err
    except AdapterError:
        raise
    except Exception as err:  # peft raises whatever a strange configuration makes it do
        reason = (str(err).splitlines() or [err.__class__.__name__])[0]
        raise AdapterError(f"{name} does not fit its base model: {reason}") from err
    added = [key for key in result.missing_keys if adapted.base_model.prefix in key]
    if result.unexpected_keys or added:
        reason = mismatch or _difference(result.unexpected_keys, added)
        raise AdapterError(f"{name} does not fit its base model: {reason}.")
    _refuse_random_weights(adapted, orphans, name)
    return adapted


def head_modules(model: Any) -> list[str]:
    """The modules that read what the body of a model makes of a text, in the model's order.

    They are what the model has beside its body, by whatever name (``classifier``, ``score``,
    ``classification_head``, ``logits_proj`` …), and what the body ends with where no file brings it: BERT's
    pooler, of a base that was trained on words alone.

    Args:
        model: A sequence classifier, as :func:`classifier.model.load_base` gives it.

    Raises:
        ModelError: If the base lacks weights of its own layers.
    """
    beside = [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and next(module.parameters(), None) is not None
    ]
    prefix = f"{model.base_model_prefix}."
    orphans = {
        name: value
        for name, value in model.named_parameters()
        if name in model.missing_weights and name.startswith(prefix)
    }
    ends = dict.fromkeys(
        name.removeprefix(prefix).partition(".")[0] for name in weights_of_answers(model, orphans)
    )
    for end in ends:
        own = {name for name, _ in model.named_parameters() if name.startswith(f"{prefix}{end}.")}
        if not own <= model.missing_weights:
            lost = sorted(own & model.missing_weights)
            raise ModelError(f"The base model lacks {lost[0]}, a weight of its own layers; fetch it again.")
    return beside + list(ends)


def weights_of_answers(model: Any, weights: Mapping[str, Any]) -> list[str]:
    """Which of some weights the logits are computed from: those that have a gradient.

    Args:
        model: A sequence classifier, peft's wrapper around it or not.
        weights: Parameters of the model by name.
    """
    import torch

    if not weights:
        return []
    fitted = [(value, value.requires_grad) for value in model.parameters()]
    model.requires_grad_(requires_grad=False)
    for value in weights.values():
        value.requires_grad_(requires_grad=True)
    with torch.enable_grad():
        logits = model(input_ids=_short_row(model.config)).logits
    found: tuple[Any, ...] = (None,) * len(weights)
    if logits.requires_grad:
        found = torch.autograd.grad(logits.sum(), list(weights.values()), allow_unused=True)
    for value, was_fitted in fitted:
        value.requires_grad_(requires_grad=was_fitted)
    return [name for name, gradient in zip(weights, found, strict=True) if gradient is not None]


def _check_numbers(tensors: Mapping[str, Any], config: Any, name: str) -> None:
    """Refuse values that are not finite, and a rank that would allocate far more than the file holds."""
    for key, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.float().isfinite().all():
            raise AdapterError(f"{name} holds {key}, whose values are not all finite numbers.")
    downs = {key: tensor for key, tensor in tensors.items() if _DOWN.search(key)}
    if downs and config.r > max(tensor.shape[0] for tensor in downs.values()):
        key, tensor = next(iter(downs.items()))
        raise AdapterError(
            f"{name} says rank {config.r:,} and holds no matrix of it: {key} has the shape "
            f"{tuple(tensor.shape)}, not {(config.r, *tensor.shape[1:])}; fetch the adapter again."
        )


def _check_shapes(places: Mapping[str, Any], tensors: Mapping[str, Any], name: str) -> None:
    for key, wanted in places.items():
        if key in tensors and tuple(tensors[key].shape) != tuple(wanted.shape):
            raise AdapterError(
                f"{name} does not fit its base model: {key} has the shape {tuple(tensors[key].shape)}, and "
                f"the model with this configuration has {tuple(wanted.shape)} there."
            )


def _difference(foreign: Collection[str], absent: Collection[str]) -> str:
    """What does not meet, by name; empty where everything does."""
    parts = [f"it has no place for {_some(foreign)}"] if foreign else []
    parts += [f"the adapter lacks {_some(absent)}"] if absent else []
    if any(_COMPILED in key for key in foreign):
        parts.append(
            f"save the model beneath torch.compile, whose tensors have no {_COMPILED} in their names"
        )
    return "; ".join(parts)


def _some(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    ordered = sorted(names)
    more = len(ordered) - _SHOWN_NAMES
    return ", ".join(ordered[:_SHOWN_NAMES]) + (f" and {more:,} more" if more > 0 else "")


def _refuse_random_weights(adapted: Any, orphans: Mapping[str, Any], name: str) -> None:
    """Refuse a model whose answer depends on weights that were drawn at random.

    Args:
        adapted: A peft model.
        orphans: Weights that no file of the base brings, by name.
        name: What to call the adapter in an error.
    """
    from peft.utils import ModulesToSaveWrapper

    replaced = {
        id(value)
        for module in adapted.modules()
        if isinstance(module, ModulesToSaveWrapper)
        for value in module.original_module.parameters()
    }
    doubtful = {key: value for key, value in orphans.items() if id(value) not in replaced}
    if needed := weights_of_answers(adapted, doubtful):
        raise AdapterError(
            f"{name} and its base model both lack {_some(needed)}, on which the answers depend: they would "
            "differ at each load. Fit it with these modules in modules_to_save."
        )


def _short_row(config: Any) -> Any:
    """int64 (1, 4): a row that any model reads; the last id ends a text, where there is such an id."""
    import torch

    text = config.get_text_config()
    word = next(number for number in range(3) if number not in (text.pad_token_id, text.eos_token_id))
    end = text.eos_token_id if isinstance(text.eos_token_id, int) else word
    return torch.tensor([[word, word, word, end]])
