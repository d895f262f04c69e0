"""A peer in a virtual environment of its own: its requirements would not fit beside the product's."""

import hashlib
import subprocess
import sys
import sysconfig
from pathlib import Path

from reviewloop.local.places import cache_directory


def peer_python(name: str, *, borrow: bool = False) -> Path:
    """The interpreter of the peer with the pins in ``NAME.txt``; its environment is made where missing.

    With ``borrow`` only the pins are installed, and what they need beyond (torch, gigabytes of it) is found
    in this environment, after the peer's own.
    """
    pins = Path(__file__).with_name(f"{name}.txt")
    lender = sysconfig.get_path("purelib") if borrow else ""
    version = hashlib.sha256(pins.read_bytes() + lender.encode()).hexdigest()[:12]
    folder = cache_directory() / "peers" / f"{name}-{version}"
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        alone = ["--no-deps"] if borrow else []
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *alone, "-r", str(pins)], check=True)
        if borrow:
            _lend(lender, folder)
        ready.touch()
    return python


def _lend(lender: str, folder: Path) -> None:
    own = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    Path(own, "borrowed.pth").write_text(f"{lender}\n", encoding="utf-8")
