"""Formats of records: bytes to plain Python values, by the schemas of a file or of a schema registry."""
