"""Drift reports in words and as pages, for the command as for the console."""
