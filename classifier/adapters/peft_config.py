"""Checks peft's configuration of an adapter, because it decides what peft imports, matches and allocates.

Peft takes some settings for regular expressions and matches them with the name of every layer. A pattern that
is made for it keeps such a match busy for ever, and no other thread of the process runs meanwhile. So a
pattern is read here first, and its ways to match one name are counted.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from reviews.errors import AdapterError

METHODS = ("LORA", "IA3")
"""Peft's names of what is fitted here, and added into the base's weights; DoRA and rsLoRA are LORA to it."""

# Peft matches these as whole patterns where they are strings, and by the ends of names where they are lists.
_PATTERNS = ("target_modules", "exclude_modules", "feedforward_modules")
# Peft puts these into patterns of its own, which have room for one wildcard of theirs and not for more.
_PATTERN_KEYS = ("rank_pattern", "alpha_pattern")
# And these too, though they are meant as names.
_NAMES = (*_PATTERNS, "modules_to_save", "layers_pattern", "target_parameters")
_NAME = re.compile(r"[\w\-]+(\.[\w\-]+)*")
_MAX_NAMES = 10_000

_MAX_PATTERN_CHARACTERS = 1_000
_MAX_WAYS = 1_000_000
_WAYS_OF_A_REPEAT = 100  # about as many characters as the name of a layer has
_DOUBT = 2  # of 100 places for a repeat few fit; of two branches that may fit, both do
_MAX_GROUPS = 50
_TOKEN = re.compile(
    r"(?P<any>\.|\\d|\[0-9\]|\[\\d\])|(?P<literal>[\w\-]|\\[.\-_])|(?P<group>\((?:\?:)?)|[)|]"
)
_REPEAT = re.compile(r"[*+?]\??")
_WHERE = "which peft matches with every layer's name"


def refuse_foreign_code(config: Mapping[str, Any], where: str) -> None:
    """Peft imports the module that ``megatron_core`` names: a configuration must not choose what runs.

    Raises:
        AdapterError: If it does.
    """
    if config.get("megatron_config"):
        raise AdapterError(f"{where} asks for Megatron's layers, which this classifier does not run.")


def check_config(config: Mapping[str, Any], where: str) -> None:
    """Refuse what this classifier does not run, and patterns that could be matched without an end.

    Args:
        config: The content of ``adapter_config.json``.
        where: Its name, for the error.

    Raises:
        AdapterError: Saying which setting is wrong.
    """
    kind = config.get("peft_type")
    if kind not in METHODS:
        raise AdapterError(
            f"{where} has the peft type {kind}, which this classifier does not run: fit the adapter with one "
            f"of {', '.join(METHODS)}."
        )
    task_type = config.get("task_type")
    if task_type not in (None, "SEQ_CLS"):
        raise AdapterError(
            f"{where} has the task type {task_type}; this classifier runs adapters for sequence "
            "classification: fit it with SEQ_CLS."
        )
    if config.get("layer_replication"):
        raise AdapterError(f"{where} repeats the base's layers (layer_replication), which is not run here.")
    ways = 0
    for name in _NAMES:
        ways += _check_setting(name, config.get(name), where)
    for name in _PATTERN_KEYS:
        keys = config.get(name) or {}
        if not isinstance(keys, dict):
            raise AdapterError(f"{where}: {name} must be an object; fetch the adapter again.")
        ways += sum(_WAYS_OF_A_REPEAT * _ways_of(key, name, where) for key in keys)
    if ways > 2 * _MAX_WAYS:
        raise AdapterError(f"{where} holds too many patterns, {_WHERE}; name the modules one by one.")


def _check_setting(name: str, value: object, where: str) -> int:
    """The ways of a setting that is a pattern; 0 of one that holds names, once they are names."""
    if value is None:
        return 0
    if isinstance(value, str):
        return _ways_of(value, name, where) if name in _PATTERNS else _require_names([value], name, where)
    if not isinstance(value, list):
        raise AdapterError(f"{where}: {name} must be a string or a list; fetch the adapter again.")
    return _require_names(value, name, where)


def _require_names(values: list[Any], name: str, where: str) -> int:
    if len(values) > _MAX_NAMES:
        raise AdapterError(f"{where}: {name} lists {len(values):,} names; at most {_MAX_NAMES:,} are read.")
    for value in values:
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise AdapterError(
                f"{where}: {name} holds {str(value)[:60]!r}, which is not a module's name; list plain names."
            )
    return 0


def _ways_of(pattern: str, name: str, where: str) -> int:
    """In how many ways a name of usual length may be matched, at the most.

    Raises:
        AdapterError: If the pattern holds what peft's usual ones do not, or there are too many ways.
    """
    try:
        return _Pattern(pattern).ways
    except ValueError as err:
        raise AdapterError(
            f"{where}: {name} is the pattern {pattern[:60]!r}, {_WHERE}, and it is refused: {err}; list the "
            "modules' names instead."
        ) from err


class _Pattern:
    """Reads one pattern: names, ``|``, ``.``, ``*``, ``+``, ``?``, digits and groups, as peft's usual ones.

    Attributes:
        ways: In how many ways it may match one name: what a repeat, an optional part or an ambiguous choice
            multiplies, and a choice between literal names does not.

    Raises:
        ValueError: If there are too many ways, or saying what else it holds.
    """

    def __init__(self, pattern: str) -> None:
        if len(pattern) > _MAX_PATTERN_CHARACTERS:
            raise ValueError(f"it has {len(pattern):,} characters, more than {_MAX_PATTERN_CHARACTERS:,}")
        if pattern.count("(") > _MAX_GROUPS:
            raise ValueError(f"it has more than {_MAX_GROUPS} groups")
        self._rest = pattern.removeprefix("^").removesuffix("$")
        self._at = 0
        self.ways = self._choice()
        if self._at < len(self._rest):
            raise ValueError(f"a bracket is closed at {self._at} that was not opened")
        if self.ways > _MAX_WAYS:
            raise ValueError("it repeats in so many places that matching may take for ever")

    def _choice(self) -> int:
        """The ways of branches between bars; one, where all are literal and at most one can match."""
        branches = [self._branch()]
        while self._rest[self._at : self._at + 1] == "|":
            self._at += 1
            branches.append(self._branch())
        literals = [literal for _, literal in branches if literal is not None]
        if len(literals) < len(branches):
            return (_DOUBT if len(branches) > 1 else 1) * sum(ways for ways, _ in branches)
        return 1 if _are_prefix_free(literals) else _DOUBT * len(literals)

    def _branch(self) -> tuple[int, str | None]:
        """The ways of parts one after another, and the text where all are literal characters."""
        ways = 1
        text: str | None = ""
        while self._at < len(self._rest) and self._rest[self._at] not in "|)":
            its_ways, character = self._part()
            ways *= its_ways
            text = None if text is None or character is None else text + character
        return ways, text

    def _part(self) -> tuple[int, str | None]:
        """The ways of one character or group with what repeats it; the character where it is one."""
        found = _TOKEN.match(self._rest, self._at)
        if found is None:
            raise ValueError(f"{self._rest[self._at : self._at + 10]!r} is not among names, '|', '.' and '*'")
        self._at = found.end()
        ways, is_group = 1, found["group"] is not None
        if is_group:
            ways = self._choice()
            if self._rest[self._at : self._at + 1] != ")":
                raise ValueError("a bracket is not closed")
            self._at += 1
        repeat = _REPEAT.match(self._rest, self._at)
        if repeat is None:
            return ways, found["literal"]
        self._at = repeat.end()
        if repeat[0].startswith("?"):
            return 2 * _DOUBT * ways, None
        if is_group:
            raise ValueError("it repeats a group")
        return _WAYS_OF_A_REPEAT, None


def _are_prefix_free(literals: Iterable[str]) -> bool:
    """Whether at most one of them matches at one place."""
    ordered = sorted(literals)
    return not any(after.startswith(before) for before, after in pairwise(ordered))
