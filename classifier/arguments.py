"""Checks the arguments of the Python interface before anything is loaded or scored.

Each function returns what it was given in one form, and raises :class:`reviews.errors.WrongUse` with what was
given instead: never its content, which may be a person's text.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from classifier.settings import ClassifierSettings
from reviews.errors import WrongUse
from reviews.fields import is_visible

_SHOWN_CHARACTERS = 40


def checked_texts(texts: Iterable[str]) -> list[str]:
    """The texts of a list, each with something to see; a single text's letters are none."""
    refuse_single(texts)
    return list(checked_one_by_one(texts))


def checked_one_by_one(texts: Iterable[str]) -> Iterator[str]:
    """The texts of a stream; each is looked at when it is taken."""
    return (checked_text(text, f"texts[{number}]") for number, text in enumerate(texts))


def checked_text(text: object, name: str = "text") -> str:
    """One text with something to see: of a blank one, a classifier would have to make up a label."""
    if not isinstance(text, str):
        raise WrongUse(f"{name} is {_kind(text)}, not a str; hand over the text itself.")
    if not any(map(is_visible, text)):
        raise WrongUse(
            f"{name} is blank ({text[:_SHOWN_CHARACTERS]!r}): nothing can be said of it; leave it out."
        )
    return text


def refuse_single(texts: object) -> None:
    """Refuse a value that is not a collection of texts, above all a single text."""
    if isinstance(texts, str | bytes | Mapping) or not isinstance(texts, Iterable):
        raise WrongUse(f"texts is {_kind(texts)}; hand over a list of texts, or [text] for one.")


def as_directory(value: object, name: str) -> Path:
    """A path from a str or a Path."""
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise WrongUse(f"{name} is {_kind(value)}; hand over the directory's path, as a str or a Path.")
    return Path(value)


def as_base_model(value: object) -> str:
    """The name of a base model, or the path of its directory, as a str."""
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise WrongUse(
            f"base_model is {_kind(value)}; hand over a Hugging Face id, a directory's path, or "
            "package:NAME/PATH."
        )
    return str(value)


def as_settings(value: object) -> ClassifierSettings:
    """The settings; the defaults for None."""
    if value is None:
        return ClassifierSettings()
    if not isinstance(value, ClassifierSettings):
        raise WrongUse(f"settings is {_kind(value)}; hand over ClassifierSettings(device=…), or None.")
    return value


def as_task(value: object) -> str:
    """The name of a task."""
    if not isinstance(value, str) or not value:
        raise WrongUse(f"task is {_kind(value)}; hand over the task's name, as a str.")
    return value


def positive(value: object, name: str) -> int:
    """A whole number from 1 on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise WrongUse(f"{name} is {value!r}; it must be a whole number from 1 on.")
    return value


def _kind(value: object) -> str:
    if value is None:
        return "None"
    return "an empty str" if value == "" else f"of the type {type(value).__name__}"
