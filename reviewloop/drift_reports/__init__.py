"""Drift reports: computed from stored rows, worded, rendered as a page, and written by the drift watch."""
