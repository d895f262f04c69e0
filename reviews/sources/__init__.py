"""Sources: topics of any shape, and what of their records becomes a review."""
