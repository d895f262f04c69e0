"""Adapters as files: read with care, verified, put together, kept under their hash. Imports no torch."""
