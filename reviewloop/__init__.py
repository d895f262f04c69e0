"""Command line, settings, wiring, local stack and demo: the only package that knows all the others."""
