"""Drift reports: made of stored rows, put into words, shown as a page, and raised by a watch."""
