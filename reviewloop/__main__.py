"""``python -m reviewloop``."""

from reviewloop.cli import main

if __name__ == "__main__":
    main()
