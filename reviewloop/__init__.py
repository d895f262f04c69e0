"""Command line, settings, wiring, local stack and demo: the only package that knows all the others."""

DEBUG_VARIABLE = "REVIEWLOOP_DEBUG"
"""Set by ``--debug``, through the environment, so that worker processes inherit it."""
