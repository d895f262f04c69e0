"""The stream's tables: offsets, reviews, labels and dead letters, written in one transaction."""
