"""The learning loop replayed on labelled reviews: what each way to choose is worth in labels."""
