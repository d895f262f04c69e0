"""``python -m benchmarks [--data DIR] [NAME…]``: the named benchmarks, or all, one after the other."""

import argparse
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import structlog

_KINDS = (
    *("audit_", "classifier_", "drift_", "export", "faults_", "gate_", "path_", "selection_"),
    *("training_", "tree_", "unlabelled_", "zero_"),
)


def main() -> None:
    folder = Path(__file__).parent
    names = [item.name for item in iter_modules([str(folder)]) if item.name.startswith(_KINDS)]
    known = sorted(set(names) - {"classifier_data"})  # what the others read
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--data", type=_folder, default=None, help="folder with review files, for some")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(known)}")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - set(known)):
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are: {', '.join(known)}")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # figures alone go to stdout
    for name in asked.names or known:
        import_module(f"benchmarks.{name}").main(asked.data)


def _folder(value: str) -> Path | None:
    """An empty value is none: ``make bench`` without DATA."""
    return Path(value) if value else None


if __name__ == "__main__":
    main()
