"""Wiring: the only place where settings become objects."""
