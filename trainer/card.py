"""The card of an adapter: what it is, from what, how good, for people."""

from collections.abc import Mapping
from typing import Any


def card(fields: Mapping[str, Any], note: str = "") -> str:
    """Markdown that describes an adapter; ``{version}`` is filled in when its hash is known.

    Args:
        fields: The manifest's fields.
        note: A paragraph of the maker's own: the command, where the data come from.
    """
    metrics = "\n".join(f"| {name} | {value:.4f} |" for name, value in fields["metrics"].items())
    recipe = "\n".join(f"| {name} | {value} |" for name, value in fields["training"]["recipe"].items())
    rows = ", ".join(f"{count:,} {split}" for split, count in fields["training"]["rows"].items())
    return f"""# {{version}}

A LoRA adapter for the task `{fields["task"]}`: {", ".join(f"`{label}`" for label in fields["labels"])}.

- Base model: `{fields["base_model"]}` (weights sha256 `{fields["base_sha256"]}`)
- Rows: {rows}; epoch {fields["training"]["epoch_kept"]} kept
- Temperature: {fields["temperature"]:.4f}, fitted on the validation rows

{note or "Made by `reviewloop train`."}

| metric | value |
|---|---|
{metrics}

| recipe | |
|---|---|
{recipe}
"""
