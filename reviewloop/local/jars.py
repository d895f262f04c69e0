"""Apache Kafka's jars: pinned by sha256, fetched once per user by jgo, checked before every use."""

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

from reviewloop.local.errors import StackError, not_installed
from reviewloop.local.places import cache_directory

KAFKA_VERSION = "4.1.1"
_DOWNLOADS_AT_ONCE = 8
_TIMEOUT_SECONDS = 30
_ATTEMPTS = 3


@dataclass(frozen=True)
class Jar:
    """One pinned jar.

    Attributes:
        group: Maven's group id.
        name: Maven's artifact id.
        version: Its version.
        sha256: Of the file, in hexadecimal.
    """

    group: str
    name: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The file's name in every Maven repository, and in the cache."""
        return f"{self.name}-{self.version}.jar"


def pinned_jars() -> list[Jar]:
    """Every jar that the broker needs, in the order of the class path."""
    text = resources.files("reviewloop.local").joinpath("jars.txt").read_text(encoding="utf-8")
    lines = [re.split(r"[:\s]", line) for line in text.splitlines() if line and not line.startswith("#")]
    return [Jar(*fields) for fields in lines]


def kafka_jars(say: Callable[[str], None]) -> list[Path]:
    """The jars of Apache Kafka in the user's cache, each with the pinned content.

    Missing and damaged ones are fetched again.

    Args:
        say: Told about a download before it starts.

    Raises:
        StackError: A jar cannot be had: no network, a full disk, other content than pinned.
    """
    jars = pinned_jars()
    folder = cache_directory() / f"kafka-{KAFKA_VERSION}"
    missing = [jar for jar in jars if not is_intact(folder / jar.file_name, jar)]
    if missing:
        say(f"Fetching Apache Kafka {KAFKA_VERSION} into {folder}: {len(missing)} of {len(jars)} files, once")
        fetch(missing, folder)
    return [folder / jar.file_name for jar in jars]


def is_intact(path: Path, jar: Jar) -> bool:
    """Whether `path` holds exactly the pinned content of `jar`."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def fetch(jars: Sequence[Jar], folder: Path) -> None:
    """Put `jars` into `folder`, each at once and only when its content is as pinned.

    Raises:
        StackError: One of them cannot be had.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # In the cache, so that the last step is a rename; a new one, so that two commands can fetch at once.
        with tempfile.TemporaryDirectory(dir=folder, prefix="fetching-") as scratch:
            download = _downloader(Path(scratch))
            with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
                for jar, path in zip(jars, pool.map(download, jars), strict=True):
                    path.replace(folder / jar.file_name)
    except OSError as err:
        reason = "the disk is full" if err.errno == errno.ENOSPC else err.strerror or str(err)
        raise StackError(f"Apache Kafka's files cannot be written to {folder}: {reason}.") from err


def _downloader(scratch: Path) -> Callable[[Jar], Path]:
    """A function that downloads one jar below `scratch`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the packages that jgo imports
            from jgo.config import GlobalSettings
            from jgo.maven import MavenContext
    except ImportError as err:
        raise not_installed("jgo") from err
    logging.getLogger("jgo").setLevel(logging.CRITICAL)  # failures are reported here, in one sentence
    settings = GlobalSettings.load()

    def download(jar: Jar) -> Path:
        # No transitive resolution: the pins are the whole list. A mirror in jgo's configuration comes first,
        # and files of an existing local Maven repository are used (and checked) before any download.
        context = MavenContext(
            repo_cache=scratch,
            local_repos=[settings.repo_cache],
            remote_repos={**settings.repositories, **MavenContext().remote_repos},
            timeout=_TIMEOUT_SECONDS,
        )
        artifact = context.project(jar.group, jar.name).at_version(jar.version).artifact()
        return _attempt(jar, scratch, artifact.resolve)

    return download


def _attempt(jar: Jar, scratch: Path, resolve: Callable[[], Path]) -> Path:
    """The checked file that `resolve` yields, below `scratch`; tried again when the network fails."""
    from requests import RequestException  # what jgo downloads with

    problem: Exception | None = None
    for _ in range(_ATTEMPTS):
        try:
            path = _own_copy(resolve(), scratch)
        except (RequestException, RuntimeError) as err:  # jgo: not found anywhere, or its checksum differs
            problem = err
            continue
        if is_intact(path, jar):
            return path
        path.unlink()
        problem = None
    if problem is None:
        raise StackError(
            f"{jar.file_name} was fetched with other content than pinned (sha256 {jar.sha256[:12]}…): "
            "a proxy or mirror changes files, or the local Maven repository is damaged."
        )
    raise StackError(
        f"{jar.file_name} could not be fetched from the Maven repository ({type(problem).__name__}): "
        f"the first start needs the network once, for Apache Kafka {KAFKA_VERSION} (44 MB). "
        "Behind a proxy set HTTPS_PROXY; a mirror goes under [repositories] in the configuration of jgo."
    ) from problem


def _own_copy(path: Path, scratch: Path) -> Path:
    """`path`, copied below `scratch` when it belongs to a local Maven repository."""
    if path.is_relative_to(scratch):
        return path
    return Path(shutil.copy(path, scratch / path.name))
