"""``python -m tests.environments``: makes the environments that are missing."""

import sys
import time

from reviewloop.terminal import say
from tests.environments import NAMES, make


def main() -> None:
    for name in sys.argv[1:] or NAMES:
        began = time.monotonic()
        folder = make(name)
        say(f"{name}: {folder} ({time.monotonic() - began:.0f} s)")


if __name__ == "__main__":
    main()
