"""Benchmarks: each a module that prints its figures as JSON lines."""
