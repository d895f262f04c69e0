"""Adapter files: reading, verification, assembly, storage by content hash. Imports no torch."""
