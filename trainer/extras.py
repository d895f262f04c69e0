"""Packages that only training needs: missed before anything is computed, not after."""

from importlib.util import find_spec

from reviews.errors import WrongUse

_NAMES = {"matplotlib": "Matplotlib", "sklearn": "scikit-learn"}


def require(*packages: str) -> None:
    """Refuse to begin what could not be finished.

    Args:
        packages: Names as they are imported.

    Raises:
        WrongUse: If one is not installed.
    """
    missing = [_NAMES.get(package, package) for package in packages if find_spec(package) is None]
    if missing:
        raise WrongUse(f"This needs {' and '.join(missing)}: install reviewloop[train].")
