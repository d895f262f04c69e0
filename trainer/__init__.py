"""Labelled reviews in, adapters out."""
