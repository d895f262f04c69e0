"""Whether an adapter can lie beside a base that others use: it must leave the base's own numbers alone."""

from typing import Any

from classifier.engine.encoder import Unsupported

_HEAD_MODULES = {"classifier", "pooler", "score"}


def check_shareable(adapted: Any) -> None:
    """Refuse an adapter that changes more than low-rank updates and its own head.

    Args:
        adapted: A peft model with one adapter.

    Raises:
        Unsupported: Saying what it changes.
    """
    (config,) = adapted.peft_config.values()
    kind = getattr(config.peft_type, "value", config.peft_type)
    if kind != "LORA":
        raise Unsupported(f"{kind} adapters are merged, not shared")
    if config.bias != "none":
        raise Unsupported("the adapter changes the base's biases")
    if config.use_dora or getattr(config, "lora_bias", False):
        raise Unsupported("the adapter is more than plain LoRA")
    if getattr(config, "trainable_token_indices", None) or getattr(config, "layer_replication", None):
        raise Unsupported("the adapter changes the base's embeddings or layers")
    others = set(config.modules_to_save or ()) - _HEAD_MODULES
    if others:
        raise Unsupported(f"the adapter replaces {', '.join(sorted(others))} of the base")
