"""A peer in a virtual environment of its own: its requirements would not fit beside the product's."""

import hashlib
import subprocess
import sys
from pathlib import Path

from reviewloop.local.places import cache_directory


def peer_python(name: str) -> Path:
    """The interpreter of the peer with the pins in ``NAME.txt``; its environment is made where missing."""
    pins = Path(__file__).with_name(f"{name}.txt")
    version = hashlib.sha256(pins.read_bytes()).hexdigest()[:12]
    folder = cache_directory() / "peers" / f"{name}-{version}"
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", str(pins)], check=True)
        ready.touch()
    return python
