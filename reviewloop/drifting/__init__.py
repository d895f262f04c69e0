"""Drift from stored rows to people: reports, their page, and the watch."""
