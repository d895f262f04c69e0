"""A peer in a virtual environment of its own: its requirements would not fit beside the product's."""

import hashlib
import subprocess
import sys
import sysconfig
from pathlib import Path

from filelock import FileLock

from reviewloop.local.places import cache_directory


def peer_python(name: str, *, borrow: bool = False) -> Path:
    """The interpreter of the peer with the pins in ``NAME.txt``; its environment is made where missing.

    With ``borrow`` only the pins are installed, and what they need beyond (torch, gigabytes of it) is found
    in this environment, after the peer's own.
    """
    lender = sysconfig.get_path("purelib") if borrow else ""
    return make_environment(Path(__file__).with_name(f"{name}.txt"), lender, alone=borrow)


def environment_folder(pins: Path, lender: str = "") -> Path:
    """Where the environment of some pins is, or will be."""
    version = hashlib.sha256(pins.read_bytes() + lender.encode()).hexdigest()[:12]
    return cache_directory() / "peers" / f"{pins.stem}-{version}"


def is_ready(folder: Path) -> bool:
    """Whether an environment was made to its end."""
    return (folder / "ready").exists()


def make_environment(pins: Path, lender: str = "", *, alone: bool = False) -> Path:
    """The interpreter of an environment with these pins, which is made where it is missing.

    Args:
        pins: A file of requirements.
        lender: A folder of packages that are found after the environment's own; empty: none.
        alone: Install the pins without what they need.
    """
    folder = environment_folder(pins, lender)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):  # another process may want the same one
        if not is_ready(folder):
            _make(folder, pins, lender, alone=alone)
    return folder / "bin" / "python"


def _make(folder: Path, pins: Path, lender: str, *, alone: bool) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    options = ["--no-deps"] if alone else []
    install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", *options, "-r", pins]
    subprocess.run(install, check=True)
    if lender:
        _lend(lender, folder)
    (folder / "ready").touch()


def _lend(lender: str, folder: Path) -> None:
    own = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    Path(own, "borrowed.pth").write_text(f"{lender}\n", encoding="utf-8")
