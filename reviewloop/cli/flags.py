"""Flags that may be written with dashes or with underscores."""

from typing import Any


def _dashed(token: str) -> str:
    return token.replace("_", "-")


# `--train_file` is `--train-file`: scripts around Hugging Face write underscores. Help shows dashes.
EITHER: dict[str, Any] = {"token_normalize_func": _dashed}
