"""Drift reports: computed from stored rows, and written by the drift watch."""
