"""Files from Maven repositories, such as Kafka's jars: pinned by sha256, fetched once per user by jgo."""

import errno
import hashlib
import logging
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from reviewloop.local.places import StackError, cache_directory, not_installed

if TYPE_CHECKING:
    from jgo.maven import Artifact

KAFKA_VERSION = "4.1.1"
_DOWNLOADS_AT_ONCE = 8
_TIMEOUT_SECONDS = 15
_ATTEMPTS = 3


@dataclass(frozen=True)
class Jar:
    """One pinned file, a jar as a rule.

    Attributes:
        group: Maven's id of the group.
        name: Maven's id of the artifact.
        version: Its version.
        sha256: The file's SHA-256 in hexadecimal digits.
        classifier: Tells the files of one artifact apart; empty for its main file.
        packaging: The end of the file's name.
    """

    group: str
    name: str
    version: str
    sha256: str
    classifier: str = ""
    packaging: str = "jar"

    @property
    def file_name(self) -> str:
        """The file's name in every Maven repository, and in the cache."""
        return "-".join(filter(None, (self.name, self.version, self.classifier))) + f".{self.packaging}"


def pinned_jars() -> list[Jar]:
    """Every jar that the broker needs, in the order of the class path."""
    text = resources.files("reviewloop.local").joinpath("jars.txt").read_text(encoding="utf-8")
    lines = [re.split(r"[:\s]", line) for line in text.splitlines() if line and not line.startswith("#")]
    return [Jar(*fields) for fields in lines]


def kafka_jars(say: Callable[[str], None]) -> list[Path]:
    """The jars of Apache Kafka in the user's cache; missing and damaged ones are fetched.

    Raises:
        StackError: A jar cannot be fetched: no network, a full disk, other content than pinned.
    """
    jars = pinned_jars()
    folder = cache_directory() / f"kafka-{KAFKA_VERSION}"
    missing = [jar for jar in jars if not is_intact(folder / jar.file_name, jar)]
    if missing:
        say(f"Fetching Apache Kafka {KAFKA_VERSION} into {folder}: {len(missing)} of {len(jars)} files, once")
        fetch(missing, folder, f"Apache Kafka {KAFKA_VERSION} (44 MB)")
    return [folder / jar.file_name for jar in jars]


def is_intact(path: Path, jar: Jar) -> bool:
    """Whether `path` holds exactly the pinned content of `jar`."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def fetch(jars: Sequence[Jar], folder: Path, product: str) -> None:
    """Put `jars` into `folder`, each by one rename and only when its content is as pinned.

    Args:
        jars: What to fetch.
        folder: Where it goes.
        product: What it belongs to, and its size, for messages.

    Raises:
        StackError: A jar cannot be fetched or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A folder of its own for each command, inside the cache, so that the last step is a rename.
        with tempfile.TemporaryDirectory(dir=folder, prefix="fetching-") as scratch:
            download = _downloader(Path(scratch), product)
            with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
                for jar, path in zip(jars, pool.map(download, jars), strict=True):
                    path.replace(folder / jar.file_name)
    except OSError as err:
        reason = "the disk is full" if err.errno == errno.ENOSPC else err.strerror or str(err)
        raise StackError(f"The files of {product} cannot be written to {folder}: {reason}.") from err


def _downloader(scratch: Path, product: str) -> Callable[[Jar], Path]:
    """A function that puts a jar below `scratch`, from a local Maven repository or by download.

    Nothing is resolved transitively: the pins are the whole list. Mirrors in jgo's configuration come first.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the packages that jgo imports
            from jgo.config import GlobalSettings
            from jgo.maven import MavenContext
    except ImportError as err:
        raise not_installed("jgo") from err
    logging.getLogger("jgo").setLevel(logging.CRITICAL)  # failures are reported here, in one sentence
    settings = GlobalSettings.load()
    mirrors = {**settings.repositories, **MavenContext().remote_repos}
    context = MavenContext(repo_cache=scratch, remote_repos=mirrors, timeout=_TIMEOUT_SECONDS)

    def obtain(jar: Jar) -> Path:
        component = context.project(jar.group, jar.name).at_version(jar.version)
        local = settings.repo_cache / component.path_prefix / jar.file_name
        if is_intact(local, jar):
            return Path(shutil.copy(local, scratch))
        return _download(jar, component.artifact(jar.classifier, jar.packaging), product)

    return obtain


def _download(jar: Jar, artifact: "Artifact", product: str) -> Path:
    """The file of `artifact`, downloaded and checked; tried again when the network fails.

    Raises:
        StackError: It cannot be fetched, or differs from what is pinned.
    """
    from requests import RequestException  # jgo downloads with it

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            path = Path(artifact.resolve())
        except (RequestException, RuntimeError) as err:  # jgo: not found anywhere, or its checksum differs
            artifact.cached_path.unlink(missing_ok=True)  # jgo would use the partial file
            if attempt == _ATTEMPTS:
                raise StackError(
                    f"{jar.file_name} could not be fetched from the Maven repository ({type(err).__name__}): "
                    f"the first start needs the network once, for {product}. "
                    "Behind a proxy set HTTPS_PROXY; mirrors go under [repositories] in jgo's configuration."
                ) from err
        else:
            if is_intact(path, jar):
                return path
            break
    raise StackError(
        f"{jar.file_name} came with other content than the pinned one (sha256 {jar.sha256[:12]}…): "
        "a proxy or a mirror changes files on the way."
    )
