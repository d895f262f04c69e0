"""Simulation of the learning loop on labelled reviews, to compare selection strategies."""
